"""Decodes a file: bytes of any kind in, a `Photograph`, a `Header` or one of five errors out.

The content decides the kind, never the name. What a decoder raises is translated here, its door.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

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
from worker.codec.limits import Limits
from worker.codec.photograph import Container, Page, Photograph
from worker.codec.stored import Stored
from worker.scratch import DEFAULT, Space

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


class Decode(Protocol):
    """Decodes a file, here or in a child process: what masters go through."""

    def __call__(self, data: Stored, *, limits: Limits) -> Photograph:
        """Do what `decode` does, and raise what it raises."""
        ...


def decode(data: Stored, *, limits: Limits, space: Space = DEFAULT) -> Photograph:
    """Decode a file.

    Args:
        data: the file.
        limits: the most that it may have; asked before decoding.
        space: room for its samples.

    Raises:
        PhotoEmpty: no bytes.
        PhotoUnsupported: not a picture, or of a kind that can't be restored faithfully.
        PhotoTruncated: the file ends before the picture does.
        PhotoCorrupt: the content is damaged.
        PhotoTooLarge: more of something than `limits` say, or than memory holds.
    """
    limits = limits.of_file(len(data))
    container = _tell_container(data)
    notes: list[str] = []
    with _translated(container):
        pages = _read_pages(data, container, limits=limits, space=space, notes=notes)
    return Photograph(container, pages, tuple(dict.fromkeys(notes)))


def read_header(data: Stored, *, limits: Limits) -> Header:
    """Read a file's header, and check of it all that can be told without its samples.

    Args:
        data: the file, of which only a part is looked at.
        limits: as for `decode`.

    Raises:
        PhotoEmpty: no bytes.
        PhotoUnsupported: not a picture, or of a kind that can't be restored faithfully.
        PhotoTruncated: the file ends before the picture does.
        PhotoCorrupt: the header is damaged.
        PhotoTooLarge: more of something than `limits` say.
    """
    limits = limits.of_file(len(data))
    container = _tell_container(data)
    with _translated(container):
        return Header(container, _read_page_headers(data, container, limits=limits))


@contextmanager
def _translated(container: Container) -> Iterator[None]:
    """Give what a decoder raises a name of ours; what a store raises has one."""
    try:
        yield
    except JobError:
        raise
    except MemoryError as error:
        raise PhotoTooLarge(
            "decoding takes more memory than it may (GPEN_DECODE_MEMORY)"
        ) from error
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
    data: Stored, container: Container, *, limits: Limits, space: Space, notes: list[str]
) -> tuple[Page, ...]:
    if container is Container.TIFF:
        return tiff_reader.read(data, limits=limits, space=space, notes=notes)
    whole = bytes(data[:])
    if container is Container.JPEG:
        return (jpeg.read(whole, limits=limits, space=space, notes=notes),)
    if container is Container.PNG:
        return (png.read(whole, limits=limits, space=space, notes=notes),)
    if container is Container.JP2:
        return (jp2.read(whole, limits=limits, space=space, notes=notes),)
    if container is Container.HEIC:
        raster.check_complete(whole, container)
        return (heif.read(whole, limits=limits, space=space, notes=notes),)
    return (raster.read(whole, container=container, limits=limits, space=space, notes=notes),)


def _read_page_headers(
    data: Stored, container: Container, *, limits: Limits
) -> tuple[PageHeader, ...]:
    if container is Container.TIFF:
        return tiff_reader.read_header(data, limits=limits)
    if container is Container.JPEG:
        return (jpeg.read_header(data, limits=limits),)
    if container is Container.PNG:
        return (png.read_header(data, limits=limits),)
    if container is Container.JP2:
        return (jp2.read_header(data, limits=limits),)
    if container is Container.HEIC:
        raster.check_complete(data, container)
        return (heif.read_header(bytes(data[:]), limits=limits),)
    return (raster.read_header(data, container=container, limits=limits),)
