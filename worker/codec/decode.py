"""Decodes a file: bytes of any kind in, a `Photograph`, a `Header` or one of five errors out.

The content decides the kind, never the name. What a decoder raises is translated here, its door.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from jobs.errors import (
    JobError,
    PhotoCorrupt,
    PhotoEmpty,
    PhotoTooLarge,
    PhotoTruncated,
    PhotoUnsupported,
)
from worker.codec import heif, jp2, jpeg, png, raster, tiff_reader
from worker.codec.header import Header, PageHeader
from worker.codec.photograph import Container, Page, Photograph
from worker.codec.stored import Stored

_SIGNATURES: tuple[tuple[bytes, Container], ...] = (
    (jpeg.SIGNATURE, Container.JPEG),
    (png.SIGNATURE, Container.PNG),
    *((signature, Container.TIFF) for signature in tiff_reader.SIGNATURES),
    (b"BM", Container.BMP),
    (b"GIF8", Container.GIF),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Container.JP2),
    (b"\xff\x4f\xff\x51", Container.JP2),
)
_LONGEST_SIGNATURE = 12
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_ANY_BRANDS = {b"mif1", b"msf1", b"miaf"}
"""Of a file that says only among its compatible brands what it is."""
_MOST_BRANDS_BYTES = 256


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
    container = _tell_container(data)
    notes: list[str] = []
    with _translated(container):
        pages = _read_pages(data, container, max_pixels=max_pixels, notes=notes)
    return Photograph(container, pages, tuple(dict.fromkeys(notes)))


def read_header(data: Stored, *, max_pixels: int) -> Header:
    """Read a file's header, and check of it all that can be told without its samples.

    Args:
        data: the file, of which only a part is looked at.
        max_pixels: as for `decode`.

    Raises:
        PhotoEmpty: no bytes.
        PhotoUnsupported: not a picture, or of a kind that can't be restored faithfully.
        PhotoTruncated: the file ends before the picture does.
        PhotoCorrupt: the header is damaged.
        PhotoTooLarge: more pixels than `max_pixels`.
    """
    container = _tell_container(data)
    with _translated(container):
        return Header(container, _read_page_headers(data, container, max_pixels=max_pixels))


@contextmanager
def _translated(container: Container) -> Iterator[None]:
    """Give what a decoder raises a name of ours; what a store raises has one."""
    try:
        yield
    except JobError:
        raise
    except MemoryError as error:
        raise PhotoTooLarge("decoding needs more memory than this worker has") from error
    except Exception as error:
        if "truncated" in str(error):
            raise PhotoTruncated(f"the {container} decoder says: {error}") from error
        raise PhotoCorrupt(f"the {container} decoder says: {error!r}") from error


def _tell_container(data: Stored) -> Container:
    if not len(data):
        raise PhotoEmpty("the file has no bytes")
    start = bytes(data[:_LONGEST_SIGNATURE])
    for signature, container in _SIGNATURES:
        if start.startswith(signature):
            return container
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return Container.WEBP
    if start[4:8] == b"ftyp":
        brands = _read_brands(data)
        if brands & _AVIF_BRANDS:
            return Container.AVIF
        if brands & _HEIC_BRANDS:
            return Container.HEIC
    raise PhotoUnsupported("the content isn't that of a known kind of picture")


def _read_brands(data: Stored) -> set[bytes]:
    """Return what an ISO media file says that it is (ISO 14496-12, 4.3)."""
    major = bytes(data[8:12])
    if major not in _ANY_BRANDS:
        return {major}
    length = min(int.from_bytes(data[:4]), _MOST_BRANDS_BYTES)
    compatible = bytes(data[16:length])
    return {compatible[at : at + 4] for at in range(0, len(compatible), 4)}


def _read_pages(
    data: bytes, container: Container, *, max_pixels: int, notes: list[str]
) -> tuple[Page, ...]:
    if container is Container.TIFF:
        return tiff_reader.read(data, max_pixels=max_pixels, notes=notes)
    if container is Container.JPEG:
        return (jpeg.read(data, max_pixels=max_pixels, notes=notes),)
    if container is Container.PNG:
        return (png.read(data, max_pixels=max_pixels, notes=notes),)
    if container is Container.JP2:
        return (jp2.read(data, max_pixels=max_pixels, notes=notes),)
    if container is Container.HEIC:
        raster.check_complete(data, container)
        return (heif.read(data, max_pixels=max_pixels, notes=notes),)
    return (raster.read(data, container=container, max_pixels=max_pixels, notes=notes),)


def _read_page_headers(
    data: Stored, container: Container, *, max_pixels: int
) -> tuple[PageHeader, ...]:
    if container is Container.TIFF:
        return tiff_reader.read_header(data, max_pixels=max_pixels)
    if container is Container.JPEG:
        return (jpeg.read_header(data, max_pixels=max_pixels),)
    if container is Container.PNG:
        return (png.read_header(data, max_pixels=max_pixels),)
    if container is Container.JP2:
        return (jp2.read_header(data, max_pixels=max_pixels),)
    if container is Container.HEIC:
        raster.check_complete(data, container)
        return (heif.read_header(bytes(data[:]), max_pixels=max_pixels),)
    return (raster.read_header(data, container=container, max_pixels=max_pixels),)
