"""The learning curves of gpen-compact, a line for every attempt.

    python -m gpen_engine.compact.curves [FOLDER]

In: `FOLDER/runs/*.csv`, as `gpen_engine.compact.train` logs them; FOLDER is docs/compact unless
given. Out: `FOLDER/curves.png`: what PSNR and SSIM gained over the input, by how many faces were
seen. Exit code 2 when nothing can be drawn.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    for place, (name, title, wanted) in enumerate(_WANTED, 1):
        axes = figure.add_subplot(1, len(_WANTED), place)
        _draw_gains(axes, runs, name)
        axes.axhline(wanted, color="black", linestyle=":", label=f"wanted: {wanted}")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("faces seen")
        axes.legend(fontsize=7)
    target = folder / "curves.png"
    figure.savefig(target, metadata={"Software": None})
    return target


def _draw_gains(axes: Axes, runs: list[Run], name: str) -> None:
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.axhline(0.0, color="#c9c9c9")
    for run in runs:
        axes.plot(run.samples, run.gains[name], marker=".", label=run.name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and draw; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/compact"))
    try:
        draw(parser.parse_args(arguments).folder)
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201 - as argparse says what is wrong
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
