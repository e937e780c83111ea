"""Training faces: aligned crops on disk -> pairs of damaged and true faces.

In: a folder with `MANIFEST.csv` and JPEG crops, each aligned to GPEN's five-point template and
stored 1.25 times wider than the network's view. Out: `(input, target, valid, resolved)` tensors.
The split is by person, decided by a hash of the person's name, so that it is the same on every
machine and no person is on both sides.

The manifest has a row for each crop. It needs three columns; `origins` reads two more:

    file            its path below the folder, COLLECTION/NAME, as in london/n_001.jpg
    inner_px        side of the network's view, which is the middle of the stored crop
    photo_corners   the photograph's corners in crop pixels, x0 y0 x1 y1 x2 y2 x3 y3: outside them
                    the crop was mirrored
    source_file     optional: the file as it was published
    licence         optional: its licence and author
"""

import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from gpen_engine.compact.degrade import draw

Split = Literal["train", "validation"]
Read = TypeVar("Read")
_MANIFEST = "MANIFEST.csv"
_COLUMNS = ("file", "inner_px", "photo_corners")
_VALIDATION_BUCKETS = 6
"""Of 100, into which the 256 values of a byte fall unevenly: 18 values, 7 % of the people. Another
split would score the shipped network on people it was trained on."""


class ManifestError(ValueError):
    """The manifest isn't as this module describes it, or has no crops of the part asked for."""


@dataclass(frozen=True, slots=True)
class Crop:
    """One aligned face on disk.

    Attributes:
        path: the JPEG file.
        source: the collection it comes from, which is its folder's name.
        inner_px: side of the network's view, centred in the stored crop.
        corners: the photograph's corners in crop pixels; outside them the crop was mirrored.
    """

    path: Path
    source: str
    inner_px: int
    corners: NDArray[np.float32]


def load_crops(root: Path, split: Split | None) -> list[Crop]:
    """Read the manifest and return one side of the split, None for both, in the manifest's order.

    Raises:
        FileNotFoundError: there is no manifest.
        ManifestError: it isn't as described above, or has no crops of this side.
    """

    def read(row: dict[str, str]) -> Crop | None:
        return _crop(root, row) if split in (None, _side(row["file"])) else None

    crops = [crop for crop in read_manifest(root, _COLUMNS, read) if crop]
    if not crops:
        part = f" of the {split} part" if split else ""
        raise ManifestError(f"{root / _MANIFEST} has no crops{part}")
    return crops


def read_manifest(
    root: Path, columns: Sequence[str], read: Callable[[dict[str, str]], Read]
) -> list[Read]:
    """Return what `read` makes of each row of the manifest, in its order.

    Args:
        root: the folder of crops.
        columns: those that the manifest has to have.
        read: takes a row, a text for each column; its ValueError tells what is wrong with it.

    Raises:
        FileNotFoundError: there is no manifest.
        ManifestError: a column is missing, a row has fewer or more fields, or `read` refused it.
    """
    manifest = root / _MANIFEST
    if not manifest.is_file():
        raise FileNotFoundError(
            f"there is no {manifest}: the folder has to hold MANIFEST.csv and aligned crops, "
            f"as {__name__} describes them"
        )
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        try:
            _check_columns(columns, rows.fieldnames or ())
            return [read(_whole(row)) for row in rows]
        except (ValueError, csv.Error) as error:
            raise ManifestError(f"{manifest}, line {rows.line_num}: {error}") from error


def _check_columns(wanted: Sequence[str], found: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ValueError(f"there is no column {', '.join(missing)}")


def _whole(row: dict[str, str]) -> dict[str, str]:
    # DictReader gives what a row lacks the value None, and what it has too much the key None.
    if None in row or None in row.values():
        raise ValueError("the row has fewer or more fields than there are columns")
    return row


def _crop(root: Path, row: dict[str, str]) -> Crop:
    file, inner_px = row["file"], int(row["inner_px"])
    corners = np.array(row["photo_corners"].split(), np.float32)
    if inner_px < 1 or corners.size != 8 or not np.isfinite(corners).all():
        raise ValueError(f"{file} needs an inner_px above 0 and eight numbers in photo_corners")
    return Crop(root / file, file.split("/", 1)[0], inner_px, corners.reshape(4, 2))


def _side(file: str) -> Split:
    source, slash, name = file.partition("/")
    if not slash:
        raise ValueError(f"expected COLLECTION/NAME as the file, found {file!r}")
    # The London set has two portraits of each person: n_012.jpg (neutral) and s_012.jpg (smiling).
    person = name.split("_", 1)[-1] if source == "london" else name
    bucket = hashlib.sha256(f"{source}/{person}".encode()).digest()[0] % 100
    return "validation" if bucket < _VALIDATION_BUCKETS else "train"


def cut(
    crop: Crop, size: int, rng: np.random.Generator | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cut the network's view out of a stored crop.

    Args:
        crop: the crop.
        size: side of the result in pixels.
        rng: jitters position, size, angle and side when given.

    Returns:
        The face `(size, size, 3) uint8 RGB` and its validity `(size, size) float32 in [0, 1]`,
        which is 0 where the photograph ended and the crop was mirrored.
    """
    stored = cv2.imread(str(crop.path), cv2.IMREAD_COLOR_RGB)
    if stored is None:
        raise FileNotFoundError(f"{crop.path} is in the manifest and can't be read")
    centre = (stored.shape[1] / 2, stored.shape[0] / 2)
    angle, scale, shift = 0.0, 1.0, np.zeros(2)
    if rng is not None:
        angle = float(rng.normal(0, 3.0))
        scale = float(np.exp(rng.normal(0, 0.04)))
        shift = np.clip(rng.normal(0, 0.02, 2), -0.05, 0.05) * crop.inner_px
    matrix = cv2.getRotationMatrix2D(centre, angle, scale)
    matrix[:, 2] += np.array([crop.inner_px / 2] * 2) - np.array(centre) + shift
    window = (crop.inner_px, crop.inner_px)
    face = cv2.warpAffine(
        stored, matrix, window, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    inside = np.zeros(stored.shape[:2], np.float32)
    cv2.fillConvexPoly(inside, np.rint(crop.corners).astype(np.int32), 1.0)
    valid = cv2.warpAffine(inside, matrix, window, borderValue=0)
    face = cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA)
    valid = cv2.resize(valid, (size, size), interpolation=cv2.INTER_AREA)
    if rng is not None and rng.random() < 0.5:
        face, valid = face[:, ::-1], valid[:, ::-1]
    return np.ascontiguousarray(face, np.uint8), np.ascontiguousarray(valid, np.float32)


def to_tensor(face: NDArray[np.uint8]) -> Tensor:
    """Map `(S, S, 3) uint8 RGB` to `(3, S, S) float32 in [-1, 1]`."""
    return torch.from_numpy(face).permute(2, 0, 1).float().div_(127.5).sub_(1.0)


class TrainingFaces(IterableDataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """An endless, seeded stream of `(input, target, valid, resolved)` for one network size.

    The last is 1 where the damage left enough to tell where edges are, else 0.
    """

    def __init__(self, crops: list[Crop], *, size: int, seed: int) -> None:
        self._crops = crops
        self._size = size
        self._seed = seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield samples for ever; the order and the damage depend on the seed alone."""
        rng = np.random.default_rng(self._seed)
        while True:
            crop = self._crops[int(rng.integers(len(self._crops)))]
            face, valid = cut(crop, self._size, rng)
            face = _vary_tone(face, rng)
            damage = draw(rng)
            damaged = damage.apply(face, rng)
            resolved = torch.tensor(float(damage.resolved))
            yield to_tensor(damaged), to_tensor(face), torch.from_numpy(valid)[None], resolved


def _vary_tone(face: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Gray, toned, faded or dark photographs: the same for the input and the target."""
    picture = face.astype(np.float32)
    if rng.random() < 0.35:
        gray = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
        tone = rng.uniform(0.8, 1.0, 3) if rng.random() < 0.4 else np.ones(3)
        picture = gray[:, :, None] * np.sort(tone)[::-1].astype(np.float32)
    if rng.random() < 0.5:
        contrast, middle = rng.uniform(0.55, 1.1), rng.uniform(100, 150)
        picture = (picture - middle) * contrast + middle + rng.uniform(-25, 25)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
