"""Brings restored pixels back to what a derivative stores: the master's own samples and channels.

In: a page, and its pixels as the engine returned them. Out: a `Picture` to write.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worker.codec.native import ColourModel, Samples
from worker.codec.photograph import Jp2Storage, Page

Format = Literal["png", "tiff", "jpeg", "webp", "jp2"]

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_WHOLE_BYTE = 8
_PNG_MODELS = {ColourModel.GRAY, ColourModel.RGB}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """The samples of a page to write.

    Attributes:
        samples: `(H, W)` or `(H, W, C)`: colours, then perhaps alpha.
        model: what the colours mean.
        bits: of a sample, 1 for bilevel.
    """

    samples: NDArray[Any]
    model: ColourModel
    bits: int


def settle(page: Page, restored: Samples, kind: Format, notes: list[str]) -> Picture:
    """Return what to write for a page.

    Args:
        page: as decoded; its alpha already as large as the restored pixels.
        restored: `(H, W, 3)`, of the type of `page.pixels`.
        kind: the derivative's format.
        notes: is appended to.
    """
    shown = _one_channel(restored, notes) if page.gray else restored
    if page.native is None or not _keeps_own(page, kind):
        model = ColourModel.GRAY if page.gray else ColourModel.RGB
        return _picture(page, shown, model, shown.dtype.itemsize * 8)
    if page.native.bits < _WHOLE_BYTE and not np.array_equal(restored, page.pixels):
        notes.append(f"{page.native.bits}-bit gray was stored as 8-bit gray: it was restored")
        return _picture(page, shown, ColourModel.GRAY, _WHOLE_BYTE)
    own = _own_samples(page, shown)
    bits = page.native.bits if page.native.bits < _WHOLE_BYTE else own.dtype.itemsize * 8
    return _picture(page, own, page.native.model, bits)


def own_samples(page: Page, restored: Samples) -> NDArray[Any]:
    """Return the master's own samples, `(H, W, C)`, with what was restored.

    They are what a derivative that `stores_alike` decodes to.
    """
    return _own_samples(page, _one_channel(restored, []) if page.gray else restored)


def stores_alike(master: Page, derivative: Page) -> bool:
    """Tell whether a derivative holds samples of the master's own kind, or those shown instead."""
    return (
        master.model is derivative.model
        and master.own.dtype == derivative.own.dtype
        and _is_bilevel(master) == _is_bilevel(derivative)
        and isinstance(master.storage, Jp2Storage) == isinstance(derivative.storage, Jp2Storage)
    )


def _is_bilevel(page: Page) -> bool:
    return page.native is not None and page.native.bits < _WHOLE_BYTE


def _own_samples(page: Page, shown: Samples) -> NDArray[Any]:
    if page.native is None:
        return shown
    if shown.shape[:2] != page.pixels.shape[:2]:
        return page.native.convert(shown)
    before = page.pixels[:, :, :1] if page.gray else page.pixels
    return page.native.merge(before, shown)


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


def _picture(page: Page, colours: NDArray[Any], model: ColourModel, bits: int) -> Picture:
    if page.alpha is not None:
        return Picture(np.dstack([colours, page.alpha.samples]), model, bits)
    return Picture(colours[:, :, 0] if model.is_gray else colours, model, bits)


def _one_channel(pixels: Samples, notes: list[str]) -> Samples:
    """Return `(H, W, 1)`; where the channels differ their luma, and that is said."""
    gray: NDArray[Any] = pixels[:, :, :1].copy()
    coloured = (pixels[:, :, 1:] != gray).any(axis=2)
    if coloured.any():
        gray[coloured, 0] = np.rint(pixels[coloured] @ _LUMA).astype(gray.dtype)
        notes.append("colour that restoration brought into a gray page was removed")
    return gray
