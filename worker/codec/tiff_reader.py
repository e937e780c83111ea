"""TIFF and BigTIFF files, read: bytes in, pages out.

The chain of directories is followed here and checked, page by page, before a sample is decoded.
"""

from dataclasses import replace

from tifffile import COMPRESSION, PHOTOMETRIC, SAMPLEFORMAT, TiffFile, TiffFileError, TiffPage

from jobs.errors import PhotoCorrupt, PhotoTruncated, PhotoUnsupported
from worker.codec import exif, ifd
from worker.codec.header import PageHeader
from worker.codec.ifd import DamagedError, Directory, Layout, Room, Table
from worker.codec.limits import Limits, check_pages, check_pixels
from worker.codec.native import ColourModel, name_special
from worker.codec.photograph import Page, TiffStorage
from worker.codec.stored import Stored, open_stored
from worker.codec.tiff_checks import (
    COLOURS,
    check_fields,
    check_samples,
    check_segments,
    check_streams,
)
from worker.codec.tiff_fields import (
    DESCRIPTION,
    ICC,
    LAYERS,
    SUB_IFDS,
    fields_of_samples,
    is_note_of_shape,
    read_metadata,
)
from worker.codec.tiff_samples import alpha_kind, is_lossless, read_samples
from worker.codec.upright import make_page
from worker.scratch import Space

SIGNATURES: tuple[bytes, ...] = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_MODELS: dict[int, ColourModel] = {
    PHOTOMETRIC.SEPARATED: ColourModel.CMYK,
    PHOTOMETRIC.CIELAB: ColourModel.LAB,
    PHOTOMETRIC.ICCLAB: ColourModel.LAB,
}
_SHARED_BYTES = 16 << 20
"""What values may make beside the file's own bytes where pages share them, as one profile."""
_MAX_DESCRIPTIVE_BYTES = 64  # of a value that a header is read for: numbers, not profiles


def read(data: Stored, *, limits: Limits, space: Space, notes: list[str]) -> tuple[Page, ...]:
    """Decode all pages; reduced copies and masks, which would be stale, are left out."""
    layout, directories = _read_directories(data, limits=limits)
    try:
        with TiffFile(open_stored(data)) as file:
            chosen = _choose_pages(file, directories, limits=limits, notes=notes)
            for page in chosen:
                check_streams(page, data, f"page {page.index + 1}", limits=limits)
            return tuple(
                _read_page(
                    page,
                    data,
                    directories[page.index].fields,
                    layout,
                    space=space,
                    notes=notes,
                )
                for page in chosen
            )
    except TiffFileError as error:
        raise PhotoCorrupt(f"the TIFF reader says: {error}") from error


def read_header(data: Stored, *, limits: Limits) -> tuple[PageHeader, ...]:
    """Read the directories of all pages, and look whether their strips or tiles are there."""
    layout, directories = _read_directories(data, limits=limits, longest=_MAX_DESCRIPTIVE_BYTES)
    try:
        with TiffFile(open_stored(data)) as file:
            chosen = _choose_pages(file, directories, limits=limits, notes=[])
            return tuple(_describe(page, directories[page.index].fields, layout) for page in chosen)
    except TiffFileError as error:
        raise PhotoCorrupt(f"the TIFF reader says: {error}") from error


def _describe(page: TiffPage, fields: Directory, layout: Layout) -> PageHeader:
    return PageHeader(
        width=page.imagewidth,
        height=page.imagelength,
        bits=page.bitspersample,
        colours=COLOURS[page.photometric],
        palette=page.photometric == PHOTOMETRIC.PALETTE,
        alpha=alpha_kind(page) if page.samplesperpixel > COLOURS[page.photometric] else None,
        compression=COMPRESSION(page.compression).name.lower(),
        sample_format=SAMPLEFORMAT(page.sampleformat).name.lower(),
        icc=ICC in fields,
        orientation=exif.read_orientation(fields, layout),
        resolution=exif.read_resolution(fields, layout),
        special=name_special(
            _MODELS.get(page.photometric, ColourModel.RGB),
            is_float=page.sampleformat == SAMPLEFORMAT.IEEEFP,
        ),
    )


def _read_directories(
    data: Stored, *, limits: Limits, longest: int | None = None
) -> tuple[Layout, list[Table]]:
    """Follow the chain: tifffile ends quietly where a directory is missing."""
    layout, link_at = ifd.read_header(data)
    directories: list[Table] = []
    seen: set[int] = set()
    room = Room.of(data, shared=_SHARED_BYTES)
    while at := ifd.follow(data, link_at, layout):
        if at in seen:
            raise PhotoCorrupt("the TIFF directories run in a circle")
        seen.add(at)
        check_pages(len(seen), limits=limits)
        try:
            table = ifd.unpack(data, at, layout, longest=longest, room=room)
        except DamagedError as error:
            raise PhotoTruncated(f"page {len(seen)} is missing: {error}") from error
        directories.append(table)
        link_at = table.link_at
    if not directories:
        raise PhotoCorrupt("the TIFF file has no page")
    return layout, directories


def _choose_pages(
    file: TiffFile, directories: list[Table], *, limits: Limits, notes: list[str]
) -> list[TiffPage]:
    if len(file.pages) != len(directories):
        raise PhotoCorrupt(f"not all of the {len(directories)} pages can be read")
    chosen: list[TiffPage] = []
    taken = 0
    for page in file.pages:
        assert isinstance(page, TiffPage)  # noqa: S101 - frames only come with `useframes`
        name = f"page {page.index + 1}"
        if page.subfiletype & (_REDUCED | _MASK) and len(file.pages) > 1:
            notes.append(f"{name} is a reduced copy or a mask and was left out")
            continue
        taken = check_pixels(page.imagewidth, page.imagelength, limits=limits, taken=taken)
        check_fields(page, directories[page.index], name)
        check_samples(page, name)
        check_segments(page, file.filehandle.size, name, limits=limits)
        chosen.append(page)
    if not chosen:
        raise PhotoUnsupported("all pages of the TIFF file are reduced copies or masks")
    return chosen


def _read_page(
    page: TiffPage,
    data: Stored,
    fields: Directory,
    layout: Layout,
    *,
    space: Space,
    notes: list[str],
) -> Page:
    orientation = exif.read_orientation(fields, layout)
    if orientation != 1 and is_note_of_shape(fields.get(DESCRIPTION)):
        fields = {code: field for code, field in fields.items() if code != DESCRIPTION}
        notes.append("tifffile's own note of the master's shape was left out")
    metadata = read_metadata(fields, layout)
    samples, reading = read_samples(page, data, metadata.icc, space, notes)
    if LAYERS in fields or SUB_IFDS in fields:
        name = f"page {page.index + 1}"
        notes.append(f"{name}: layers or reduced copies beside the picture were left out")
    storage = TiffStorage(
        layout,
        compression=int(page.compression),
        predictor=int(page.predictor),
        tile=(page.tilelength, page.tilewidth) if page.is_tiled else None,
        rows_per_strip=page.rowsperstrip,
        planar=int(page.planarconfig),
        photometric=int(page.photometric),
        bits=page.bitspersample,
        lossless=is_lossless(page, data),
        fields=fields_of_samples(fields),
    )
    return make_page(
        samples,
        metadata,
        space=space,
        notes=notes,
        reading=replace(reading, orientation=orientation, storage=storage),
    )
