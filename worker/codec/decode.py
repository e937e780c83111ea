"""Decodes a file: bytes of any kind in, a `Photograph` or one of five errors out.

The content decides the kind, never the name. What a decoder raises is translated here, its door.
"""

from jobs.errors import (
    Permanent,
    PhotoCorrupt,
    PhotoEmpty,
    PhotoTooLarge,
    PhotoTruncated,
    PhotoUnsupported,
)
from worker.codec import jpeg, png, raster, tiff_reader
from worker.codec.photograph import Container, Page, Photograph

_SIGNATURES: tuple[tuple[bytes, Container], ...] = (
    (jpeg.SIGNATURE, Container.JPEG),
    (png.SIGNATURE, Container.PNG),
    *((signature, Container.TIFF) for signature in tiff_reader.SIGNATURES),
    (b"BM", Container.BMP),
    (b"GIF8", Container.GIF),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Container.JP2),
    (b"\xff\x4f\xff\x51", Container.JP2),
)
_AVIF_BRANDS = {b"avif", b"avis"}


def decode(data: bytes, *, max_pixels: int) -> Photograph:
    """Decode a file.

    Args:
        data: the whole file.
        max_pixels: the most that all its pages together may have; asked before decoding.

    Raises:
        PhotoEmpty: no bytes.
        PhotoUnsupported: not a picture, or of a kind that can't be restored faithfully.
        PhotoTruncated: the file ends before the picture does.
        PhotoCorrupt: the content is damaged.
        PhotoTooLarge: more pixels than `max_pixels`, or than memory holds.
    """
    if not data:
        raise PhotoEmpty("the file has no bytes")
    container = _tell_container(data)
    notes: list[str] = []
    try:
        pages = _read_pages(data, container, max_pixels=max_pixels, notes=notes)
    except Permanent:
        raise
    except MemoryError as error:
        raise PhotoTooLarge("decoding needs more memory than this worker has") from error
    except Exception as error:
        if "truncated" in str(error):
            raise PhotoTruncated(f"the {container} decoder says: {error}") from error
        raise PhotoCorrupt(f"the {container} decoder says: {error!r}") from error
    return Photograph(container, pages, tuple(dict.fromkeys(notes)))


def _tell_container(data: bytes) -> Container:
    for signature, container in _SIGNATURES:
        if data.startswith(signature):
            return container
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Container.WEBP
    if data[4:8] == b"ftyp" and data[8:12] in _AVIF_BRANDS:
        return Container.AVIF
    raise PhotoUnsupported("the content isn't that of a known kind of picture")


def _read_pages(
    data: bytes, container: Container, *, max_pixels: int, notes: list[str]
) -> tuple[Page, ...]:
    if container is Container.TIFF:
        return tiff_reader.read(data, max_pixels=max_pixels, notes=notes)
    if container is Container.JPEG:
        return (jpeg.read(data, max_pixels=max_pixels, notes=notes),)
    if container is Container.PNG:
        return (png.read(data, max_pixels=max_pixels, notes=notes),)
    return (raster.read(data, container=container, max_pixels=max_pixels, notes=notes),)
