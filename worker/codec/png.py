"""PNG files, 8 and 16 bits, read and written.

libpng (imagecodecs) decodes and encodes the samples, because Pillow cuts 16-bit colour to 8 bits.
imagecodecs has no door for chunks: they are read, checked and written here.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import imagecodecs
import numpy as np

from jobs.errors import PhotoCorrupt, PhotoTruncated
from worker.codec.colour_codes import make_profile
from worker.codec.header import PageHeader
from worker.codec.limits import Limits, check_pixels
from worker.codec.photograph import AlphaKind, Metadata, Page, Samples
from worker.codec.png_metadata import Chunk, make_chunks, read_metadata
from worker.codec.stored import Stored
from worker.codec.upright import make_page, read_exif
from worker.scratch import Space

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = len(SIGNATURE) + 25  # the IHDR chunk is always 25 bytes long
_PALETTE, _WHOLE_BYTE = 3, 8
_WITH_COLOUR, _WITH_ALPHA = 2, 4  # bits of the colour type
_END = b"IEND\xae\x42\x60\x82"
_TAIL_BYTES = 4096
_CHUNK_FRAME_BYTES = 12
_PROFILE_KIND = slice(16, 20)  # ICC.1:2022, 7.2
_CODES_BYTES, _GAMMA_UNIT = 4, 100_000
_SRGB_GAMMA, _SAME_GAMMA = 1 / 2.2, 0.02
_SPARE_BYTES = 1 << 20
"""Beside a fiftieth, and a byte a row: for frames, and what deflate adds where nothing is saved."""
_LEVEL = 3  # of scanned photographs: the size of level 6 in a third of its time


def read(data: bytes, *, limits: Limits, space: Space, notes: list[str]) -> Page:
    """Decode the one picture of a PNG file."""
    _, _, depth, colour = _read_size(data, limits=limits)
    chunks = list(_read_chunks(memoryview(data), notes))
    types = {kind for kind, _ in chunks}
    if b"acTL" in types:
        notes.append("the file is an animation; only its first picture was kept")
    if b"tRNS" in types and colour != _PALETTE:
        notes.append("the colour that stands for transparency was stored as an alpha channel")
    if colour == _PALETTE:
        notes.append("palette colours were stored as RGB")
    elif depth < _WHOLE_BYTE:
        notes.append(f"{depth}-bit gray was stored as 8-bit gray")
    try:
        samples: Samples = imagecodecs.png_decode(data)
    except imagecodecs.PngError as error:
        raise PhotoCorrupt(f"the PNG decoder says: {error}") from error
    converted = colour == _PALETTE or depth < _WHOLE_BYTE or b"tRNS" in types
    metadata = read_metadata(chunks, notes, converted=converted)
    metadata = _add_profile(metadata, notes, is_gray=not colour & _WITH_COLOUR)
    return make_page(samples, metadata, space=space, notes=notes)


def read_header(data: Stored, *, limits: Limits) -> PageHeader:
    """Read what stands before the samples, and look whether the file has its end."""
    width, height, depth, colour = _read_size(data, limits=limits)
    chunks = list(_read_chunks(data, [], before_samples=True))
    if _END not in bytes(data[max(0, len(data) - _TAIL_BYTES) :]):
        for _ in _read_chunks(data, []):  # to find out how it is broken
            pass
    metadata = _add_profile(read_metadata(chunks, []), [], is_gray=not colour & _WITH_COLOUR)
    _, orientation, resolution = read_exif(metadata, [])
    has_alpha = bool(colour & _WITH_ALPHA) or any(kind == b"tRNS" for kind, _ in chunks)
    return PageHeader(
        width=width,
        height=height,
        bits=depth,
        colours=3 if colour & _WITH_COLOUR and colour != _PALETTE else 1,
        palette=colour == _PALETTE,
        alpha=AlphaKind.STRAIGHT if has_alpha else None,
        compression="deflate",
        icc=metadata.icc is not None,
        orientation=orientation,
        resolution=resolution,
    )


def _add_profile(metadata: Metadata, notes: list[str], *, is_gray: bool) -> Metadata:
    """Add the profile that `cICP` stands for; say where `gAMA` tells of other tones than sRGB's."""
    if metadata.icc is not None:
        return metadata
    told = dict(metadata.chunks)
    if len(codes := told.get(b"cICP", b"")) == _CODES_BYTES:
        icc = make_profile(*codes[:2], is_gray=is_gray, notes=notes)
        return replace(metadata, icc=icc)
    gamma = int.from_bytes(told.get(b"gAMA", b"")) / _GAMMA_UNIT
    if gamma and b"sRGB" not in told and abs(gamma - _SRGB_GAMMA) > _SAME_GAMMA:
        notes.append(f"the gamma of {gamma:g} was kept, but the samples were taken for sRGB")
    return metadata


def _read_size(data: Stored, *, limits: Limits) -> tuple[int, int, int, int]:
    """Return width, height, bit depth and colour type."""
    if len(data) < _HEADER_END:
        raise PhotoTruncated("the PNG file ends within its header")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    check_pixels(width, height, limits=limits)
    return width, height, depth, colour


def _read_chunks(
    data: Stored, notes: list[str], *, before_samples: bool = False
) -> Iterator[Chunk]:
    """Yield every chunk but the picture's own data, checked."""
    at = len(SIGNATURE)
    while True:
        kind, end = _read_frame(data, at)
        if before_samples and kind == b"IDAT":
            return
        (stored,) = struct.unpack(">I", data[end - 4 : end])
        body = data[at + 4 : end - 4]
        intact = zlib.crc32(body) == stored
        is_critical = not kind[0] & 0x20 or kind == b"tRNS"
        if not intact and is_critical:
            raise PhotoCorrupt(f"the checksum of a chunk {kind.decode('latin-1')!r} doesn't match")
        if not intact:
            notes.append(f"a damaged chunk {kind.decode('latin-1')!r} was left out")
        elif kind == b"IEND":
            return
        elif kind != b"IDAT":
            yield kind, bytes(body[4:])
        at = end


def _read_frame(data: Stored, at: int) -> tuple[bytes, int]:
    """Return a chunk's type and where it ends."""
    if at + _CHUNK_FRAME_BYTES > len(data):
        raise PhotoTruncated("the PNG file ends before its last chunk")
    length, kind = struct.unpack(">I4s", data[at : at + 8])
    end = at + _CHUNK_FRAME_BYTES + int(length)
    if end > len(data):
        raise PhotoTruncated(f"the PNG file ends within a chunk {kind.decode('latin-1')!r}")
    return kind, end


def write(
    target: BinaryIO,
    samples: Samples,
    metadata: Metadata,
    space: Space,
    *,
    software: str,
    notes: list[str],
) -> None:
    """Encode `(H, W)` or `(H, W, 2..4)` samples: gray or RGB, then perhaps straight alpha."""
    # Without room given it, imagecodecs makes the file twice.
    most_bytes = samples.nbytes + samples.nbytes // 50 + len(samples) + _SPARE_BYTES
    room = space.empty((most_bytes,), np.uint8)
    plain = memoryview(
        imagecodecs.png_encode(samples, level=_LEVEL, out=room)  # type: ignore[arg-type]
    )
    target.write(plain[:_HEADER_END])
    kind = b"GRAY" if samples.shape[2:] in {(), (2,)} else b"RGB "
    if metadata.icc is not None and metadata.icc[_PROFILE_KIND] != kind:
        name = metadata.icc[_PROFILE_KIND].decode("latin-1").strip()
        notes.append(f"an ICC profile for {name} was kept, which PNG's readers leave out here")
    for chunk in make_chunks(metadata, software, notes):
        target.write(_pack(*chunk))
    target.write(plain[_HEADER_END:])


def _pack(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
