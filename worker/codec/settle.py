"""Brings restored pixels back to what a derivative stores: the master's own samples and channels.

In: a page, and its pixels as the engine returned them. Out: a `Picture` to write. Rows are made as
they are asked for: a page may be larger than memory.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.codec.native import ColourModel, Samples, show
from worker.codec.photograph import Jp2Storage, Page
from worker.scratch import Space, bands

Format = Literal["png", "tiff", "jpeg", "webp", "jp2"]

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_WHOLE_BYTE = 8
_PNG_MODELS = {ColourModel.GRAY, ColourModel.RGB}


class Restored(Protocol):
    """What the engine made of a page's pixels."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(H, W, 3)`."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the page's pixels."""
        ...

    def rows(self, rows: slice, /) -> Samples:
        """Return some rows."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """The samples of a page to write.

    Attributes:
        page: as decoded; its alpha already as large as the restored pixels.
        restored: its pixels.
        model: what the colours mean.
        bits: of a sample, 1 for bilevel.
        is_own: whether its samples are of the master's own kind.
        notes: is appended to, as rows are made.
    """

    page: Page
    restored: Restored
    model: ColourModel
    bits: int
    is_own: bool
    notes: list[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """`(H, W)` or `(H, W, C)`: colours, then perhaps alpha."""
        channels = self.model.channels + (self.page.alpha is not None)
        sides = self.restored.shape[:2]
        return sides if channels == 1 else (*sides, channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its samples."""
        return self.page.own.dtype if self.is_own else self.page.pixels.dtype

    @property
    def size_bytes(self) -> int:
        """Of all its samples."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, rows: slice) -> NDArray[Any]:
        """Return some rows of its samples."""
        make = own_rows if self.is_own else rendered_rows
        colours = make(self.page, self.restored, rows, self.notes)
        if self.page.alpha is not None:
            return np.dstack([colours, self.page.alpha.samples[rows]])
        return colours[:, :, 0] if self.model.is_gray else colours

    def whole(self, space: Space) -> NDArray[Any]:
        """Return all of its samples."""
        samples = space.empty(self.shape, self.dtype)
        for rows in bands(samples):
            samples[rows] = self.rows(rows)
        return samples


def settle(page: Page, restored: Restored, kind: Format, notes: list[str]) -> Picture:
    """Return what to write for a page.

    Args:
        page: as decoded; its alpha already as large as the restored pixels.
        restored: its pixels.
        kind: the derivative's format.
        notes: is appended to.
    """
    if page.native is None or not _keeps_own(page, kind):
        model = ColourModel.GRAY if page.gray else ColourModel.RGB
        bits = page.pixels.dtype.itemsize * 8
        return Picture(page, restored, model, bits, is_own=False, notes=notes)
    bits = page.native.bits
    if bits < _WHOLE_BYTE and is_changed(page, restored):
        notes.append(f"{bits}-bit gray was stored as 8-bit gray: it was restored")
        return Picture(page, restored, ColourModel.GRAY, _WHOLE_BYTE, is_own=False, notes=notes)
    bits = bits if bits < _WHOLE_BYTE else page.own.dtype.itemsize * 8
    return Picture(page, restored, page.native.model, bits, is_own=True, notes=notes)


def is_changed(page: Page, restored: Restored) -> bool:
    """Tell whether the engine changed any sample of a page."""
    return restored.shape != page.pixels.shape or not all(
        np.array_equal(restored.rows(rows), page.pixels[rows]) for rows in bands(page.pixels)
    )


def own_rows(
    page: Page, restored: Restored, rows: slice, notes: list[str] | None = None
) -> NDArray[Any]:
    """Return some rows of the master's own samples, `(H, W, C)`, with what was restored.

    They are what a derivative that `stores_alike` decodes to.
    """
    shown = _shown(page, restored, rows, notes)
    if page.native is None:
        return shown
    if restored.shape != page.pixels.shape:
        return page.native.convert(shown)
    before = page.pixels[rows, :, : shown.shape[2]]
    return page.native.merge(page.native.samples[rows], before, shown)


def rendered_rows(
    page: Page, restored: Restored, rows: slice, notes: list[str] | None = None
) -> Samples:
    """Return some rows of what a derivative that doesn't store alike decodes to: `(H, W, 1|3)`.

    It is what the engine returned, in the tones in which any viewer shows the master.
    """
    if page.native is None or page.native.plain is None:
        return _shown(page, restored, rows, notes)
    return show(own_rows(page, restored, rows, notes), page.native.plain)


def stores_alike(master: Page, derivative: Page) -> bool:
    """Tell whether a derivative holds samples of the master's own kind, or a rendition of them."""
    return (
        master.model is derivative.model
        and master.own.dtype == derivative.own.dtype
        and master.is_bilevel == derivative.is_bilevel
        and isinstance(master.storage, Jp2Storage) == isinstance(derivative.storage, Jp2Storage)
    )


def _keeps_own(page: Page, kind: Format) -> bool:
    """Tell whether a format holds a page's own samples."""
    native, storage = page.native, page.storage
    if native is None or kind == "jp2":
        return True
    if isinstance(storage, Jp2Storage) and storage.bits == native.bits:
        return False  # elsewhere its numbers would look dark
    if kind == "jpeg":
        return native.model is ColourModel.CMYK
    return kind == "tiff" or (native.model in _PNG_MODELS and native.bits >= _WHOLE_BYTE)


def _shown(page: Page, restored: Restored, rows: slice, notes: list[str] | None) -> Samples:
    """Return some rows as restored, one channel where the page is gray.

    Where the channels of a gray page differ, it is their luma, and that is said.
    """
    pixels = restored.rows(rows)
    if not page.gray:
        return pixels
    gray: NDArray[Any] = pixels[:, :, :1].copy()
    coloured = (pixels[:, :, 1:] != gray).any(axis=2)
    if coloured.any():
        gray[coloured, 0] = np.rint(pixels[coloured] @ _LUMA).astype(gray.dtype)
        if notes is not None:
            notes.append("colour that restoration brought into a gray page was removed")
    return gray
