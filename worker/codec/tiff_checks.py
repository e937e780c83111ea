"""What of TIFF can be read faithfully: checks on a page before it is decoded.

tifffile is lenient: it fills missing tiles with zeros, ignores fields that it can't read, and
unpacks odd depths without scaling them. Whatever isn't surely read right is refused here.
"""

import math

from tifffile import COMPRESSION, PHOTOMETRIC, SAMPLEFORMAT, TiffPage

from jobs.errors import PhotoCorrupt, PhotoTruncated, PhotoUnsupported
from worker.codec import jpeg
from worker.codec.ifd import Table
from worker.codec.limits import check_pixels

# Others hold a picture format of their own in each tile, with a header that could promise anything.
_COMPRESSIONS = {
    COMPRESSION.NONE,
    COMPRESSION.CCITTRLE,
    COMPRESSION.CCITTFAX3,
    COMPRESSION.CCITTFAX4,
    COMPRESSION.LZW,
    COMPRESSION.JPEG,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.PACKBITS,
}
# Fields without which the samples would be misread.
_DECISIVE = frozenset(
    (*range(256, 260), 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339)
)
_COLOURS: dict[int, int] = {
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.YCBCR: 3,
}
_MIN_TILE_PIXELS = 2**20
_WHOLE_BYTE = 8
_BITS = {1: {1, 2, 4, 8, 16}, 3: {8, 16}}  # by the number of colours


def check_fields(page: TiffPage, table: Table, name: str) -> None:
    """Check that no field which decides samples was ignored."""
    declared = table.fields.keys() | table.skipped
    ignored = (declared & _DECISIVE) - {tag.code for tag in page.tags}
    if ignored:
        raise PhotoCorrupt(f"{name}: the TIFF fields {sorted(ignored)} can't be read")


def check_samples(page: TiffPage, name: str) -> None:
    """Check the kind of samples."""
    colours = _COLOURS.get(page.photometric)
    bits = page.bitspersample
    if colours is None:
        raise PhotoUnsupported(f"{name}: {_name(page.photometric)} colour isn't supported")
    if page.sampleformat != SAMPLEFORMAT.UINT:
        raise PhotoUnsupported(f"{name}: {_name(page.sampleformat)} samples aren't supported")
    if bits not in _BITS[colours]:
        raise PhotoUnsupported(f"{name}: {bits} bits a sample aren't supported")
    extra = page.samplesperpixel - colours
    if extra not in {0, 1} or (
        extra and (page.photometric == PHOTOMETRIC.PALETTE or bits < _WHOLE_BYTE)
    ):
        raise PhotoUnsupported(f"{name}: {page.samplesperpixel} channels aren't supported")
    if page.imagedepth != 1:
        raise PhotoUnsupported(f"{name}: volumes aren't supported")
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression != COMPRESSION.JPEG:
        raise PhotoUnsupported(f"{name}: YCbCr without JPEG compression isn't supported")
    if page.compression not in _COMPRESSIONS:
        raise PhotoUnsupported(f"{name}: {_name(page.compression)} compression isn't supported")


def _name(number: int) -> str:
    return str(getattr(number, "name", number))


def check_segments(page: TiffPage, data: bytes, name: str, *, max_pixels: int) -> None:
    """Check that every strip or tile is there and unfolds to what it should."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    expected = math.prod(page.chunked)
    if len(segments) < expected or not all(at and length for at, length in segments[:expected]):
        raise PhotoCorrupt(f"{name}: strips or tiles are missing")
    if any(at + length > len(data) for at, length in segments):
        raise PhotoTruncated(f"{name}: the file ends before its strips or tiles do")
    stored = sum(page.databytecounts)
    if page.compression == COMPRESSION.NONE and stored * 8 < page.size * page.bitspersample:
        raise PhotoTruncated(f"{name}: {stored} bytes are too few for its samples")
    # The tiles at the edges are whole: a small page may need some more than its own pixels.
    limit = max(max_pixels, _MIN_TILE_PIXELS)
    if page.is_tiled:
        check_pixels(page.tilewidth, page.tilelength, max_pixels=limit)
    if page.compression == COMPRESSION.JPEG:
        for at, length in segments:
            jpeg.check(data[at : at + length], max_pixels=limit)
