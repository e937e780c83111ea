"""The photos of a run: small ones, each with its number and its nature written in its pixels.

So whoever sees only pixels, as an engine does, knows which photo it is, and a derivative that
belongs to another master is found out. The marks are blocks, which outlast a JPEG.
"""

import io
import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.errors import PhotoCrashesWorker, PhotoTruncated

_BLOCK_PX = 8
_NUMBER_BITS = 16
_WIDE, _HIGH = 20, 12  # blocks
_CONTAINERS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "jpg": {"format": "JPEG"},
    "tif": {"format": "TIFF", "compression": "tiff_lzw"},
}


class Nature(StrEnum):
    """What a photo does to whoever restores it."""

    PLAIN = "plain"
    KILLER = "killer"  # its worker dies, each time
    SLOW = "slow"  # takes longer than the broker's visibility timeout
    TORN = "torn"  # ends before the picture does


EXPECTED_CODES = {Nature.KILLER: PhotoCrashesWorker.code, Nature.TORN: PhotoTruncated.code}
"""What a photo fails with; others are delivered."""
_NATURES = list(Nature)


@dataclass(frozen=True, slots=True)
class Photo:
    """A master."""

    number: int
    nature: Nature
    key: str
    data: bytes


def make_photos(
    count: int, *, killers: int, slow: int, torn: int, draw: random.Random
) -> list[Photo]:
    """Make photos, of which so many, drawn at random, aren't plain."""
    unusual = [Nature.KILLER] * killers + [Nature.SLOW] * slow + [Nature.TORN] * torn
    natures = unusual + [Nature.PLAIN] * (count - len(unusual))
    draw.shuffle(natures)
    return [_make_photo(number, nature) for number, nature in enumerate(natures)]


def read_marks(pixels: NDArray[np.generic]) -> tuple[int, Nature]:
    """Return the number and the nature that are written in a picture.

    Args:
        pixels: `(H, W, 3) uint8`.
    """
    rows = np.asarray(pixels[-_BLOCK_PX:], dtype=float).mean(axis=(0, 2))
    blocks = rows.reshape(-1, _BLOCK_PX).mean(axis=1)
    bits = [int(block > 127) for block in blocks]
    number = sum(bit << place for place, bit in enumerate(bits[:_NUMBER_BITS]))
    nature = sum(bit << place for place, bit in enumerate(bits[_NUMBER_BITS:]))
    return number, _NATURES[nature]


def _make_photo(number: int, nature: Nature) -> Photo:
    suffix = list(_CONTAINERS)[number % len(_CONTAINERS)]
    file = io.BytesIO()
    Image.fromarray(_picture(number, nature)).save(file, **_CONTAINERS[suffix])
    data = file.getvalue()
    if nature is Nature.TORN:
        suffix, data = "jpg", _torn(number)
    return Photo(number, nature, f"box {number // 50:02}/scan {number:05}.{suffix}", data)


def _picture(number: int, nature: Nature) -> NDArray[np.uint8]:
    blocks = np.random.default_rng(number).integers(60, 200, (_HIGH, _WIDE, 3))
    picture = np.repeat(np.repeat(blocks, _BLOCK_PX, axis=0), _BLOCK_PX, axis=1)
    marks = number | _NATURES.index(nature) << _NUMBER_BITS
    bits = [marks >> place & 1 for place in range(_WIDE)]
    picture[-_BLOCK_PX:] = 255 * np.repeat(bits, _BLOCK_PX)[None, :, None]
    return picture.astype(np.uint8)


def _torn(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_picture(number, Nature.TORN)).save(file, "JPEG")
    return file.getvalue()[: file.tell() // 2]
