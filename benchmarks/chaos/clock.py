"""A program whose wall clock is set by a file: `python -m benchmarks.chaos.clock FILE MODULE ...`.

The file holds seconds, which are added to what `time.time` says; no file, no difference. It stands
for a machine of which somebody sets the clock: the kernel's own is shared by all.
"""

import runpy
import sys
import time
from pathlib import Path


def set_clock(file: Path, offset_s: float) -> None:
    """Set the clock of every program that follows this file."""
    draft = file.with_suffix(".draft")
    draft.write_text(str(offset_s))
    draft.rename(file)


def follow(file: Path) -> None:
    """Let this process's wall clock follow the file; before anybody imports `time.time` by name."""
    true_time = time.time

    def shifted() -> float:
        try:
            return true_time() + float(file.read_text())
        except FileNotFoundError:
            return true_time()

    time.time = shifted


def main() -> None:
    """Become the module, with the file's clock."""
    file, module, *arguments = sys.argv[1:]
    follow(Path(file))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
