"""Runs a model over overlapped tiles of a picture: memory on the device stays that of one tile.

In: an array `(H, W, 3)` and a model that turns an image into an image. Out: the model's answer,
`scale` times as large, in the array's own type. Along one axis two neighbours share `overlap_px`:

    one tile    ------------------------|//////|......
    the next                      ......|//////|------------------------
                                  margin  ramp  margin

Within its margin a tile lacks surroundings that the model would look at, so that part of its answer
is dropped. Along the ramp the next tile takes over linearly. Equal answers stay equal, bit for bit.

A tile that doesn't fit on the device is itself run over smaller tiles, and so are all after it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpen_engine.devices import device_errors, free_unused
from gpen_engine.errors import ImageError, OutOfMemory

Model = Callable[[Tensor], Tensor]
"""`(1, 3, h, w) float32` to `(1, 3, h * scale, w * scale)`; [0, 1] where the array has integers."""
Values = NDArray[np.float32]

_Array = TypeVar("_Array", bound=NDArray[Any])
_TYPES = (np.uint8, np.uint16, np.float32)
_ROWS = 32


def run_tiled(
    model: Model,
    image: _Array,
    *,
    device: torch.device,
    scale: int = 1,
    multiple: int = 1,
    tile_px: int = 512,
    overlap_px: int = 32,
    margin_px: int | None = None,
    minimum_px: int = 64,
    fixed: bool = False,
    on_shrink: Callable[[int], None] | None = None,
) -> _Array:
    """Return the model's answer to a whole picture.

    Args:
        model: is asked tile by tile.
        image: `(H, W, 3) uint8|uint16`, which the model sees as [0, 1], or `(H, W, 3) float32`,
            which it sees as it is. Never copied, never changed.
        device: where the model is.
        scale: how many times larger the answer is.
        multiple: sides of a tile are multiples of it; the picture is mirrored to fill them.
        tile_px: longest side of a tile.
        overlap_px: what neighbouring tiles share, rounded up to `multiple`.
        margin_px: how much of that is dropped at each tile's side; a quarter where it isn't given.
            From the radius of the model's receptive field on, no tile size shows in the answer.
        minimum_px: tiles don't get smaller than this.
        fixed: every tile has `tile_px` on both sides: the model takes nothing else.
        on_shrink: is told the new size of tiles when memory ran out.

    Raises:
        ImageError: the array is of another kind.
        OutOfMemory: not even the smallest tile fits on the device.
        ValueError: the sizes contradict each other, or the answer has another shape than it should.
    """
    if image.ndim != 3 or image.shape[2] != 3 or not image.size or image.dtype not in _TYPES:
        raise ImageError(f"an array {image.shape} {image.dtype} can't be cut into tiles")
    margin_px = overlap_px // 4 if margin_px is None else margin_px
    layout = _Layout.of(tile_px, overlap_px, margin_px, multiple, fixed=fixed)
    smallest_px = max(_round_up(minimum_px, multiple), layout.overlap_px + 2 * multiple)
    if fixed:
        smallest_px = layout.tile_px
    tiler = _Tiler(
        model, device, scale=scale, layout=layout, smallest_px=smallest_px, on_shrink=on_shrink
    )
    return tiler.run(image)


@dataclass(frozen=True, slots=True)
class _Part:
    """One tile along one axis, in pixels of the picture.

    Attributes:
        start: where the tile begins.
        stop: where it ends; beyond the picture it holds a mirrored one.
        first: from here on its answer is used.
        last: up to here.
    """

    start: int
    stop: int
    first: int
    last: int

    def used(self, scale: int) -> slice:
        """Return the part of the tile's answer that is used."""
        return slice((self.first - self.start) * scale, (self.last - self.start) * scale)

    def mirrored(self, length: int) -> NDArray[np.intp]:
        """Return which pixels of a picture of this length the tile holds."""
        index = np.arange(self.start, self.stop) % max(2 * (length - 1), 1)
        return np.minimum(index, 2 * (length - 1) - index)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a picture is cut; tiles and their overlap are multiples of `multiple`."""

    tile_px: int
    overlap_px: int
    ramp_px: int
    multiple: int
    fixed: bool

    @classmethod
    def of(
        cls, tile_px: int, overlap_px: int, margin_px: int, multiple: int, *, fixed: bool
    ) -> "_Layout":
        tile, overlap = tile_px // multiple * multiple, _round_up(overlap_px, multiple)
        ramp = overlap_px - 2 * margin_px
        fits = tile >= overlap + 2 * multiple and (tile == tile_px or not fixed)
        if not fits or not 0 < ramp <= overlap_px:
            raise ValueError(
                f"tiles of {tile_px} px can't overlap by {overlap_px} px with margins of "
                f"{margin_px} px, in multiples of {multiple}"
            )
        return cls(tile, overlap, ramp, multiple, fixed)

    def divide(self, length: int) -> list[_Part]:
        """Cut one axis into as few tiles as can be, of equal size, at equal distances."""
        covered = _round_up(length, self.multiple)
        stride = self.tile_px - self.overlap_px
        count = max(1, math.ceil((covered - self.overlap_px) / stride))
        if self.fixed:
            size = self.tile_px
            covered = max(covered, size)
        else:
            shared = self.overlap_px * (count - 1)
            size = _round_up(math.ceil((covered + shared) / count), self.multiple)
        starts = [
            (covered - size) * index // max(count - 1, 1) // self.multiple * self.multiple
            for index in range(count)
        ]
        middles = [(before + size + after) // 2 for before, after in pairwise(starts)]
        ramps = [middle - self.ramp_px // 2 for middle in middles]
        firsts, lasts = [0, *ramps], [*(ramp + self.ramp_px for ramp in ramps), length]
        return [
            _Part(start, start + size, first, last)
            for start, first, last in zip(starts, firsts, lasts, strict=True)
        ]

    def shrunk(self, side_px: int, smallest_px: int) -> "_Layout":
        """Return the same with tiles of which two cover a side that didn't fit."""
        half = _round_up(math.ceil((side_px + self.overlap_px) / 2), self.multiple)
        return replace(self, tile_px=max(half, smallest_px))


class _Tiler:
    """A model's way over pictures; its tiles get smaller when memory runs out, and stay so."""

    def __init__(
        self,
        model: Model,
        device: torch.device,
        *,
        scale: int,
        layout: _Layout,
        smallest_px: int,
        on_shrink: Callable[[int], None] | None,
    ) -> None:
        self._model = model
        self._device = device
        self._scale = scale
        self._layout = layout
        self._smallest_px = smallest_px
        self._on_shrink = on_shrink

    def run(self, image: _Array) -> _Array:
        """Return the answer to an array, written tile by tile.

        Beside the arrays only what is blended with later tiles is kept: the right end of the tile
        before, and the lower ends of the row before.
        """
        height, width = image.shape[:2]
        scale, ramp = self._scale, self._layout.ramp_px * self._scale
        rows, columns = self._layout.divide(height), self._layout.divide(width)
        result = np.empty((height * scale, width * scale, 3), image.dtype)
        above = np.empty((ramp, width * scale, 3), np.float32)
        beside = np.empty((0, ramp, 3), np.float32)
        for row in rows:
            for column in columns:
                answer = self._answer(_read(image, row, column))
                answer = answer[row.used(scale), column.used(scale)]
                if column is not columns[0]:
                    _take_over(beside.swapaxes(0, 1), answer.swapaxes(0, 1))
                if column is not columns[-1]:
                    beside = answer[:, -ramp:].copy()
                    answer = answer[:, :-ramp]
                x = column.first * scale
                across = slice(x, x + answer.shape[1])
                if row is not rows[0]:
                    _take_over(above[:, across], answer)
                if row is not rows[-1]:
                    above[:, across] = answer[-ramp:]
                    answer = answer[:-ramp]
                y = row.first * scale
                _write(result[y : y + answer.shape[0], across], answer)
        return result  # type: ignore[return-value]  # of the array's own type

    def _answer(self, tile: Values) -> Values:
        """Return the answer to one tile, over smaller ones where it doesn't fit."""
        side_px = max(tile.shape[:2])
        if side_px > self._layout.tile_px:
            return self.run(tile)
        try:
            return self._forward(tile)
        except OutOfMemory as error:
            reason = str(error)
        # Only here is the error gone, and with it what the failed pass still held.
        free_unused(self._device)
        smaller = self._layout.shrunk(side_px, self._smallest_px)
        if smaller.tile_px >= side_px:
            raise OutOfMemory(f"{reason}, and tiles don't get smaller")
        self._layout = smaller
        if self._on_shrink is not None:
            self._on_shrink(smaller.tile_px)
        return self.run(tile)

    def _forward(self, tile: Values) -> Values:
        height, width = tile.shape[:2]
        what = f"a tile of {width} x {height} px on {self._device}"
        with device_errors(what), torch.inference_mode():
            # A copy: a model may work in place, and the tile may be needed again.
            x = torch.from_numpy(tile).permute(2, 0, 1)[None].to(self._device, copy=True)
            answer = self._model(x)
            expected = (1, 3, height * self._scale, width * self._scale)
            if tuple(answer.shape) != expected:
                raise ValueError(f"the model gave {tuple(answer.shape)}, expected {expected}")
            values: Values = answer[0].permute(1, 2, 0).float().cpu().numpy().copy()
            return values


def _read(image: NDArray[Any], row: _Part, column: _Part) -> Values:
    """Return a tile's pixels as the model sees them, `(h, w, 3)`."""
    height, width = image.shape[:2]
    pixels = image[np.ix_(row.mirrored(height), column.mirrored(width))]
    return pixels.astype(np.float32) / np.float32(_top(image))


def _write(place: NDArray[Any], values: Values) -> None:
    """Store values in their place, in its type."""
    if place.dtype == np.float32:
        place[...] = values
        return
    top = np.float32(_top(place))
    # A few rows at a time: what is between them and their place stays in the processor's cache.
    for y in range(0, len(values), _ROWS):
        levels = values[y : y + _ROWS] * top
        np.rint(levels, out=levels)
        np.clip(levels, 0, top, out=levels)
        place[y : y + _ROWS] = levels


def _top(array: NDArray[Any]) -> int:
    """Return what the model sees as 1."""
    return 1 if array.dtype == np.float32 else int(np.iinfo(array.dtype).max)


def _take_over(before: Values, after: Values) -> None:
    """Let the first rows of `after` take over linearly from `before`, in place."""
    length = len(before)
    share = ((np.arange(length, dtype=np.float32) + 0.5) / length)[:, None, None]
    after[:length] = before + share * (after[:length] - before)


def _round_up(length: int, multiple: int) -> int:
    return math.ceil(length / multiple) * multiple
