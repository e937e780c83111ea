"""What a training tells of itself, in its folder: `plans.jsonl` and `log.csv`.

In: the plan at each start, the scores at each scoring. Out: a line in the one, a row in the other.
"""

import csv
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from gpen_engine.compact.scores import Row

COLUMNS = (
    "step", "samples", "loss", "samples_per_second", "psnr", "input_psnr", "ssim", "input_ssim",
    "gradient_energy", "identity_ratio", "moved_away",
)  # fmt: skip
"""The last three as in `criteria`: the restored faces' gradient energy as a share of the truth's,
their identity distance as a share of the damaged faces', and the share of faces moved away; the
last two are empty where the run has no recognition network."""


def note_start(run: Path, step: int, plan: Mapping[str, object]) -> None:
    """Append a line to `plans.jsonl`: the step, the plan, and which program follows it.

    Not every number is in the plan: the sha256 of each module of this package, shortened to 12
    digits, tells two starts with other constants apart.
    """
    sources = {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in sorted(Path(__file__).parent.glob("*.py"))
    }
    line = {"step": step, **plan, "version": version("gpen-archive"), "sources": sources}
    with (run / "plans.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def note_scores(run: Path, *, step: int, samples: int, loss: float, rate: float, row: Row) -> None:
    """Append a row to `log.csv`.

    A log with other columns, which an earlier version began, stays as `log-before-NNNNN.csv`.

    Args:
        run: the training's folder.
        step: how many steps it has made.
        samples: how many faces it has seen.
        loss: the mean since the last scoring.
        rate: faces a second since then.
        row: the means over the faces that are scored.
    """
    given, made = row.bicubic, row.restored
    fidelity = (made.psnr, given.psnr, made.ssim, given.ssim)
    figures = (*fidelity, made.sharpness, row.identity_ratio, row.farther)
    log = run / "log.csv"
    if log.exists() and _columns(log) != COLUMNS:
        log.replace(run / f"log-before-{step:05d}.csv")
    new = not log.exists()
    with log.open("a", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        if new:
            table.writerow(COLUMNS)
        cells = ["" if value is None else f"{value:.4f}" for value in figures]
        table.writerow([step, samples, f"{loss:.4f}", f"{rate:.1f}", *cells])


def _columns(log: Path) -> tuple[str, ...]:
    with log.open(newline="", encoding="utf-8") as file:
        return tuple(next(csv.reader(file), ()))
