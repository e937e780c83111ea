"""`python -m benchmarks.queue [NAME...] [--json FILE]`: what the queue costs, what it keeps busy.

In: which measurements; all where none is named. Out: a table of what was measured beside what is
wanted, and the numbers. Each is taken in one run, on real services on loopback with their data kept
safe; PostgreSQL, Valkey and SeaweedFS run on the same cores.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.queue import lanes, overhead, overlap, workers
from benchmarks.queue.site import Site, site

_MEASURES = {
    "overhead": overhead.measure,
    "overlap": overlap.measure,
    "workers": workers.measure,
    "lanes": lanes.measure,
}
_WANTED = {
    "folder_queue_ms": "at most 8",
    "s3_queue_ms": "at most 8",
    "overlap": "at least 0.9",
    "scaling": "at least 0.9",
    "unequal": "at most 1.15",
}


def main() -> None:
    """Measure, print the table, keep the numbers beside what an earlier run left."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description="The queue.")
    parser.add_argument("names", nargs="*", choices=[[], *_MEASURES], metavar="NAME")
    parser.add_argument("--json", type=Path, dest="target")
    asked = parser.parse_args()
    kept = json.loads(asked.target.read_text()) if asked.target and asked.target.exists() else {}
    numbers: dict[str, Any] = {"cores": os.cpu_count()}
    for name in asked.names or _MEASURES:
        numbers[name] = with_load(_MEASURES[name])
        print(table(name, numbers[name]), flush=True)
    if asked.target:
        asked.target.write_text(json.dumps(kept | numbers, indent=2) + "\n")


def with_load(measure: Callable[[Site], dict[str, float]]) -> dict[str, float]:
    """Measure on a new site; return the numbers, and the machine's load before and after."""
    before = os.getloadavg()[0]
    with site() as place:
        numbers = measure(place)
    return {"load_before": before, **numbers, "load_after": os.getloadavg()[0]}


def table(name: str, numbers: dict[str, float]) -> str:
    """Return the numbers of one measurement as text, a line each."""
    lines = [f"== {name}"]
    for each, value in numbers.items():
        lines.append(f"{each:32}{value:12,.2f}  {_WANTED.get(each, '')}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    main()
