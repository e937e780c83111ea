"""WebP, BMP, GIF, JPEG 2000 and AVIF files, read through Pillow.

Each kind goes straight to its own plug-in, so that no other parser sees the bytes.
"""

from collections.abc import Callable
from fractions import Fraction
from io import BytesIO

import numpy as np
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import Image
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.WebPImagePlugin import WebPImageFile

from jobs.errors import PhotoTruncated, PhotoUnsupported
from worker.codec.limits import check_pixels
from worker.codec.photograph import Container, Metadata, Page, Resolution, Unit
from worker.codec.upright import make_page

_OPEN: dict[Container, Callable[[BytesIO], ImageFile]] = {
    Container.WEBP: WebPImageFile,
    Container.BMP: BmpImageFile,
    Container.GIF: GifImageFile,
    Container.JP2: Jpeg2KImageFile,
    Container.AVIF: AvifImageFile,
}
_J2K_START = b"\xff\x4f\xff\x51"
# Where depth is stored: a mark, the byte's place behind it, the bits of it that mean more than 8.
_DEPTHS = {
    # Ssiz of the first component, stored less one (ISO 15444-1, A.5.1)
    Container.JP2: (_J2K_START, 38, 0x78),
    # high_bitdepth ("AV1 Codec ISO Media File Format Binding", 2.3)
    Container.AVIF: (b"av1C", 2, 0x40),
}
_BOX_HEADER_BYTES = 8
_BMP_INCHES_A_METRE = 39.3701  # Pillow's constant
_PLAIN_MODES = {"L", "LA", "RGB", "RGBA"}


def read(data: bytes, *, container: Container, max_pixels: int, notes: list[str]) -> Page:
    """Decode the first picture of a file of one of these kinds."""
    _check_complete(data, container)
    if _is_deep(data, container):
        raise PhotoUnsupported(f"{container} with more than 8 bits a sample isn't supported")
    with _OPEN[container](BytesIO(data)) as image:
        check_pixels(*image.size, max_pixels=max_pixels)
        if getattr(image, "n_frames", 1) > 1:
            notes.append("the file is an animation; only its first picture was kept")
        image.load()
        samples = np.asarray(_make_plain(image, notes))
        return make_page(samples, _read_metadata(image, container), notes=notes)


def _make_plain(image: Image, notes: list[str]) -> Image:
    if image.mode in _PLAIN_MODES:
        return image
    if image.mode == "1":
        notes.append("1-bit gray was stored as 8-bit gray")
        return image.convert("L")
    if image.mode in {"P", "PA"}:
        notes.append("palette colours were stored as RGB")
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    raise PhotoUnsupported(f"pictures of kind {image.mode} aren't supported")


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


def _read_resolution(dpi: tuple[float, float] | None, container: Container) -> Resolution | None:
    """Undo Pillow's conversion to dpi: BMP and JPEG 2000 count per metre."""
    if dpi is None or not all(value > 0 for value in dpi):
        return None
    if container is Container.BMP:
        x, y = (Fraction(round(value * _BMP_INCHES_A_METRE), 100) for value in dpi)
        return Resolution(x, y, Unit.CM)
    x, y = (Fraction(value).limit_denominator(10_000) for value in dpi)
    return Resolution(x, y, Unit.INCH)


def _check_complete(data: bytes, container: Container) -> None:
    """Compare the length that the file itself gives: not every decoder minds a missing end."""
    if container is Container.WEBP:
        expected = 8 + int.from_bytes(data[4:8], "little")
    elif container in {Container.JP2, Container.AVIF} and not data.startswith(_J2K_START):
        expected = _boxes_end(data)
    else:
        return
    if expected > len(data):
        raise PhotoTruncated(f"the file has {len(data)} of at least {expected} bytes")


def _boxes_end(data: bytes) -> int:
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


def _is_deep(data: bytes, container: Container) -> bool:
    """Tell from the header whether samples have more than 8 bits, which Pillow would cut."""
    mark, at, deep = _DEPTHS.get(container, (b"", 0, 0))
    header = data.partition(mark)[2] if mark else b""
    return len(header) > at and bool(header[at] & deep)
