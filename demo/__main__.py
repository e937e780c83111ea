"""`make demo`: make sample scans, restore them by the main path, show the results.

The main path is `gpen-archive run`: a Valkey broker, a SQLite ledger, a Celery worker with one
engine, a store. No process stays behind.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from demo.contact_sheet import Delivered, contact_sheet
from demo.samples import make_samples


def main() -> int:
    """Run the demonstration; return the exit code of `gpen-archive run`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where all goes")
    folder: Path = parser.parse_args().folder
    console = Console()
    scans, restored = folder / "scans", folder / "restored"
    for earlier in (scans, restored):
        shutil.rmtree(earlier, ignore_errors=True)
    console.print(f"Making sample scans in {scans}")
    make_samples(scans)
    command = [sys.executable, "-m", "producer", "run", str(scans), str(restored)]
    console.print(f"$ gpen-archive run {scans} {restored}")
    code = subprocess.run(command, check=False).returncode  # noqa: S603 - our own command
    photos = _delivered(scans, restored)
    sheet = folder / "contact-sheet.png"
    contact_sheet(photos).save(sheet)
    for photo in photos:
        console.print(f"{photo.master} -> {photo.derivative}", soft_wrap=True, highlight=False)
    console.print(f"Every face before and after: {sheet}")
    return code


def _delivered(scans: Path, restored: Path) -> list[Delivered]:
    photos = []
    for sidecar in sorted(restored.rglob("*.restored*.json")):
        derivative = sidecar.with_suffix("")
        stem = derivative.name.split(".restored", 1)[0]
        place = scans / derivative.parent.relative_to(restored)
        photos.append(Delivered(next(place.glob(f"{stem}.*")), derivative, sidecar))
    return photos


if __name__ == "__main__":
    sys.exit(main())
