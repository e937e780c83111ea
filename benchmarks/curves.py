"""The learning curves of gpen-compact, a line for every attempt.

    python -m benchmarks.curves [FOLDER]

In: `FOLDER/runs/*.csv`, as the training program logs them; FOLDER is docs/compact unless given.
Out: `FOLDER/curves.png`: what PSNR and SSIM gained over the input, by how many faces were seen.
"""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

_WANTED = (("psnr", "PSNR, dB over the input", 1.0), ("ssim", "SSIM over the input", 0.05))


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt: the faces seen so far and the gain, by measure, at each scoring."""

    name: str
    samples: tuple[int, ...]
    gains: dict[str, tuple[float, ...]]


def read_run(path: Path) -> Run:
    """Read one log."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    gains = {
        name: tuple(float(row[name]) - float(row[f"input_{name}"]) for row in rows)
        for name, _, _ in _WANTED
    }
    return Run(path.stem, tuple(int(row["samples"]) for row in rows), gains)


def draw(folder: Path) -> Path:
    """Draw all attempts and return the picture's path.

    Raises:
        FileNotFoundError: the folder has no logs.
    """
    runs = [read_run(path) for path in sorted((folder / "runs").glob("*.csv"))]
    if not runs:
        raise FileNotFoundError(f"{folder / 'runs'} has no *.csv: the training program writes them")
    figure = Figure(figsize=(9, 3.6), dpi=120, layout="tight")
    for axes, (name, title, wanted) in zip(figure.subplots(1, 2), _WANTED, strict=True):
        _draw_gains(axes, runs, name)
        axes.axhline(wanted, color="black", linestyle=":", label=f"wanted: {wanted}")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("faces seen")
        axes.legend(fontsize=7)
    target = folder / "curves.png"
    figure.savefig(target, metadata={"Software": None})
    return target


def _draw_gains(axes: Any, runs: list[Run], name: str) -> None:  # noqa: ANN401 - matplotlib's
    # Attempts that were given up are far shorter than those that weren't.
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axhline(0.0, color="#c9c9c9")
    for run in runs:
        axes.plot(run.samples, run.gains[name], marker=".", label=run.name)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/compact"))
