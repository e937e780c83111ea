"""`run SRC DST` in a process of its own, with the stub for a worker."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from functools import partial

from producer import local
from producer.cli import main

if __name__ == "__main__":
    stub = (sys.executable, str(Path(__file__).with_name("stub_worker.py")))
    local.run = partial(local.run, worker_command=stub)
    main(["run", *sys.argv[1:]])
