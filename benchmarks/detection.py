"""Which faces of a corpus are found: one row a file, against the faces that were counted by eye.

    python -m benchmarks.detection ../shared/corpus --json found.json

The corpus has a MANIFEST.csv with the columns `file` and `faces_by_eye`. Counts can't tell a false
find from one more true face: what is over has to be looked at. `--sheet` draws all finds for that.
docs/detection.md has the table of the project's corpus, with what was seen.
"""

import argparse
import csv
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import write_json
from gpen_engine.detect import Detector, load_detector
from gpen_engine.faces import Face, FacePolicy, Pixels
from gpen_engine.select import refusals
from jobs.errors import Permanent
from worker.codec import decode
from worker.codec.limits import Limits

POLICY = FacePolicy()
DOUBTFUL = 0.8
"""The engine lists finds down to this share of the policy's score."""
NETWORK_PX = 512
MAX_PIXELS = 200_000_000
_TILE_PX = 120
_TILES_ACROSS = 12


@dataclass(frozen=True, slots=True)
class Row:
    """What was found in one file.

    Attributes:
        file: its path in the corpus.
        by_eye: what the manifest says.
        wanted: the number in it; None where there is none, or no exact one.
        sure: finds with the policy's score or more.
        doubtful: finds that are listed only.
        restored: finds that the policy restores.
        megapixels: of all pages.
        took_s: seconds for finding.
    """

    file: str
    by_eye: str
    wanted: int | None
    sure: int
    doubtful: int
    restored: int
    megapixels: float
    took_s: float


def count_by_eye(text: str) -> int | None:
    """Read `27`, `1 (sideways)`, `1+1+1` or `27+4 = 31`; None for `~60`, `hundreds` and `-`."""
    plain = re.sub(r"\(.*?\)", "", text).split("=")[0].strip()
    if not re.fullmatch(r"\d+(\s*\+\s*\d+)*", plain):
        return None
    return sum(int(part) for part in plain.split("+"))


def pages(path: Path) -> list[Pixels]:
    """Return the pages that a worker looks for faces on; none where a file can't be read."""
    try:
        decoded = decode(path.read_bytes(), limits=Limits(MAX_PIXELS)).pages
    except Permanent:
        return []
    return [page.pixels for page in decoded if not page.is_bilevel]


def measure(
    detector: Detector, corpus: Path, *, rotations: bool
) -> Iterator[tuple[Row, list[tuple[Pixels, list[Face]]]]]:
    """Yield a row for each file with such pages, with them and their finds."""
    with (corpus / "MANIFEST.csv").open(encoding="utf-8", newline="") as manifest:
        entries = list(csv.DictReader(manifest))
    for entry in entries:
        pictures = pages(corpus / entry["file"])
        if not pictures:
            continue
        start = time.perf_counter()
        found = [
            detector.detect(picture, min_score=POLICY.min_score * DOUBTFUL, rotations=rotations)
            for picture in pictures
        ]
        took_s = time.perf_counter() - start
        sure = [face for faces in found for face in faces if face.score >= POLICY.min_score]
        row = Row(
            file=entry["file"],
            by_eye=entry["faces_by_eye"],
            wanted=count_by_eye(entry["faces_by_eye"]),
            sure=len(sure),
            doubtful=sum(map(len, found)) - len(sure),
            restored=sum(map(_restored, pictures, found)),
            megapixels=sum(picture.shape[0] * picture.shape[1] for picture in pictures) / 1e6,
            took_s=took_s,
        )
        yield row, list(zip(pictures, found, strict=True))


def _restored(picture: Pixels, faces: Sequence[Face]) -> int:
    reasons = refusals(faces, POLICY, shape=picture.shape, network_px=NETWORK_PX)
    return sum(reason is None for reason in reasons.values())


def totals(rows: Sequence[Row]) -> str:
    """Sum up the files that have an exact count, and the time of all."""
    exact = [(row, row.wanted) for row in rows if row.wanted is not None]
    wanted = sum(count for _, count in exact)
    found = sum(min(row.sure, count) for row, count in exact)
    surplus = sum(max(row.sure - count, 0) for row, count in exact)
    rate = sum(row.took_s for row in rows) / sum(row.megapixels for row in rows)
    return (
        f"{len(exact)} files with an exact count: {found} of {wanted} faces found, "
        f"{surplus} finds more than counted; {rate:.2f} s a megapixel over all files"
    )


def tile(picture: Pixels, face: Face, label: str) -> NDArray[np.uint8]:
    """Draw one find with its surroundings, its box and its landmarks."""
    x0, y0, x1, y1 = face.box
    side = 2.0 * max(x1 - x0, y1 - y0)
    left, top = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
    part = picture[
        max(0, round(top)) : round(top + side) + 1, max(0, round(left)) : round(left + side) + 1
    ]
    part = (part / 257).astype(np.uint8) if part.dtype == np.uint16 else part.astype(np.uint8)
    scale = _TILE_PX / side
    small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    drawn = np.zeros((_TILE_PX + 14, _TILE_PX, 3), np.uint8)
    down, across = 14 + round(max(0, -top) * scale), round(max(0, -left) * scale)
    room = drawn[down : down + small.shape[0], across : across + small.shape[1]]
    room[:] = small[: room.shape[0], : room.shape[1]]

    def place(x: float, y: float) -> tuple[int, int]:
        return round((x - left) * scale), 14 + round((y - top) * scale)

    cv2.rectangle(drawn, place(x0, y0), place(x1, y1), (0, 255, 0), 1)
    colours = [(255, 0, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)]
    for (x, y), colour in zip(face.landmarks, colours, strict=True):
        cv2.circle(drawn, place(x, y), 2, colour, -1)
    cv2.putText(drawn, label, (1, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (255, 255, 255), 1)
    return drawn


def sheet(tiles: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Put the tiles in rows."""
    blank = np.zeros_like(tiles[0])
    filled = [*tiles, *[blank] * (-len(tiles) % _TILES_ACROSS)]
    rows = [
        np.hstack(filled[start : start + _TILES_ACROSS])
        for start in range(0, len(filled), _TILES_ACROSS)
    ]
    return np.asarray(np.vstack(rows), np.uint8)


def line(row: Row) -> str:
    """Return a row of the table."""
    return (
        f"| {row.file} | {row.by_eye} | {row.sure} | {row.doubtful} | {row.restored} "
        f"| {row.took_s:.1f} |\n"
    )


def main() -> None:
    """Measure, print, and keep the numbers and the sheet where they are asked for."""
    options = argparse.ArgumentParser(description="Which faces of a corpus are found.")
    options.add_argument("corpus", type=Path, nargs="?", default=Path("../shared/corpus"))
    options.add_argument("--weights", type=Path, help="folder with facexlib's own weights")
    options.add_argument("--rotations", action="store_true")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--sheet", type=Path, help="picture of all finds, to be looked at")
    options.add_argument("--json", type=Path)
    wish = options.parse_args()
    torch.set_num_threads(wish.threads)
    detector = load_detector(torch.device("cpu"), folder=wish.weights)
    sys.stdout.write(f"{detector.identity.name}, {wish.threads} thread(s)\n\n")
    sys.stdout.write("| file | faces by eye | found ≥ 0.9 | doubtful | restored | seconds |\n")
    sys.stdout.write("| --- | --- | --- | --- | --- | --- |\n")
    rows: list[Row] = []
    tiles: list[NDArray[np.uint8]] = []
    for row, found in measure(detector, wish.corpus, rotations=wish.rotations):
        rows.append(row)
        sys.stdout.write(line(row))
        sys.stdout.flush()
        if wish.sheet:
            label = Path(row.file).name[:8]
            for picture, faces in found:
                tiles += [tile(picture, face, f"{label} {face.score:.2f}") for face in faces]
    sys.stdout.write(f"\n{totals(rows)}\n")
    if tiles:
        cv2.imwrite(str(wish.sheet), cv2.cvtColor(sheet(tiles), cv2.COLOR_RGB2BGR))
    write_json(wish.json, [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
