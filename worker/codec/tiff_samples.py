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
from worker.codec.stored import Stored
from worker.codec.upright import Reading
from worker.scratch import Space, bands

_NO_PREDICTOR, _FROM_THE_TOP = 1, 1
_AT_A_TIME_BYTES = 16 << 20
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
    page: TiffPage, data: Stored, icc: bytes | None, space: Space, notes: list[str]
) -> tuple[NDArray[Any], Reading]:
    """Decode a page, strip by strip or tile by tile."""
    name = f"page {page.index + 1}"
    samples = _decode(page, data, space)
    reading = Reading(alpha_kind=alpha_kind(page))
    bits = page.bitspersample
    if page.photometric == PHOTOMETRIC.PALETTE:
        notes.append(f"{name}: palette colours were stored as RGB")
        return _apply_palette(samples[:, :, 0], page, space), reading
    if 1 < bits < _WHOLE_BYTE:
        for rows in bands(samples):
            samples[rows] *= np.uint8(_MAX_8_BIT // (2**bits - 1))
        notes.append(f"{name}: {bits}-bit gray was stored as 8-bit gray")
    if page.photometric == PHOTOMETRIC.CIELAB:
        for rows in bands(samples):
            samples[rows] = offset_lab(samples[rows])
    return samples, _look(samples, page, reading, icc, notes)


def _decode(page: TiffPage, data: Stored, space: Space) -> NDArray[Any]:
    """Return `(H, W, C)` samples; those of less than a byte have one each."""
    assert page.dtype is not None  # noqa: S101 - `tiff_checks` knows the kinds
    planes, _, height, width, channels = page.shaped
    stored = space.empty(page.shaped, np.uint8 if page.dtype == np.bool_ else page.dtype)
    if page.is_contiguous and page.predictor == _NO_PREDICTOR and page.fillorder == _FROM_THE_TOP:
        _copy_plain(page, data, stored.reshape(-1))
    else:
        page.asarray(out=stored, maxworkers=1, squeeze=False, buffersize=_AT_A_TIME_BYTES)
    return np.moveaxis(stored[:, 0], 0, 2).reshape(height, width, planes * channels)


def _copy_plain(page: TiffPage, data: Stored, stored: NDArray[Any]) -> None:
    """Read samples that lie in the file as they are: tifffile would read all of them at once."""
    kind = stored.dtype.newbyteorder(page.parent.byteorder)
    start = page.dataoffsets[0]
    for part in bands(stored):
        at, end = (start + number * kind.itemsize for number in (part.start, part.stop))
        stored[part] = np.frombuffer(data[at:end], kind)


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
        plain = None
        if 1 < bits < depth:
            notes.append(note_of_range(bits, depth))
            plain = Scaled(2**depth - 1, 0, depth)
        scaled = Scaled(2**bits - 1, 0, depth)
        inverted = ColourModel.INVERTED_GRAY
        return replace(reading, model=inverted, conversion=scaled, bits=bits, plain=plain)
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


def is_lossless(page: TiffPage, data: Stored) -> bool:
    """Tell whether a page's compression kept every sample."""
    if page.compression == COMPRESSION.WEBP:
        return all(
            _LOSSLESS_WEBP in bytes(data[at : at + min(length, 64)])
            for at, length in zip(page.dataoffsets, page.databytecounts, strict=False)
        )
    return page.compression not in _LOSSY


def _scale_floats(samples: NDArray[Any], page: TiffPage) -> Scaled:
    low, high = _range_of(samples, page)
    return Scaled(low, high, _SHORT_BITS)


def _range_of(samples: NDArray[Any], page: TiffPage) -> tuple[float, float]:
    """Return what is black and white in floats: as the page says, else 0 and 1."""
    name = f"page {page.index + 1}"
    if not all(np.isfinite(samples[rows]).all() for rows in bands(samples)):
        raise PhotoUnsupported(f"{name}: some of its samples are no numbers")
    low, high = (page.tags.valueof(tag) for tag in ("SMinSampleValue", "SMaxSampleValue"))
    if low is not None and high is not None:
        darkest, lightest = float(np.min(low)), float(np.max(high))
        if np.isfinite([darkest, lightest]).all() and darkest < lightest:
            return darkest, lightest
    least = min(samples[rows].min() for rows in bands(samples))
    most = max(samples[rows].max() for rows in bands(samples))
    if least < -_SPILL or most > 1 + _SPILL:
        raise PhotoUnsupported(
            f"{name}: samples from {least:g} to {most:g}, and no SMinSampleValue "
            "and SMaxSampleValue to say what is black and white"
        )
    return 0.0, 1.0


def _apply_palette(indices: NDArray[np.uint8], page: TiffPage, space: Space) -> Samples:
    """Look the colours up: `(H, W)` to `(H, W, 3)`, 16 bits where 8 can't hold them."""
    palette = page.colormap
    highest = max(int(indices[rows].max()) for rows in bands(indices))
    if palette is None or highest >= palette.shape[1]:
        raise PhotoCorrupt(f"page {page.index + 1} has indices outside its palette")
    colours = _colours_of(palette)
    looked_up = space.empty((*indices.shape, 3), colours.dtype)
    for rows in bands(looked_up):
        looked_up[rows] = colours[indices[rows]]
    return looked_up


def _colours_of(palette: NDArray[np.uint16]) -> Samples:
    """Return a palette's colours, `(N, 3)`, in 8 bits where they can hold them."""
    # The specification says 16 bits; files with 8-bit values in them are common.
    if palette.max() <= _MAX_8_BIT:
        return palette.T.astype(np.uint8)
    high = palette >> 8
    if (palette == high << 8).all() or (palette == high * 257).all():
        return high.T.astype(np.uint8)
    return palette.T.astype(np.uint16)
