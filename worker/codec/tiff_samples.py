"""The samples of a TIFF page as stored, and how the engine is shown them.

In: a page that `tiff_checks` let pass. Out: `(H, W, C)` samples and a `Reading`. tifffile (with
imagecodecs) decodes: Pillow gives wrong samples for 16-bit planar, MinIsWhite and RGB files.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, TiffPage

from jobs.errors import PhotoCorrupt, PhotoUnsupported
from worker.codec.conversion import Lab, Scaled, choose_inks
from worker.codec.native import ColourModel, note_of_range, used_bits
from worker.codec.photograph import AlphaKind, Samples
from worker.codec.upright import Reading

_WHOLE_BYTE, _MAX_8_BIT, _SHORT_BITS = 8, 255, 16
_ICC_LAB_LIGHTEST = 65280  # ICC.1:2022, 6.3.4.2: L* of 100 in 16 bits
_SPILL = 0.5
"""How far beyond black and white filters may have brought samples between 0 and 1."""
_GRAYS = {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE}
_LOSSY = {COMPRESSION.JPEG, COMPRESSION.JPEG2000, COMPRESSION.APERIO_JP2000_RGB}
_LOSSLESS_WEBP = b"VP8L"
_ALPHA_KINDS: dict[int, AlphaKind] = {
    EXTRASAMPLE.UNSPECIFIED: AlphaKind.UNSPECIFIED,
    EXTRASAMPLE.ASSOCALPHA: AlphaKind.ASSOCIATED,
    EXTRASAMPLE.UNASSALPHA: AlphaKind.STRAIGHT,
}


def read_samples(
    page: TiffPage, icc: bytes | None, notes: list[str]
) -> tuple[NDArray[Any], Reading]:
    """Decode a page."""
    name = f"page {page.index + 1}"
    planes = np.moveaxis(page.asarray(maxworkers=1).reshape(page.shaped)[:, 0], 0, 2)
    samples: NDArray[Any] = planes.reshape(*planes.shape[:2], -1)
    reading = Reading(alpha_kind=alpha_kind(page))
    bits = page.bitspersample
    if page.photometric == PHOTOMETRIC.PALETTE:
        notes.append(f"{name}: palette colours were stored as RGB")
        return _apply_palette(samples[:, :, 0], page), reading
    if bits == 1:
        samples = samples.astype(np.uint8)
    elif bits < _WHOLE_BYTE:
        samples = samples.astype(np.uint8) * np.uint8(_MAX_8_BIT // (2**bits - 1))
        notes.append(f"{name}: {bits}-bit gray was stored as 8-bit gray")
    if page.photometric == PHOTOMETRIC.CIELAB:
        samples = offset_lab(samples)
    return samples, _look(samples, page, reading, icc, notes)


def _look(
    samples: NDArray[Any], page: TiffPage, reading: Reading, icc: bytes | None, notes: list[str]
) -> Reading:
    """Decide how samples are shown to the engine."""
    bits = page.bitspersample
    if page.photometric in _GRAYS:
        return _look_at_gray(samples, page, reading, notes)
    if page.photometric == PHOTOMETRIC.SEPARATED:
        inks = choose_inks(icc, bits, notes)
        return replace(reading, conversion=inks, model=ColourModel.CMYK)
    if page.photometric in {PHOTOMETRIC.CIELAB, PHOTOMETRIC.ICCLAB}:
        is_short = page.photometric == PHOTOMETRIC.ICCLAB and bits > _WHOLE_BYTE
        lab = Lab(_ICC_LAB_LIGHTEST if is_short else 2**bits - 1, bits)
        return replace(reading, conversion=lab, model=ColourModel.LAB)
    if samples.dtype.kind == "f":
        return replace(reading, conversion=_scale_floats(samples, page))
    return reading


def _look_at_gray(
    samples: NDArray[Any], page: TiffPage, reading: Reading, notes: list[str]
) -> Reading:
    if samples.dtype.kind == "f":
        scaled = _scale_floats(samples, page)
        return replace(reading, model=ColourModel.GRAY, conversion=scaled)
    bits = 1 if page.bitspersample == 1 else used_bits(samples[:, :, 0])
    depth = max(samples.dtype.itemsize * 8, _WHOLE_BYTE)
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        if 1 < bits < depth:
            notes.append(note_of_range(bits, depth))
        scaled = Scaled(2**bits - 1, 0, depth)
        return replace(reading, model=ColourModel.INVERTED_GRAY, conversion=scaled, bits=bits)
    if bits == 1:
        scaled = Scaled(0, 1, depth)
        return replace(reading, model=ColourModel.GRAY, conversion=scaled, bits=bits)
    return reading


def offset_lab(samples: NDArray[Any]) -> NDArray[Any]:
    """Turn a* and b* from two's complement to numbers above 0, or back: it is the same step."""
    moved = samples.copy()
    moved[:, :, 1:3] ^= samples.dtype.type(1 << (samples.dtype.itemsize * 8 - 1))
    return moved


def alpha_kind(page: TiffPage) -> AlphaKind:
    """Return what a channel beside the colours means, if there is one."""
    return _ALPHA_KINDS[page.extrasamples[0]] if page.extrasamples else AlphaKind.STRAIGHT


def is_lossless(page: TiffPage, data: bytes) -> bool:
    """Tell whether a page's compression kept every sample."""
    if page.compression == COMPRESSION.WEBP:
        return all(
            _LOSSLESS_WEBP in data[at : at + min(length, 64)]
            for at, length in zip(page.dataoffsets, page.databytecounts, strict=False)
        )
    return page.compression not in _LOSSY


def _scale_floats(samples: NDArray[Any], page: TiffPage) -> Scaled:
    low, high = _range_of(samples, page)
    return Scaled(low, high, _SHORT_BITS)


def _range_of(samples: NDArray[Any], page: TiffPage) -> tuple[float, float]:
    """Return what is black and white in floats: as the page says, else 0 and 1."""
    name = f"page {page.index + 1}"
    if not np.isfinite(samples).all():
        raise PhotoUnsupported(f"{name}: some of its samples are no numbers")
    low, high = (page.tags.valueof(tag) for tag in ("SMinSampleValue", "SMaxSampleValue"))
    if low is not None and high is not None:
        darkest, lightest = float(np.min(low)), float(np.max(high))
        if np.isfinite([darkest, lightest]).all() and darkest < lightest:
            return darkest, lightest
    if samples.min() < -_SPILL or samples.max() > 1 + _SPILL:
        raise PhotoUnsupported(
            f"{name}: samples from {samples.min():g} to {samples.max():g}, and no SMinSampleValue "
            "and SMaxSampleValue to say what is black and white"
        )
    return 0.0, 1.0


def _apply_palette(indices: NDArray[np.uint8], page: TiffPage) -> Samples:
    """Look the colours up: `(H, W)` to `(H, W, 3)`, 16 bits where 8 can't hold them."""
    palette = page.colormap
    if palette is None or int(indices.max()) >= palette.shape[1]:
        raise PhotoCorrupt(f"page {page.index + 1} has indices outside its palette")
    # The specification says 16 bits; files with 8-bit values in them are common.
    if palette.max() <= _MAX_8_BIT:
        return palette.T.astype(np.uint8)[indices]
    high = palette >> 8
    if (palette == high << 8).all() or (palette == high * 257).all():
        return high.T.astype(np.uint8)[indices]
    return palette.T.astype(np.uint16)[indices]
