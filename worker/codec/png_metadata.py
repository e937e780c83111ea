"""What the chunks of a PNG file tell beside its picture, and the chunks to write it down again.

In: chunks, each a type and its data. Out: `Metadata`; and chunks. Sources: PNG (Third Edition),
and for EXIF, IPTC and XMP in text the raw profiles of ImageMagick, which ExifTool reads and writes.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from worker.codec import photoshop
from worker.codec.photograph import Metadata, Resolution, Unit

Chunk = tuple[bytes, bytes]
"""Its type and its data."""

_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_VERBATIM = _TEXTS | {b"tIME", b"pCAL", b"sCAL", b"sPLT"}
_VERBATIM |= {b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"sBIT", b"bKGD"}
_OF_SAMPLES = {b"sBIT", b"bKGD"}
"""Given per channel and at the master's depth."""
_UNDERSTOOD = {b"iCCP", b"eXIf", b"pHYs"}
_UNDERSTOOD |= {b"IHDR", b"PLTE", b"tRNS", b"hIST", b"acTL", b"fcTL", b"fdAT"}
_SAFE_TO_COPY = 0x20  # bit of the type's last letter (5.4)
_XMP_KEYWORD, _SOFTWARE_KEYWORD = b"XML:com.adobe.xmp", b"Software"
_RAW_EXIF = {b"Raw profile type exif", b"Raw profile type APP1"}
_RAW_IPTC = {b"Raw profile type iptc", b"Raw profile type 8bim"}
_RAW_XMP = b"Raw profile type xmp"
_RAW = {*_RAW_EXIF, *_RAW_IPTC, _RAW_XMP}
_EXIF_MARK, _IPTC_MARK = b"Exif\0\0", b"\x1c"
_MAX_INFLATED_BYTES = 64 * 2**20
"""Of all chunks of a file together."""
_MOST_INFLATED = 1032  # times as many bytes: zlib's own bound
_RESOLUTION_BYTES, _METRE = 9, 1


@dataclass(slots=True)
class _Found:
    """What has been read so far; of anything that comes twice the first counts.

    Attributes:
        exif: from a chunk of its own; one written as text counts where there is none.
        xmp: likewise.
        room: how many bytes may still be inflated.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    exif_text: bytes | None = None
    xmp: bytes | None = None
    xmp_text: bytes | None = None
    photoshop: bytes | None = None
    room: int = _MAX_INFLATED_BYTES
    resolution: Resolution | None = None
    verbatim: list[Chunk] = field(default_factory=list)


def read_metadata(
    chunks: Sequence[Chunk], notes: list[str], *, converted: bool = False
) -> Metadata:
    """Return what chunks tell.

    Args:
        chunks: all but the picture's own data.
        notes: is appended to.
        converted: whether the samples get another depth or number of channels.
    """
    found = _Found()
    for kind, data in chunks:
        if kind in _TEXTS:
            _read_text_chunk(kind, data, found)
        elif kind in _VERBATIM or (kind not in _UNDERSTOOD and kind[3] & _SAFE_TO_COPY):
            if not (converted and kind in _OF_SAMPLES):
                found.verbatim.append((kind, data))
        elif kind in _UNDERSTOOD:
            _read_chunk(kind, data, found)
        else:
            notes.append(f"a chunk {kind.decode('latin-1')!r} was left out")
    if found.icc == b"":
        notes.append("the ICC profile is damaged and was left out")
    if found.xmp and found.xmp_text not in {None, found.xmp}:
        notes.append("a second XMP packet was left out")
    return Metadata(
        icc=found.icc or None,
        exif=found.exif_text if found.exif is None else found.exif,
        xmp=found.xmp or found.xmp_text,
        photoshop=found.photoshop,
        resolution=found.resolution,
        chunks=tuple(found.verbatim),
    )


def _read_chunk(kind: bytes, data: bytes, found: _Found) -> None:
    if kind == b"iCCP" and found.icc is None:
        found.icc = _inflate(data.partition(b"\0")[2][1:], found)
    elif kind == b"eXIf" and found.exif is None:
        found.exif = data
    elif kind == b"pHYs" and len(data) == _RESOLUTION_BYTES:
        found.resolution = _read_resolution(data)


def _read_text_chunk(kind: bytes, data: bytes, found: _Found) -> None:
    """Take EXIF, IPTC and XMP out of texts; all others stay as they are."""
    keyword, _, rest = data.partition(b"\0")
    if kind == b"iTXt" and keyword == _XMP_KEYWORD:
        found.xmp = found.xmp or _read_long_text(rest, found) or None
        return
    if keyword in _RAW and kind != b"iTXt":
        text = _inflate(rest[1:], found) if kind == b"zTXt" else rest
        if _read_raw(keyword, photoshop.read_raw_profile(text) or b"", found):
            return
    found.verbatim.append((kind, data))


def _read_raw(keyword: bytes, raw: bytes, found: _Found) -> bool:
    """Take what a raw profile holds; tell whether it is what its keyword says."""
    if keyword in _RAW_EXIF and raw.startswith(_EXIF_MARK):
        found.exif_text = found.exif_text or raw
    elif keyword in _RAW_IPTC and raw.startswith((_IPTC_MARK, *photoshop.MARKS)):
        block = photoshop.wrap(raw) if raw.startswith(_IPTC_MARK) else raw
        found.photoshop = found.photoshop or block
    elif keyword == _RAW_XMP and raw:
        found.xmp_text = found.xmp_text or raw
    else:
        return False
    return True


def _read_long_text(rest: bytes, found: _Found) -> bytes:
    """Return the text behind an iTXt chunk's keyword."""
    is_compressed = rest[:1] == b"\x01"
    text = rest[2:].split(b"\0", 2)[-1]
    return _inflate(text, found) if is_compressed else text


def _inflate(packed: bytes, found: _Found) -> bytes:
    """Return b"" for what is damaged or for which the file's room doesn't suffice."""
    if not found.room:  # which zlib would take for no limit
        return b""
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(packed, found.room)
    except zlib.error:
        found.room -= min(len(packed) * _MOST_INFLATED, found.room)
        return b""
    found.room -= len(unpacked)
    return unpacked if unpacker.eof else b""


def _read_resolution(body: bytes) -> Resolution | None:
    x, y, unit = struct.unpack(">IIB", body)
    if not x or not y:
        return None
    if unit == _METRE:
        return Resolution(Fraction(x, 100), Fraction(y, 100), Unit.CM)
    return Resolution(Fraction(x), Fraction(y), Unit.NONE)


def make_chunks(metadata: Metadata, software: str, notes: list[str]) -> Iterator[Chunk]:
    """Yield the chunks that stand before the picture's data."""
    yield from metadata.chunks
    if metadata.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.resolution:
        yield b"pHYs", _pack_resolution(metadata.resolution)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp
    if resources := photoshop.resources_of(metadata, notes):
        text = photoshop.write_raw_profile(b"iptc", resources)
        yield b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text)
    for comment in metadata.comments:
        yield b"iTXt", b"Comment\0\0\0\0\0" + _in_utf8(comment.rstrip(b"\0"))
    if not any(data.startswith(_SOFTWARE_KEYWORD + b"\0") for _, data in metadata.chunks):
        yield b"tEXt", _SOFTWARE_KEYWORD + b"\0" + software.encode("latin-1", "replace")


def _in_utf8(comment: bytes) -> bytes:
    """Return a comment, whose file doesn't tell its letters; what isn't UTF-8 is mostly Latin-1."""
    try:
        comment.decode("utf-8")
    except UnicodeDecodeError:
        return comment.decode("latin-1").encode("utf-8")
    return comment


def _pack_resolution(resolution: Resolution) -> bytes:
    scale = {Unit.CM: Fraction(100), Unit.INCH: Fraction(10000, 254), Unit.NONE: Fraction(1)}
    factor = scale[resolution.unit]
    x, y = (min(round(value * factor), 2**31 - 1) for value in (resolution.x, resolution.y))
    return struct.pack(">IIB", x, y, resolution.unit is not Unit.NONE)
