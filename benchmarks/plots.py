"""The pictures in docs/benchmarks.md, drawn from the numbers that the benchmarks left.

    python -m benchmarks.plots [FOLDER]

In: `forward.json`, `activations.json`, `soak.json`. Out: PNG files beside them. What isn't there
isn't drawn.
"""

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_RATIO_LIMIT = 1.35
_MEMORY_LIMIT_MB = {"fp32": 500, "fp16": 260, "bf16": 260}


def draw(folder: Path) -> None:
    """Draw whatever there are numbers for."""
    pictures = (("forward", forward), ("activations", activations), ("soak", soak))
    for name, picture in pictures:
        numbers = folder / f"{name}.json"
        if numbers.is_file():
            figure = Figure(figsize=(7, 2.6), dpi=120, layout="tight")
            picture(figure.subplots(), json.loads(numbers.read_text()))
            figure.savefig(folder / f"{name}.png", metadata={"Software": None})


def forward(axes: Any, rows: list[dict[str, Any]]) -> None:  # noqa: ANN401 - matplotlib's
    """Draw what a face takes: its 3x3 convolutions, and everything else."""
    labels = [f"{row['size']} px, {row['device']}, {row['precision']}" for row in rows]
    alone = [1e3 * row["convolutions"]["minimum_s"] for row in rows]
    whole = [1e3 * row["forward"]["minimum_s"] for row in rows]
    axes.barh(labels, [1.0] * len(rows), color="#5b7a99", label="3x3 convolutions")
    rest = [row["ratio"] - 1 for row in rows]
    axes.barh(labels, rest, left=1.0, color="#d08c60", label="all the rest")
    axes.axvline(_RATIO_LIMIT, color="black", linestyle=":", label=f"limit {_RATIO_LIMIT}")
    for index, row in enumerate(rows):
        text = f"{row['ratio']:.2f}   ({alone[index]:.0f} of {whole[index]:.0f} ms)"
        axes.text(0.03, index, text, va="center", color="white", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("time of a face / time of its 3x3 convolutions")
    axes.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)


def activations(axes: Any, rows: list[dict[str, Any]]) -> None:  # noqa: ANN401 - matplotlib's
    """Draw what a face takes above the weights: counted, measured, and stated at most."""
    labels = [f"{row['size']} px, {row['device']}, {row['precision']}" for row in rows]
    for shift, (kind, colour) in enumerate(
        (("counted", "#5b7a99"), ("measured", "#d08c60"), ("stated", "#c9c9c9"))
    ):
        places = [index + (shift - 1) * 0.26 for index in range(len(rows))]
        axes.barh(places, [row[kind] / 1e6 for row in rows], 0.24, color=colour, label=kind)
    for index, row in enumerate(rows):
        if row["size"] == 512:
            limit = _MEMORY_LIMIT_MB[row["precision"]]
            axes.plot([limit, limit], [index - 0.4, index + 0.4], color="black", linestyle=":")
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("MB above the weights, one face (dotted: the limit)")
    axes.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)


def soak(axes: Any, numbers: dict[str, Any]) -> None:  # noqa: ANN401 - matplotlib's
    """Draw what a worker held of memory while photo after photo went through it."""
    finished, worker_mib, all_mib = zip(*numbers["looks"], strict=True)
    axes.plot(finished, all_mib, color="#d08c60", linewidth=0.8, label="with its decoders")
    axes.plot(finished, worker_mib, color="#5b7a99", linewidth=0.8, label="the worker alone")
    for name in ("worker_mib", "all_mib"):
        axes.axhline(numbers[name][1], color="black", linestyle=":", linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("photos finished (dotted: the mean of the second hundred)")
    axes.set_ylabel("MiB resident")
    axes.legend(fontsize=7, loc="lower right", ncols=2, frameon=False)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/benchmarks"))
