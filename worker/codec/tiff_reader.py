"""TIFF and BigTIFF files, read.

tifffile (with imagecodecs) decodes the samples: Pillow gives wrong ones for 16-bit planar,
MinIsWhite and RGB files. Descriptive fields are carried as raw bytes in an EXIF block.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from tifffile import (
    EXTRASAMPLE,
    PHOTOMETRIC,
    TiffFile,
    TiffFileError,
    TiffPage,
)

from jobs.errors import PhotoCorrupt, PhotoTruncated, PhotoUnsupported
from worker.codec import exif, ifd
from worker.codec.ifd import DamagedError, Directory, Layout, Table
from worker.codec.limits import check_pixels
from worker.codec.photograph import AlphaKind, Metadata, Page, Samples, TiffStorage
from worker.codec.tiff_checks import check_fields, check_samples, check_segments
from worker.codec.upright import make_page

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_XMP, _PHOTOSHOP, _ICC, _DESCRIPTION, _SUB_IFDS = 700, 34377, 34675, 270, 330
_LAYERS = 37724  # Photoshop's layers: they would show the picture before
# What describes how samples are stored: written anew, never copied.
_STRUCTURE = frozenset(
    (
        *range(254, 267),
        *(273, 274, 277, 278, 279, 280, 281, 282, 283, 284),
        *range(288, 294),
        *(296, 301, 317),
        *range(320, 326),
        *(_SUB_IFDS, 332, 333, 334, 336, 338, 339, 340, 341, 342, 347),
        *range(512, 533),
        *(559, 32997, 32998, _XMP, _PHOTOSHOP, _ICC, _LAYERS),
    )
)
_LAST_CLASSIC_TYPE = 12  # 13 points to a directory
_WHOLE_BYTE, _MAX_8_BIT = 8, 255
_ALPHA_KINDS: dict[int, AlphaKind] = {
    EXTRASAMPLE.UNSPECIFIED: AlphaKind.UNSPECIFIED,
    EXTRASAMPLE.ASSOCALPHA: AlphaKind.ASSOCIATED,
    EXTRASAMPLE.UNASSALPHA: AlphaKind.STRAIGHT,
}


def read(data: bytes, *, max_pixels: int, notes: list[str]) -> tuple[Page, ...]:
    """Decode all pages; reduced copies and masks, which would be stale, are left out."""
    layout, directories = _read_directories(data)
    try:
        with TiffFile(BytesIO(data)) as file:
            if len(file.pages) != len(directories):
                raise PhotoCorrupt(f"not all of the {len(directories)} pages can be read")
            chosen = _choose_pages(file, directories, data, max_pixels=max_pixels, notes=notes)
            return tuple(
                _read_page(page, directories[page.index].fields, layout, notes) for page in chosen
            )
    except TiffFileError as error:
        raise PhotoCorrupt(f"the TIFF reader says: {error}") from error


def _read_directories(data: bytes) -> tuple[Layout, list[Table]]:
    """Follow the chain: tifffile ends quietly where a directory is missing."""
    layout, link_at = ifd.read_header(data)
    directories: list[Table] = []
    seen: set[int] = set()
    while at := ifd.follow(data, link_at, layout):
        if at in seen:
            raise PhotoCorrupt("the TIFF directories run in a circle")
        seen.add(at)
        try:
            table = ifd.unpack(data, at, layout)
        except DamagedError as error:
            raise PhotoTruncated(f"page {len(seen)} is missing: {error}") from error
        directories.append(table)
        link_at = table.link_at
    if not directories:
        raise PhotoCorrupt("the TIFF file has no page")
    return layout, directories


def _choose_pages(
    file: TiffFile, directories: list[Table], data: bytes, *, max_pixels: int, notes: list[str]
) -> list[TiffPage]:
    chosen: list[TiffPage] = []
    taken = 0
    for page in file.pages:
        assert isinstance(page, TiffPage)  # noqa: S101 - frames only come with `useframes`
        name = f"page {page.index + 1}"
        if page.subfiletype & (_REDUCED | _MASK) and len(file.pages) > 1:
            notes.append(f"{name} is a reduced copy or a mask and was left out")
            continue
        taken = check_pixels(page.imagewidth, page.imagelength, max_pixels=max_pixels, taken=taken)
        check_fields(page, directories[page.index], name)
        check_samples(page, name)
        check_segments(page, data, name, max_pixels=max_pixels)
        chosen.append(page)
    if not chosen:
        raise PhotoUnsupported("all pages of the TIFF file are reduced copies or masks")
    return chosen


def _read_page(page: TiffPage, fields: Directory, layout: Layout, notes: list[str]) -> Page:
    name = f"page {page.index + 1}"
    planes = np.moveaxis(page.asarray(maxworkers=1).reshape(page.shaped)[:, 0], 0, 2)
    samples = planes.reshape(*planes.shape[:2], -1)
    if page.photometric == PHOTOMETRIC.PALETTE:
        samples = _apply_palette(samples[:, :, 0], page)
        notes.append(f"{name}: palette colours were stored as RGB")
    elif page.bitspersample < _WHOLE_BYTE:
        samples = samples.astype(np.uint8) * np.uint8(_MAX_8_BIT // (2**page.bitspersample - 1))
        notes.append(f"{name}: {page.bitspersample}-bit gray was stored as 8-bit gray")
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        samples = samples.copy()
        samples[:, :, 0] = np.iinfo(samples.dtype).max - samples[:, :, 0]
        notes.append(f"{name}: values where 0 is white were inverted")
    if _LAYERS in fields or _SUB_IFDS in fields:
        notes.append(f"{name}: layers or reduced copies beside the picture were left out")
    return make_page(
        samples,
        _read_metadata(fields, layout),
        notes=notes,
        orientation=exif.read_orientation(fields, layout),
        alpha_kind=_ALPHA_KINDS[page.extrasamples[0]] if page.extrasamples else AlphaKind.STRAIGHT,
        storage=TiffStorage(
            layout,
            compression=int(page.compression),
            predictor=int(page.predictor),
            tile=(page.tilelength, page.tilewidth) if page.is_tiled else None,
        ),
    )


def _apply_palette(indices: NDArray[np.uint8], page: TiffPage) -> Samples:
    """Look the colours up: `(H, W)` to `(H, W, 3) uint8`."""
    palette = page.colormap
    if palette is None or int(indices.max()) >= palette.shape[1]:
        raise PhotoCorrupt(f"page {page.index + 1} has indices outside its palette")
    # The specification says 16 bits; files with 8-bit values in them are common.
    colours = palette >> 8 if palette.max() > _MAX_8_BIT else palette
    return colours.T.astype(np.uint8)[indices]


def _read_metadata(fields: Directory, layout: Layout) -> Metadata:
    def raw(code: int) -> bytes | None:
        field = fields.get(code)
        return field.value if field is not None and isinstance(field.value, bytes) else None

    kept = {
        code: field
        for code, field in fields.items()
        if code not in _STRUCTURE
        and (field.type <= _LAST_CLASSIC_TYPE or not isinstance(field.value, bytes))
    }
    # tifffile's own note of the array's shape would be wrong after a turn.
    if (raw(_DESCRIPTION) or b"").startswith(b'{"shape":'):
        kept.pop(_DESCRIPTION, None)
    return Metadata(
        icc=raw(_ICC),
        exif=exif.build(kept, layout) if kept else None,
        xmp=raw(_XMP),
        photoshop=raw(_PHOTOSHOP),
        resolution=exif.read_resolution(fields, layout),
    )
