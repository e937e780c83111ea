"""WebP files: what their headers tell, and lossless ones written.

In: a file's bytes, or samples with metadata. Out: a size or a kind, or a file. The specification is
RFC 9649.
"""

from collections.abc import Iterator
from io import BytesIO

from PIL import Image

from worker.codec.photograph import Metadata, Samples

MAX_SIDE_PX = 16_383
_RIFF_HEADER_BYTES, _CHUNK_HEADER_BYTES = 12, 8
_SIZE_BYTES = 10  # as far into a chunk as its size reaches
_LOSSLESS, _LOSSY, _EXTENDED = b"VP8L", b"VP8 ", b"VP8X"
_KNOWN = {_LOSSLESS, _LOSSY, _EXTENDED, b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "}
_SIDE_MASK = 0x3FFF


def measure(data: bytes) -> tuple[int, int] | None:
    """Return the width and height that a file's header gives."""
    for kind, body in _read_chunks(data):
        if len(body) < _SIZE_BYTES and kind != _LOSSLESS:
            return None
        if kind == _EXTENDED:
            width, height = (int.from_bytes(body[at : at + 3], "little") for at in (4, 7))
            return width + 1, height + 1
        if kind == _LOSSY:
            width, height = (int.from_bytes(body[at : at + 2], "little") for at in (6, 8))
            return width & _SIDE_MASK, height & _SIDE_MASK
        if kind == _LOSSLESS:
            bits = int.from_bytes(body[1:5], "little")
            return (bits & _SIDE_MASK) + 1, (bits >> 14 & _SIDE_MASK) + 1
    return None


def is_lossless(data: bytes) -> bool:
    """Tell whether a still picture was stored without loss."""
    return any(kind == _LOSSLESS for kind, _ in _read_chunks(data))


def name_others(data: bytes) -> list[str]:
    """Say what a file has that isn't kept."""
    others = [kind.decode("latin-1") for kind, _ in _read_chunks(data) if kind not in _KNOWN]
    notes = [f"a chunk {kind!r} was left out" for kind in others]
    behind = len(data) - _file_end(data)
    if behind > 0:
        notes.append(f"{behind} bytes behind the picture were left out")
    return notes


def _file_end(data: bytes) -> int:
    """Return where a file ends by its own header; its length is rounded up to an even one."""
    length = int.from_bytes(data[4:8], "little")
    return _CHUNK_HEADER_BYTES + length + length % 2


def _read_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the start of each chunk."""
    at = _RIFF_HEADER_BYTES
    while at + _CHUNK_HEADER_BYTES <= min(len(data), _file_end(data)):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        body_at = at + _CHUNK_HEADER_BYTES
        yield data[at : at + 4], data[body_at : body_at + min(length, _SIZE_BYTES)]
        at = body_at + length + length % 2


def write(samples: Samples, metadata: Metadata, *, notes: list[str]) -> bytes:
    """Encode `(H, W, 3)` or `(H, W, 4)` uint8 samples without loss."""
    if metadata.photoshop or metadata.iptc or metadata.comments:
        notes.append("WebP has no place for IPTC blocks and comments")
    out = BytesIO()
    Image.fromarray(samples).save(
        out,
        "WEBP",
        lossless=True,
        exact=True,
        icc_profile=metadata.icc or b"",
        exif=metadata.exif or b"",
        xmp=metadata.xmp or b"",
    )
    return out.getvalue()
