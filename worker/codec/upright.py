"""Turns what a reader found upright: samples, EXIF, XMP and resolution together, exactly once.

In: samples and metadata as stored. Out: a `Page`. What had to be left out is said in `notes`.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.errors import PhotoUnsupported
from worker.codec import exif, photoshop, xmp_packet
from worker.codec.conversion import Scaled
from worker.codec.ifd import DamagedError
from worker.codec.native import ColourModel, Conversion, Native, note_of_range, used_bits
from worker.codec.photograph import (
    Alpha,
    AlphaKind,
    Jp2Storage,
    Metadata,
    Page,
    Resolution,
    TiffStorage,
    WebpStorage,
)
from worker.scratch import Space, copy_parts

_QUARTER_TURNS = {5, 6, 7, 8}
_PROFILE_HEADER_BYTES = 128
_GRAY, _RGB = ColourModel.GRAY, ColourModel.RGB
_MODELS = {1: _GRAY, 2: _GRAY, 3: _RGB, 4: _RGB}  # by the number of channels; what is over is alpha
_XMP_UPRIGHT = {f"{xmp_packet.TIFF}Orientation": lambda _: "1"}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader knows of the samples that it hands over.

    Attributes:
        orientation: 1 to 8 where the container says it; else the EXIF block decides.
        turned: the decoder made a quarter turn itself, which the EXIF block may repeat.
        alpha_kind: what a channel beside the colours means.
        model: what the channels mean; gray or RGB by their number where it isn't said.
        conversion: how they are shown to the engine; None where it can take them as they are.
        bits: of a sample, where they are fewer than its type has.
        plain: how other formats show them, where the engine is shown them over a wider range.
        storage: kept with the page.
    """

    orientation: int | None = None
    turned: bool = False
    alpha_kind: AlphaKind = AlphaKind.STRAIGHT
    model: ColourModel | None = None
    conversion: Conversion | None = None
    bits: int | None = None
    plain: Conversion | None = None
    storage: TiffStorage | Jp2Storage | WebpStorage | None = None


def make_page(
    samples: NDArray[Any],
    stored: Metadata,
    *,
    space: Space,
    notes: list[str],
    reading: Reading | None = None,
) -> Page:
    """Make an upright page.

    Args:
        samples: `(H, W)` or `(H, W, C)` as stored: colours, then perhaps alpha.
        stored: the metadata as stored.
        space: room for the page's samples.
        notes: is appended to.
        reading: what else is known.
    """
    reading = reading or Reading()
    metadata, told = _make_upright(stored, notes, reading)
    planes = _turn(np.atleast_3d(samples), told)
    channels = planes.shape[2]
    model = reading.model or _MODELS.get(channels)
    if model is None or not 0 <= channels - model.channels <= 1:
        raise PhotoUnsupported(f"{channels} channels of {planes.dtype} aren't supported")
    own = _in_order(planes[:, :, : model.channels], space)
    native = _make_native(own, model, reading, notes)
    if native is None and planes.dtype not in (np.uint8, np.uint16):
        raise PhotoUnsupported(f"samples of {planes.dtype} aren't supported")
    pixels = own if native is None else native.show(space)
    if pixels.shape[2] == 1:
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    alpha = None
    if channels > model.channels:
        alpha = Alpha(_in_order(planes[:, :, model.channels], space), reading.alpha_kind)
    return Page(pixels, model.is_gray, alpha, metadata, reading.storage, native)


def _make_native(
    own: NDArray[Any], model: ColourModel, reading: Reading, notes: list[str]
) -> Native | None:
    bits = reading.bits or own.dtype.itemsize * 8
    if reading.conversion is not None:
        return Native(own, reading.conversion, model, bits, reading.plain)
    if own.dtype != np.uint16:
        return None
    used = used_bits(own)
    if used == bits:
        return None
    notes.append(note_of_range(used, bits))
    stretched, plain = (Scaled(0, 2**number - 1, bits) for number in (used, bits))
    return Native(own, stretched, model, used, plain)


def read_exif(stored: Metadata, notes: list[str]) -> tuple[bytes | None, int, Resolution | None]:
    """Return the EXIF block made upright, the orientation that it told, and the resolution.

    Args:
        stored: the metadata as stored.
        notes: is appended to.
    """
    if stored.exif is None:
        return None, 1, stored.resolution
    try:
        found = exif.read(stored.exif.removeprefix(b"Exif\0\0"))
    except DamagedError as error:
        notes.append(f"the EXIF block is damaged and was left out ({error})")
        return None, 1, stored.resolution
    if found.damaged:
        notes.append("the EXIF block is damaged; only its readable fields were kept")
    return found.block, found.orientation, stored.resolution or found.resolution


def _make_upright(stored: Metadata, notes: list[str], reading: Reading) -> tuple[Metadata, int]:
    block, repeated, resolution = read_exif(stored, notes)
    told = repeated if reading.orientation is None else reading.orientation
    if told != 1:
        notes.append(f"the picture was turned upright from orientation {told}")
    shown_at = stored.shown_at
    if told in _QUARTER_TURNS or (reading.turned and repeated in _QUARTER_TURNS):
        resolution = resolution.turned() if resolution is not None else None
        shown_at = shown_at.turned() if shown_at is not None else None
        block = exif.turn(block) if block is not None else None
    icc, xmp, resources = stored.icc, stored.xmp, stored.photoshop
    if icc is not None and not _is_profile(icc):
        icc = None
        notes.append("the ICC profile is damaged and was left out")
    if xmp is not None:
        xmp = xmp_packet.change(xmp, _XMP_UPRIGHT, notes, dropped=[xmp_packet.THUMBNAILS])
    if resources is not None:
        resources = photoshop.without(photoshop.THUMBNAILS, resources, notes)
    upright = replace(
        stored,
        icc=icc,
        exif=block,
        xmp=xmp,
        photoshop=resources,
        resolution=resolution,
        shown_at=shown_at,
    )
    return upright, told


def _is_profile(icc: bytes) -> bool:
    """Check size and signature (ICC.1:2022, 7.2); zero bytes behind a profile are common."""
    return _PROFILE_HEADER_BYTES <= int.from_bytes(icc[:4]) <= len(icc) and icc[36:40] == b"acsp"


def _turn(planes: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn `(H, W, C)` samples by an orientation of EXIF 2.32, section 4.6.4."""
    if orientation in _QUARTER_TURNS:
        planes = planes.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        planes = planes[::-1]
    if orientation in {2, 3, 6, 7}:
        planes = planes[:, ::-1]
    return planes


def _in_order(samples: NDArray[Any], space: Space) -> NDArray[Any]:
    """Return samples as they lie in memory row by row, copied only where they don't."""
    if samples.flags.c_contiguous:
        return samples
    ordered = space.empty(samples.shape, samples.dtype)
    copy_parts(samples, ordered)
    return ordered
