"""The published GPEN pipeline, step by step: for those who want its pictures rather than ours.

In: a picture `(H, W, 3) uint8 RGB`, the faces in it, the network. Out: a new picture. Every
truncation and rounding is the published one's (docs/adr/0008 says where our own way differs, and
why). Only the place of work is ours: a face is warped onto its own region, some rows at a time, to
the very numbers that it would get within the whole picture.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpen_engine.align import Matrix, invert, similarity
from gpen_engine.errors import ImageError
from gpen_engine.faces import Face, Pixels, Region
from gpen_engine.precision import is_sound

_MASK_SIZE_PX = 512
"""Masks are made at this size, whatever the network's."""
_MASK_BORDER_PX = 26
_MASK_BLUR_PX = (101, 101)
_MASK_SIGMA_PX = 4.0
_SMALL_FACE_PX = 100
"""Faces whose box has a shorter side are smoothed a little."""
_BINOMIAL = np.outer([1, 2, 1], [1, 2, 1]) / 16
_NO_LEVEL = 1 / 1024
"""So small a share of a face moves no pixel by half a level, and none is changed by it."""
_BAND_PIXELS = 1 << 18
"""So many pixels are pasted at once."""

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Patch:
    """A restored face and where it goes: `matrix` leads from the picture into it."""

    face: Picture
    mask: NDArray[np.float32]
    matrix: Matrix
    region: Region


def working_picture(image: Pixels, background: Pixels | None) -> Picture:
    """Return the picture in which faces are looked for: the photograph, at the background's size.

    Raises:
        ImageError: one of the two isn't 8-bit RGB.
    """
    image = require_8_bit(image)
    if background is None or require_8_bit(background).shape == image.shape:
        return image
    height, width = background.shape[:2]
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def restore_compatibly(
    image: Pixels,
    faces: Sequence[Face],
    network: Callable[[Tensor], Tensor],
    *,
    size: int,
    parser: Callable[[Tensor], NDArray[np.bool_]] | None = None,
    strength: float = 1.0,
    background: Pixels | None = None,
) -> tuple[Picture, list[Region | None]]:
    """Restore faces as the published pipeline does.

    Args:
        image: `(H, W, 3) uint8 RGB`; it isn't changed.
        faces: in pixels of `working_picture(image, background)`, the most certain first: where two
            cover a pixel equally, the first has it. All are restored; the published pipeline
            hands on those with a score of 0.9 or more.
        network: `(1, 3, size, size) float32 in [-1, 1]` on the CPU -> a restored face, on any
            device. An answer that isn't sound (`precision.is_sound`) leaves the face as it was.
        size: side of an aligned face in pixels.
        parser: `(1, 3, 512, 512) float32 in [-1, 1]` -> `(1, 512, 512) bool`, what is face
            (`FaceParser.face_area`); None takes a rectangle instead.
        strength: the restored face's share; the rest is the photograph's own.
        background: the whole picture, enhanced by another network, in 8 bits; it may be larger.

    Returns:
        The picture, and for each face the region outside which it changed nothing; None where the
        network's answer was unusable.

    Raises:
        ImageError: the picture or the background isn't 8-bit RGB.
    """
    picture = working_picture(image, background)
    canvas = picture if background is None else require_8_bit(background)
    result = canvas.copy()
    patches: list[_Patch] = []
    regions: list[Region | None] = []
    for face in faces:
        patch = _restored(picture, face, network, size=size, parser=parser, strength=strength)
        regions.append(patch.region if patch else None)
        if patch is not None:
            _paste(result, canvas, patch, patches)
            patches.append(patch)
    return result, regions


def require_8_bit(image: Pixels) -> Picture:
    """Return a picture as `(H, W, 3) uint8`.

    Raises:
        ImageError: it is none.
    """
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"expected a (H, W, 3) array, found shape {image.shape}")
    if image.dtype != np.uint8:
        raise ImageError(
            f"the published pipeline is one of 8 bits, and the picture is {image.dtype}: "
            "restore it without the compatible mode, which keeps its depth"
        )
    return np.asarray(image, np.uint8)


def _restored(
    picture: Picture,
    face: Face,
    network: Callable[[Tensor], Tensor],
    *,
    size: int,
    parser: Callable[[Tensor], NDArray[np.bool_]] | None,
    strength: float,
) -> _Patch | None:
    """Cut a face out, restore it, mask it; None where the network failed."""
    matrix = similarity(face.landmarks, size)
    crop: Picture = np.asarray(cv2.warpAffine(picture, matrix, (size, size)), np.uint8)
    output = network(_to_tensor(crop))
    if not bool(is_sound(output).all()):
        return None
    after = _to_pixels(output)
    mask = _rectangle() if parser is None else _parsed_mask(after, parser)
    # The super-resolution networks answer at another size than they are asked.
    after = _resized(after, size)
    if _shorter_side_px(face) < _SMALL_FACE_PX:
        after = np.asarray(cv2.filter2D(after, -1, _BINOMIAL), np.uint8)
    mixed = np.asarray(cv2.addWeighted(after, strength, crop, 1.0 - strength, 0.0), np.uint8)
    mask = np.asarray(cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)
    return _Patch(mixed, mask, matrix, _region(mask, matrix, picture.shape))


def _to_tensor(pixels: Picture) -> Tensor:
    values = (pixels.astype(np.float32) / 255.0 - 0.5) / 0.5
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]


def _to_pixels(output: Tensor) -> Picture:
    """Return `(S, S, 3)`; what lies between two levels is the lower one, as published."""
    values = (output[0].float() * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0
    return np.ascontiguousarray(values.permute(1, 2, 0).cpu().numpy().astype(np.uint8))


def _resized(pixels: Picture, size: int) -> Picture:
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)


def _shorter_side_px(face: Face) -> float:
    x0, y0, x1, y1 = face.box
    return min(x1 - x0, y1 - y0)


def _parsed_mask(
    restored: Picture, parser: Callable[[Tensor], NDArray[np.bool_]]
) -> NDArray[np.float32]:
    """Return `(512, 512)`: the face as the restored picture shows it, away from the border."""
    area = parser(_to_tensor(_resized(restored, _MASK_SIZE_PX)))[0]
    inner = np.zeros_like(area)
    part = np.s_[_MASK_BORDER_PX:-_MASK_BORDER_PX, _MASK_BORDER_PX:-_MASK_BORDER_PX]
    inner[part] = area[part]
    return _blurred(inner)


@cache
def _rectangle() -> NDArray[np.float32]:
    """Return the `(512, 512)` mask that needs no parser: row and column 486 are part of it."""
    inner = np.zeros((_MASK_SIZE_PX, _MASK_SIZE_PX), np.bool_)
    last = _MASK_SIZE_PX - _MASK_BORDER_PX
    inner[_MASK_BORDER_PX : last + 1, _MASK_BORDER_PX : last + 1] = True
    return _blurred(inner)


def _blurred(area: NDArray[np.bool_]) -> NDArray[np.float32]:
    mask = area.astype(np.float64)
    for _ in range(2):
        mask = np.asarray(cv2.GaussianBlur(mask, _MASK_BLUR_PX, _MASK_SIGMA_PX), np.float64)
    return mask.astype(np.float32)


def _region(mask: NDArray[np.float32], matrix: Matrix, shape: tuple[int, ...]) -> Region:
    """Return the part of a picture of `shape` in which a mask counts, at least one pixel."""
    counts = mask > _NO_LEVEL
    rows, columns = np.flatnonzero(counts.any(axis=1)), np.flatnonzero(counts.any(axis=0))
    if not len(rows):
        rows = columns = np.arange(mask.shape[0])
    # A pixel between the last that counts and the next one gets a share of the last.
    left, right = columns[0] - 1, columns[-1] + 1
    upper, lower = rows[0] - 1, rows[-1] + 1
    corners = np.array(
        [[left, upper, 1], [right, upper, 1], [left, lower, 1], [right, lower, 1]], np.float64
    )
    spots = corners @ invert(matrix).T
    height, width = shape[:2]
    low, high = np.floor(spots.min(axis=0)).astype(int), np.ceil(spots.max(axis=0)).astype(int) + 1
    x0, y0 = (int(value) for value in np.clip(low, 0, (width - 1, height - 1)))
    x1, y1 = (int(value) for value in np.clip(high, (x0 + 1, y0 + 1), (width, height)))
    return x0, y0, x1, y1


def _paste(result: Picture, canvas: Picture, patch: _Patch, earlier: Sequence[_Patch]) -> None:
    """Put a face into `result` wherever its mask is larger than that of every earlier face."""
    for x0, y0, x1, y1 in _bands(patch.region):
        mask = _warped(patch.mask, patch.matrix, (x0, y0, x1, y1))
        strongest = np.zeros_like(mask)
        for other in earlier:
            shared = _intersection(other.region, (x0, y0, x1, y1))
            if shared is not None:
                part = np.s_[shared[1] - y0 : shared[3] - y0, shared[0] - x0 : shared[2] - x0]
                rival = _warped(other.mask, other.matrix, shared)
                strongest[part] = np.maximum(strongest[part], rival)
        wins = mask > strongest
        if wins.any():
            share = mask[:, :, None]
            face = _warped(patch.face, patch.matrix, (x0, y0, x1, y1))
            blend = cv2.convertScaleAbs(canvas[y0:y1, x0:x1] * (1.0 - share) + face * share)
            result[y0:y1, x0:x1][wins] = np.asarray(blend)[wins]


def _bands(region: Region) -> Iterator[Region]:
    """Cut a region into parts of so few rows that their float arrays stay small."""
    x0, y0, x1, y1 = region
    rows = max(1, _BAND_PIXELS // (x1 - x0))
    for top in range(y0, y1, rows):
        yield x0, top, x1, min(top + rows, y1)


def _intersection(one: Region, other: Region) -> Region | None:
    x0, y0 = max(one[0], other[0]), max(one[1], other[1])
    x1, y1 = min(one[2], other[2]), min(one[3], other[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _warped(
    source: Picture | NDArray[np.float32], matrix: Matrix, region: Region
) -> NDArray[np.float32]:
    """Return a region of what warping `source` onto the whole picture would give.

    `matrix` leads from the picture into `source`. The coordinates are computed in float32 with a
    fused multiplication and addition, as OpenCV's `warpAffine` does it, which gives the same
    pixels to the last bit. With a matrix that is merely shifted to the region, its coordinates
    would be rounded otherwise, and one pixel in two hundred would be a level off.
    """
    x0, y0, x1, y1 = region
    across = np.arange(x0, x1, dtype=np.float64)[None, :]
    down = np.arange(y0, y1, dtype=np.float32)[:, None]
    maps = []
    for along_x, along_y, shift in matrix.astype(np.float32):
        start = (along_y * down + shift).astype(np.float64)
        maps.append((np.float64(along_x) * across + start).astype(np.float32))
    return np.asarray(cv2.remap(source, maps[0], maps[1], cv2.INTER_LINEAR), np.float32)
