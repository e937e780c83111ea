"""What of TIFF can be read faithfully: checks on a page before it is decoded.

tifffile is lenient: it fills missing tiles with zeros, ignores fields that it can't read, and
unpacks odd depths without scaling them. Whatever isn't surely read right is refused here.
"""

import math
import struct
from collections.abc import Callable

from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG, SAMPLEFORMAT, TiffPage

from jobs.errors import PhotoCorrupt, PhotoTruncated, PhotoUnsupported
from worker.codec import jp2_codestream, jpeg, webp
from worker.codec.ifd import Table
from worker.codec.limits import Limits, check_pixels
from worker.codec.stored import Stored

_BILEVEL = {COMPRESSION.CCITTRLE, COMPRESSION.CCITTFAX3, COMPRESSION.CCITTFAX4}
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
    COMPRESSION.LZMA,
    COMPRESSION.ZSTD,
    COMPRESSION.WEBP,
    COMPRESSION.LERC,
    COMPRESSION.JPEG2000,
    COMPRESSION.APERIO_JP2000_RGB,
}
# Fields without which the samples would be misread.
_DECISIVE = frozenset(
    (*range(256, 260), 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339)
)
COLOURS: dict[int, int] = {
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.YCBCR: 3,
    PHOTOMETRIC.SEPARATED: 4,
    PHOTOMETRIC.CIELAB: 3,
    PHOTOMETRIC.ICCLAB: 3,
}
_MIN_TILE_PIXELS = 2**20
_WHOLE_BYTE = 8
_BITS = {1: {1, 2, 4, 8, 16}, 3: {8, 16}, 4: {8, 16}}  # by the number of colours
_FLOAT_BITS = {16, 32, 64}
_FLOAT_COLOURS = {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB}
_CMYK_INKS = 1
_PLANES = {PLANARCONFIG.CONTIG, PLANARCONFIG.SEPARATE}
"""With any other number tifffile decodes only a part of the tiles, and leaves the rest unfilled."""


def check_fields(page: TiffPage, table: Table, name: str) -> None:
    """Check that no field which decides samples was ignored."""
    declared = table.fields.keys() | table.skipped
    ignored = (declared & _DECISIVE) - {tag.code for tag in page.tags}
    if ignored:
        raise PhotoCorrupt(f"{name}: the TIFF fields {sorted(ignored)} can't be read")


def check_samples(page: TiffPage, name: str) -> None:
    """Check the kind of samples."""
    colours = COLOURS.get(page.photometric)
    if colours is None:
        raise PhotoUnsupported(f"{name}: {_name(page.photometric)} colour isn't supported")
    _check_numbers(page, colours, name)
    extra = page.samplesperpixel - colours
    if extra not in {0, 1} or (
        extra and (page.photometric == PHOTOMETRIC.PALETTE or page.bitspersample < _WHOLE_BYTE)
    ):
        raise PhotoUnsupported(f"{name}: {page.samplesperpixel} channels aren't supported")
    if page.photometric == PHOTOMETRIC.SEPARATED:
        _check_inks(page, name)
    if page.planarconfig not in _PLANES:
        raise PhotoCorrupt(f"{name}: {page.planarconfig} isn't a way to lay out channels")
    if page.imagedepth != 1:
        raise PhotoUnsupported(f"{name}: volumes aren't supported")
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression != COMPRESSION.JPEG:
        raise PhotoUnsupported(f"{name}: YCbCr without JPEG compression isn't supported")
    if page.compression not in _COMPRESSIONS:
        raise PhotoUnsupported(f"{name}: {_name(page.compression)} compression isn't supported")


def _check_numbers(page: TiffPage, colours: int, name: str) -> None:
    """Check the type of samples."""
    if page.sampleformat == SAMPLEFORMAT.IEEEFP and page.photometric in _FLOAT_COLOURS:
        known = _FLOAT_BITS
    elif page.sampleformat == SAMPLEFORMAT.UINT:
        known = _BITS[colours]
    else:
        raise PhotoUnsupported(f"{name}: {_name(page.sampleformat)} samples aren't supported")
    if page.compression in _BILEVEL:
        known = {1}
    if page.bitspersample not in known:
        raise PhotoUnsupported(f"{name}: {page.bitspersample} bits a sample aren't supported")


def _check_inks(page: TiffPage, name: str) -> None:
    """Check that four inks are those of CMYK."""
    for tag in ("InkSet", "NumberOfInks"):
        expected = {"InkSet": _CMYK_INKS, "NumberOfInks": COLOURS[PHOTOMETRIC.SEPARATED]}[tag]
        if page.tags.valueof(tag, expected) != expected:
            raise PhotoUnsupported(f"{name}: inks other than CMYK aren't supported")


def _name(number: int) -> str:
    return str(getattr(number, "name", number))


def check_segments(page: TiffPage, file_bytes: int, name: str, *, limits: Limits) -> None:
    """Check that every strip or tile is there, in a file of so many bytes."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    expected = math.prod(page.chunked)
    if len(segments) < expected or not all(at and length for at, length in segments[:expected]):
        raise PhotoCorrupt(f"{name}: strips or tiles are missing")
    if any(at + length > file_bytes for at, length in segments):
        raise PhotoTruncated(f"{name}: the file ends before its strips or tiles do")
    stored = sum(page.databytecounts)
    if page.compression == COMPRESSION.NONE and stored * 8 < page.size * page.bitspersample:
        raise PhotoTruncated(f"{name}: {stored} bytes are too few for its samples")
    if page.is_tiled:
        check_pixels(page.tilewidth, page.tilelength, limits=_tile_limits(limits))


def check_streams(page: TiffPage, data: Stored, name: str, *, limits: Limits) -> None:
    """Check that strips or tiles which are pictures of their own unfold to what they should."""
    measure = _MEASURES.get(page.compression)
    if measure is None and page.compression != COMPRESSION.JPEG:
        return
    tile_limits = _tile_limits(limits)
    for at, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        segment = bytes(data[at : at + length])
        if measure is None:
            jpeg.check(segment, limits=tile_limits)
            continue
        size = measure(segment)
        if size is None:
            raise PhotoCorrupt(f"{name}: a strip or tile isn't what its compression says")
        check_pixels(*size, limits=tile_limits)


def _measure_lerc(segment: bytes) -> tuple[int, int] | None:
    """Read the size of a LERC blob (Esri/lerc, Lerc2.h), None also for a deflated one."""
    version = int.from_bytes(segment[6:10], "little")
    at = 14 if version >= _LERC_WITH_CHECKSUM else 10
    if not segment.startswith(b"Lerc2 ") or at + 8 > len(segment):
        return None
    height, width = struct.unpack_from("<ii", segment, at)
    return width, height


_LERC_WITH_CHECKSUM = 3
_MEASURES: dict[int, Callable[[bytes], tuple[int, int] | None]] = {
    COMPRESSION.WEBP: webp.measure,
    COMPRESSION.LERC: _measure_lerc,
    COMPRESSION.JPEG2000: jp2_codestream.measure,
    COMPRESSION.APERIO_JP2000_RGB: jp2_codestream.measure,
}


def _tile_limits(limits: Limits) -> Limits:
    """Tiles at the edges are whole: a small page may need some more than its own pixels."""
    return limits.of_part(_MIN_TILE_PIXELS)
