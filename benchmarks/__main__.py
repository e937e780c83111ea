"""All benchmarks, one after the other: `python -m benchmarks [--into FOLDER]`.

Each runs in a process of its own, so that none measures another's memory, and leaves its numbers as
JSON in the folder. `benchmarks.plots` draws them.
"""

import argparse
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.measure import write_json
from benchmarks.plots import draw

NAMES = ("forward", "activations", "precision", "paste", "photo", "tiling", "detection", "survey")


def main() -> None:
    """Run them all; one that fails doesn't stop the others, and is said."""
    parser = argparse.ArgumentParser(description="All benchmarks, one after the other.")
    parser.add_argument("names", nargs="*", default=NAMES, help="; ".join(NAMES))
    parser.add_argument("--into", type=Path, default=Path("docs/benchmarks"))
    asked = parser.parse_args()
    asked.into.mkdir(parents=True, exist_ok=True)
    write_json(asked.into / "machine.json", machine())
    failed = []
    for name in asked.names:
        print(f"== {name}", flush=True)
        target = asked.into / f"{name}.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", target]
        if subprocess.run(command, check=False).returncode:  # noqa: S603 - our own modules
            failed.append(name)
    draw(asked.into)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def machine() -> dict[str, object]:
    """Return what the numbers were measured on."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), ""
    )
    cards = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "cards": cards,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    main()
