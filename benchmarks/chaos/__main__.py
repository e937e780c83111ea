"""A night in which everything goes wrong: `python -m benchmarks.chaos [--photos N] [--faults N]`.

In: a number of photos, of faults, of workers, and the seed from which all is drawn. Out: what went
wrong, and whether every photo is accounted for; exit code 1 if one isn't. Root has mounts of its
own here, which end with the run; who may not mount can't fill a disk, and that fault is left out.
"""

import argparse
import json
import os
import secrets
import sys
import tempfile
from pathlib import Path

from benchmarks.chaos.night import run
from benchmarks.chaos.site import can_mount

_INSIDE = "GPEN_CHAOS_INSIDE"


def main() -> int:
    """Run one night; return the exit code."""
    parser = argparse.ArgumentParser(description="Everything goes wrong, and nothing may be lost.")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None, help="not given: a new one")
    parser.add_argument("--stub-s", type=float, default=0.1, help="what the engine takes a photo")
    parser.add_argument("--folder", type=Path, help="an empty one, which is kept with all logs")
    parser.add_argument("--json", type=Path, dest="target")
    asked = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        report = run(
            asked.folder or Path(temporary),
            photos=asked.photos,
            faults=asked.faults,
            workers=asked.workers,
            seed=seed,
            stub_s=asked.stub_s,
        )
    print(report.as_text())
    if asked.target is not None:
        asked.target.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return 0 if report.passed else 1


def have_own_mounts() -> None:
    """Become a process whose mounts nobody else sees, where that is allowed."""
    if can_mount() and _INSIDE not in os.environ:
        os.environ[_INSIDE] = "1"
        again = [sys.executable, "-m", "benchmarks.chaos", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "--mount", "--", *again])  # noqa: S606, S607 - ourselves


if __name__ == "__main__":
    have_own_mounts()
    sys.exit(main())
