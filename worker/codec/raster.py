"""WebP, BMP, GIF and AVIF files, read through Pillow.

Each kind goes straight to its own plug-in, so that no other parser sees the bytes.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import Image
from PIL.ImageFile import ImageFile
from PIL.WebPImagePlugin import WebPImageFile

from jobs.errors import PhotoCorrupt, PhotoTruncated, PhotoUnsupported
from worker.codec import bmp, gif, item_properties, webp
from worker.codec.colour_codes import make_profile
from worker.codec.conversion import widen
from worker.codec.header import PageHeader
from worker.codec.limits import Limits, check_pixels
from worker.codec.photograph import (
    AlphaKind,
    Container,
    Metadata,
    Page,
    Resolution,
    Unit,
    WebpStorage,
)
from worker.codec.stored import Stored, find, open_stored
from worker.codec.upright import Reading, make_page, read_exif
from worker.scratch import Space

_OPEN: dict[Container, Callable[[BinaryIO], ImageFile]] = {
    Container.WEBP: WebPImageFile,
    Container.BMP: BmpImageFile,
    Container.GIF: GifImageFile,
    Container.AVIF: AvifImageFile,
}
# Flags behind the mark of AV1's configuration ("AV1 Codec ISO Media File Format Binding", 2.3).
_AV1_CONFIGURATION, _FLAGS_AT = b"av1C", 2
_MORE_THAN_8, _TWELVE = 0x40, 0x20
_BOX_HEADER_BYTES, _SAMPLE_BITS = 8, 8
_BMP_INCHES_A_METRE = 39.3701  # Pillow's constant
_PLAIN_MODES = {"L", "LA", "RGB", "RGBA"}
_GRAY_MODES = {"1", "L", "LA"}
_PALETTE_MODES = {"P", "PA"}
_COMPRESSIONS = {
    Container.WEBP: "webp",
    Container.GIF: "lzw",
    Container.AVIF: "av1",
}
_READ_WHOLE = {Container.WEBP, Container.AVIF}  # by their plug-ins, while they open it
_BMP_RUN_LENGTHS = {1, 2}


def read(
    data: bytes, *, container: Container, limits: Limits, space: Space, notes: list[str]
) -> Page:
    """Decode the first picture of a file of one of these kinds."""
    check_complete(data, container)
    with _OPEN[container](BytesIO(data)) as image:
        check_pixels(*image.size, limits=limits)
        if getattr(image, "n_frames", 1) > 1:
            notes.append("the file is an animation; only its first picture was kept")
        bits = _bits_of(data, container)
        if bits > _SAMPLE_BITS:
            samples = _decode_deep(data, bits, image.size, notes)
        else:
            image.load()
            samples = np.asarray(_make_plain(image, notes))
        metadata = _read_metadata(image, container)
    is_gray = np.atleast_3d(samples).shape[2] <= len("LA")
    metadata = _add_others(metadata, data, container, notes, is_gray=is_gray)
    if container is Container.WEBP:
        notes += webp.name_others(data)
    is_kept = container is Container.WEBP and webp.is_lossless(data)
    reading = Reading(storage=WebpStorage() if is_kept else None)
    return make_page(samples, metadata, space=space, notes=notes, reading=reading)


def _decode_deep(data: bytes, bits: int, size: tuple[int, int], notes: list[str]) -> NDArray[Any]:
    """Decode an AVIF picture of more than 8 bits, which Pillow would cut."""
    samples: NDArray[Any] = imagecodecs.avif_decode(data, index=0)
    if samples.shape[1::-1] != size or samples.dtype != np.uint16:
        raise PhotoCorrupt(f"the AVIF decoder gave samples of shape {samples.shape}")
    notes.append(f"samples of {bits} bits were spread over the full range of 16")
    return widen(samples, bits)


def read_header(data: Stored, *, container: Container, limits: Limits) -> PageHeader:
    """Read what a plug-in needs to open a file; those of WebP and AVIF need the whole of it."""
    whole = bytes(data[:]) if container in _READ_WHOLE else data
    check_complete(whole, container)
    with _OPEN[container](open_stored(whole)) as image:
        check_pixels(*image.size, limits=limits)
        if image.mode not in {"1", *_PLAIN_MODES, *_PALETTE_MODES}:
            raise _unsupported(image.mode)
        is_gray = image.mode in _GRAY_MODES
        metadata = _read_metadata(image, container)
        metadata = _add_others(metadata, whole, container, [], is_gray=is_gray)
        _, orientation, resolution = read_exif(metadata, [])
        has_alpha = image.mode in {"LA", "RGBA"} or (
            image.mode in _PALETTE_MODES and image.has_transparency_data
        )
        return PageHeader(
            width=image.width,
            height=image.height,
            bits=1 if image.mode == "1" else _bits_of(whole, container),
            colours=3 if image.mode in {"RGB", "RGBA"} else 1,
            palette=image.mode in _PALETTE_MODES,
            alpha=AlphaKind.STRAIGHT if has_alpha else None,
            compression=_COMPRESSIONS.get(container) or _bmp_compression(image),
            icc=metadata.icc is not None,
            orientation=orientation,
            resolution=resolution,
            lossless=container is Container.WEBP and webp.is_lossless(bytes(whole[:])),
        )


def _bmp_compression(image: ImageFile) -> str:
    return "rle" if image.info.get("compression") in _BMP_RUN_LENGTHS else "none"


def _make_plain(image: Image, notes: list[str]) -> Image:
    if image.mode in _PLAIN_MODES:
        return image
    if image.mode == "1":
        notes.append("1-bit gray was stored as 8-bit gray")
        return image.convert("L")
    if image.mode in _PALETTE_MODES:
        notes.append("palette colours were stored as RGB")
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    raise _unsupported(image.mode)


def _read_metadata(image: ImageFile, container: Container) -> Metadata:
    info = image.info
    comment = info.get("comment")
    return Metadata(
        icc=info.get("icc_profile"),
        exif=info.get("exif"),
        xmp=info.get("xmp"),
        comments=(comment,) if isinstance(comment, bytes) else (),
        resolution=_read_resolution(info.get("dpi"), container),
    )


def _add_others(
    metadata: Metadata, data: Stored, container: Container, notes: list[str], *, is_gray: bool
) -> Metadata:
    """Add what the plug-ins don't read."""
    if container is Container.BMP:
        return replace(metadata, icc=bmp.read_profile(data, notes))
    if container is Container.GIF:
        found = gif.read_extensions(data)
        return replace(metadata, icc=found.get(gif.PROFILE), xmp=found.get(gif.XMP))
    if container is Container.AVIF and not metadata.icc:
        codes = item_properties.colour_codes(item_properties.read(data))
        icc = make_profile(*codes, is_gray=is_gray, notes=notes) if codes else None
        return replace(metadata, icc=icc)
    return metadata


def _read_resolution(dpi: tuple[float, float] | None, container: Container) -> Resolution | None:
    """Undo Pillow's conversion to dpi: BMP counts per metre."""
    if dpi is None or not all(value > 0 for value in dpi):
        return None
    if container is Container.BMP:
        x, y = (Fraction(round(value * _BMP_INCHES_A_METRE), 100) for value in dpi)
        return Resolution(x, y, Unit.CM)
    x, y = (Fraction(value).limit_denominator(10_000) for value in dpi)
    return Resolution(x, y, Unit.INCH)


def _unsupported(mode: str) -> PhotoUnsupported:
    return PhotoUnsupported(f"pictures of kind {mode} aren't supported")


def check_complete(data: Stored, container: Container) -> None:
    """Compare the length that the file itself gives: not every decoder minds a missing end."""
    if container is Container.WEBP:
        expected = 8 + int.from_bytes(data[4:8], "little")
    elif container in {Container.AVIF, Container.HEIC}:
        expected = _boxes_end(data)
    else:
        return
    if expected > len(data):
        raise PhotoTruncated(f"the file has {len(data)} of at least {expected} bytes")


def _boxes_end(data: Stored) -> int:
    """Return where the last top-level box ends (ISO 14496-12, 4.2)."""
    at = 0
    while at + _BOX_HEADER_BYTES <= len(data):
        length = int.from_bytes(data[at : at + 4])
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16])
        if length < _BOX_HEADER_BYTES:  # 0: up to the end of the file
            return len(data)
        at += length
    return at


def _bits_of(data: Stored, container: Container) -> int:
    """Tell from the header how many bits a sample has."""
    if container is not Container.AVIF:
        return _SAMPLE_BITS
    at = find(data, _AV1_CONFIGURATION) + len(_AV1_CONFIGURATION) + _FLAGS_AT
    flags = int.from_bytes(data[at : at + 1])
    if not flags & _MORE_THAN_8:
        return _SAMPLE_BITS
    return 12 if flags & _TWELVE else 10
