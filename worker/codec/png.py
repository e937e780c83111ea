"""PNG files, 8 and 16 bits, read and written.

libpng (imagecodecs) decodes and encodes the samples, because Pillow cuts 16-bit colour to 8 bits.
imagecodecs has no door for chunks, so the few that carry metadata are read and written here.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import imagecodecs

from jobs.errors import PhotoCorrupt, PhotoTruncated
from worker.codec.limits import check_pixels
from worker.codec.photograph import Metadata, Page, Resolution, Samples, Unit
from worker.codec.upright import make_page

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = len(SIGNATURE) + 25  # the IHDR chunk is always 25 bytes long
_VERBATIM = {b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"sBIT"}
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_STALE_KEYWORDS = (b"Software\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
_MAX_PROFILE_BYTES = 64 * 2**20
_PALETTE, _WHOLE_BYTE = 3, 8
_CHUNK_FRAME_BYTES, _RESOLUTION_BYTES = 12, 9
_METRE = 1
_LEVEL = 3  # of scanned photographs: the size of level 6 in a third of its time


@dataclass(frozen=True, slots=True)
class _Chunk:
    type: bytes
    data: bytes


def read(data: bytes, *, max_pixels: int, notes: list[str]) -> Page:
    """Decode the one picture of a PNG file."""
    if len(data) < _HEADER_END:
        raise PhotoTruncated("the PNG file ends within its header")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    check_pixels(width, height, max_pixels=max_pixels)
    chunks = list(_read_chunks(data, notes))
    types = {chunk.type for chunk in chunks}
    if b"acTL" in types:
        notes.append("the file is an animation; only its first picture was kept")
    if colour == _PALETTE:
        notes.append("palette colours were stored as RGB")
    elif depth < _WHOLE_BYTE:
        notes.append(f"{depth}-bit gray was stored as 8-bit gray")
    try:
        samples: Samples = imagecodecs.png_decode(data)
    except imagecodecs.PngError as error:
        raise PhotoCorrupt(f"the PNG decoder says: {error}") from error
    # Significant bits are counted per channel, which the palette and the colour key change.
    changed = {b"sBIT"} if colour == _PALETTE or b"tRNS" in types else set()
    return make_page(samples, _read_metadata(chunks, _VERBATIM - changed, notes), notes=notes)


def _read_chunks(data: bytes, notes: list[str]) -> Iterator[_Chunk]:
    """Yield every chunk but the picture's own data, checked."""
    at = len(SIGNATURE)
    while True:
        if at + _CHUNK_FRAME_BYTES > len(data):
            raise PhotoTruncated("the PNG file ends before its last chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + _CHUNK_FRAME_BYTES + length
        if end > len(data):
            raise PhotoTruncated(f"the PNG file ends within a chunk {kind!r}")
        (stored,) = struct.unpack_from(">I", data, end - 4)
        body = memoryview(data)[at + 4 : end - 4]
        intact = zlib.crc32(body) == stored
        is_critical = not kind[0] & 0x20 or kind == b"tRNS"
        if not intact and is_critical:
            raise PhotoCorrupt(f"the checksum of a chunk {kind!r} doesn't match")
        if not intact:
            notes.append(f"a damaged chunk {kind.decode('latin-1')!r} was left out")
        elif kind == b"IEND":
            return
        elif kind != b"IDAT":
            yield _Chunk(kind, bytes(body[4:]))
        at = end


def _read_metadata(chunks: list[_Chunk], verbatim: set[bytes], notes: list[str]) -> Metadata:
    icc = exif = xmp = resolution = None
    kept: list[tuple[bytes, bytes]] = []
    for chunk in chunks:
        if chunk.type == b"iCCP":
            icc = _inflate(chunk.data.partition(b"\0")[2][1:])
        elif chunk.type == b"eXIf":
            exif = chunk.data
        elif chunk.type == b"pHYs" and len(chunk.data) == _RESOLUTION_BYTES:
            resolution = _read_resolution(chunk.data)
        elif chunk.type == b"iTXt" and chunk.data.startswith(_XMP_KEYWORD + b"\0"):
            xmp = _read_text(chunk.data)
        elif chunk.type in verbatim and not chunk.data.startswith(_STALE_KEYWORDS):
            kept.append((chunk.type, chunk.data))
    if icc == b"":
        notes.append("the ICC profile is damaged and was left out")
    return Metadata(icc or None, exif, xmp, resolution=resolution, chunks=tuple(kept))


def _inflate(packed: bytes) -> bytes:
    """Return b"" for what is damaged or would become unreasonably large."""
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(packed, _MAX_PROFILE_BYTES)
    except zlib.error:
        return b""
    return unpacked if unpacker.eof else b""


def _read_text(body: bytes) -> bytes | None:
    compressed = body[len(_XMP_KEYWORD) + 1 : len(_XMP_KEYWORD) + 2] == b"\x01"
    text = body[len(_XMP_KEYWORD) + 3 :].split(b"\0", 2)[-1]
    return (_inflate(text) if compressed else text) or None


def _read_resolution(body: bytes) -> Resolution | None:
    x, y, unit = struct.unpack(">IIB", body)
    if not x or not y:
        return None
    if unit == _METRE:
        return Resolution(Fraction(x, 100), Fraction(y, 100), Unit.CM)
    return Resolution(Fraction(x), Fraction(y), Unit.NONE)


def write(samples: Samples, metadata: Metadata, *, software: str, notes: list[str]) -> bytes:
    """Encode `(H, W)` or `(H, W, 2..4)` samples: gray or RGB, then perhaps straight alpha."""
    chunks = list(_make_chunks(metadata, software))
    if metadata.photoshop:
        notes.append("PNG has no place for the Photoshop and IPTC block")
    plain = bytes(imagecodecs.png_encode(samples, level=_LEVEL))
    head, body = plain[:_HEADER_END], plain[_HEADER_END:]
    return b"".join([head, *(_pack(chunk) for chunk in chunks), body])


def _make_chunks(metadata: Metadata, software: str) -> Iterator[_Chunk]:
    for kind, data in metadata.chunks:
        yield _Chunk(kind, data)
    if metadata.icc:
        yield _Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.resolution:
        yield _Chunk(b"pHYs", _pack_resolution(metadata.resolution))
    if metadata.exif:
        yield _Chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        yield _Chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp)
    for comment in metadata.comments:
        text = comment.rstrip(b"\0").decode("utf-8", "replace").encode("utf-8")
        yield _Chunk(b"iTXt", b"Comment\0\0\0\0\0" + text)
    yield _Chunk(b"tEXt", b"Software\0" + software.encode("latin-1", "replace"))


def _pack_resolution(resolution: Resolution) -> bytes:
    scale = {Unit.CM: Fraction(100), Unit.INCH: Fraction(10000, 254), Unit.NONE: Fraction(1)}
    factor = scale[resolution.unit]
    x, y = (min(round(value * factor), 2**31 - 1) for value in (resolution.x, resolution.y))
    return struct.pack(">IIB", x, y, resolution.unit is not Unit.NONE)


def _pack(chunk: _Chunk) -> bytes:
    body = chunk.type + chunk.data
    return struct.pack(">I", len(chunk.data)) + body + struct.pack(">I", zlib.crc32(body))
