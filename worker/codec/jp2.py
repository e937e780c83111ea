"""JPEG 2000 files, read; and lossless ones written, every box but the picture's own as it was.

In: a JP2 file or a bare codestream. Out: a `Page`; and a file again. OpenJPEG (imagecodecs) decodes
and encodes the samples. Source: ISO/IEC 15444-1, annex A.
"""

import struct
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from jobs.errors import PhotoCorrupt, PhotoTruncated, PhotoUnsupported
from worker.codec import jp2_boxes
from worker.codec.conversion import Scaled, widen
from worker.codec.header import PageHeader
from worker.codec.jp2_boxes import Box
from worker.codec.limits import Limits, check_pixels
from worker.codec.photograph import Jp2Storage, Metadata, Page
from worker.codec.stored import Stored
from worker.codec.upright import Reading, make_page, read_exif

START = b"\xff\x4f\xff\x51"
_END = b"\xff\xd9"
_SIZE = struct.Struct(">HIIIIIIIIH")  # capabilities, sizes and offsets, number of components
_SIZE_AT, _COMPONENTS_AT, _COMPONENT_BYTES = 6, 42, 3
_STYLE, _WAVELETS_AT, _REVERSIBLE = b"\xff\x52", 13, b"\1"
_SIGNED = 0x80
_MAX_BITS, _WHOLE_BYTE, _RGB_CHANNELS, _MAX_CHANNELS = 16, 8, 3, 4
_HEADER_BYTES = 4096  # of a codestream: all that is read for its header
_PLAIN_SPACES = {16, 17}  # sRGB and gray, numbers of `colr`


@dataclass(frozen=True, slots=True)
class Size:
    """What a picture's header tells; of each channel its depth and its spacing, as stored."""

    width: int
    height: int
    depths: bytes
    spacings: bytes

    @property
    def bits(self) -> int:
        """Of a sample of the first channel."""
        return (self.depths[0] & ~_SIGNED) + 1


def measure(data: bytes) -> tuple[int, int] | None:
    """Return the width and height that a picture's header gives, None where there is none."""
    size = read_size(data[max(0, data.find(START)) :])
    return (size.width, size.height) if size is not None else None


def read_size(codestream: bytes) -> Size | None:
    """Read the header of a codestream (A.5.1), None where there is none."""
    if not codestream.startswith(START) or len(codestream) < _COMPONENTS_AT:
        return None
    _, right, bottom, left, top, *_, number = _SIZE.unpack_from(codestream, _SIZE_AT)
    end = _COMPONENTS_AT + _COMPONENT_BYTES * number
    components = codestream[_COMPONENTS_AT:end]
    if not number or end > len(codestream):
        return None
    spacings = components[1::_COMPONENT_BYTES] + components[2::_COMPONENT_BYTES]
    return Size(right - left, bottom - top, components[::_COMPONENT_BYTES], spacings)


def read(data: bytes, *, limits: Limits, notes: list[str]) -> Page:
    """Decode a file."""
    boxes: list[Box] = [] if data.startswith(START) else list(jp2_boxes.split(data))
    codestream = jp2_boxes.find(boxes, jp2_boxes.CODESTREAM) if boxes else data
    size = _check(codestream, boxes, limits=limits)
    if not codestream.rstrip(b"\0").endswith(_END):
        raise PhotoTruncated("the JPEG 2000 data ends before its end marker")
    samples: NDArray[Any] = np.atleast_3d(imagecodecs.jpeg2k_decode(codestream))
    if samples.shape != (size.height, size.width, len(size.depths)):
        raise PhotoCorrupt(f"the JPEG 2000 decoder gave samples of shape {samples.shape}")
    reading = Reading(alpha_kind=jp2_boxes.read_alpha_kind(boxes))
    if boxes and size.bits >= _WHOLE_BYTE and is_lossless(codestream):
        reading = _keep(size.bits, boxes, reading)
    elif size.bits not in {_WHOLE_BYTE, _MAX_BITS}:
        samples = widen(samples, size.bits)
        notes.append(f"samples of {size.bits} bits were spread over the full range of their type")
    metadata = jp2_boxes.read_metadata(boxes) if boxes else Metadata()
    return make_page(samples, metadata, notes=notes, reading=reading)


def read_header(data: Stored, *, limits: Limits) -> PageHeader:
    """Read the boxes and the codestream's own header."""
    is_bare = bytes(data[: len(START)]) == START
    boxes = [] if is_bare else list(jp2_boxes.split(data, longest=_HEADER_BYTES))
    start = bytes(data[:_HEADER_BYTES]) if is_bare else jp2_boxes.find(boxes, jp2_boxes.CODESTREAM)
    size = _check(start, boxes, limits=limits)
    metadata = jp2_boxes.read_metadata(boxes)
    _, orientation, resolution = read_exif(metadata, [])
    colours = 1 if len(size.depths) < _RGB_CHANNELS else _RGB_CHANNELS
    has_alpha = len(size.depths) > colours
    return PageHeader(
        width=size.width,
        height=size.height,
        bits=size.bits,
        colours=colours,
        compression="jpeg2000",
        alpha=jp2_boxes.read_alpha_kind(boxes) if has_alpha else None,
        icc=metadata.icc is not None,
        orientation=orientation,
        resolution=resolution,
        lossless=bool(boxes) and size.bits >= _WHOLE_BYTE and is_lossless(start),
    )


def _check(codestream: bytes, boxes: list[Box], *, limits: Limits) -> Size:
    """Check what can be told without the samples."""
    size = read_size(codestream)
    if size is None:
        raise PhotoCorrupt("the JPEG 2000 file has no picture")
    check_pixels(size.width, size.height, limits=limits)
    if boxes and jp2_boxes.read_side_px(boxes) != (size.height, size.width):
        raise PhotoCorrupt("the JPEG 2000 file gives two sizes of its picture")
    _check_kind(size, boxes)
    return size


def _check_kind(size: Size, boxes: list[Box]) -> None:
    if len(set(size.depths)) > 1 or len(size.depths) > _MAX_CHANNELS or size.depths[0] & _SIGNED:
        raise PhotoUnsupported("JPEG 2000 with signed or several kinds of channels isn't supported")
    if size.bits > _MAX_BITS or set(size.spacings) != {1}:
        raise PhotoUnsupported("JPEG 2000 with reduced channels or over 16 bits isn't supported")
    header = list(jp2_boxes.split(jp2_boxes.find(boxes, jp2_boxes.HEADER)))
    colour = jp2_boxes.find(header, b"colr")
    if jp2_boxes.find(header, b"pclr"):
        raise PhotoUnsupported("JPEG 2000 with a palette isn't supported")
    if colour[:1] == b"\1" and int.from_bytes(colour[3:7]) not in _PLAIN_SPACES:
        raise PhotoUnsupported("JPEG 2000 with colours other than RGB or gray isn't supported")


def is_lossless(codestream: bytes) -> bool:
    """Tell from a codestream's start whether its wavelets lose nothing (A.6.1)."""
    at = codestream.find(_STYLE) + _WAVELETS_AT
    return codestream[at : at + 1] == _REVERSIBLE


def _keep(bits: int, boxes: list[Box], reading: Reading) -> Reading:
    others = tuple(box for box in boxes if box[0] != jp2_boxes.CODESTREAM)
    storage = Jp2Storage(others, bits)
    if bits in {_WHOLE_BYTE, _MAX_BITS}:
        return Reading(alpha_kind=reading.alpha_kind, storage=storage)
    scaled = Scaled(0, 2**bits - 1, _MAX_BITS)
    return Reading(alpha_kind=reading.alpha_kind, storage=storage, conversion=scaled, bits=bits)


def write(samples: NDArray[Any], metadata: Metadata, storage: Jp2Storage) -> bytes:
    """Encode `(H, W)` or `(H, W, C)` samples without loss, among the master's boxes."""
    codestream = imagecodecs.jpeg2k_encode(
        np.ascontiguousarray(samples),
        level=0,
        codecformat="j2k",
        reversible=True,
        bitspersample=storage.bits,
    )
    return jp2_boxes.join(storage.boxes, bytes(codestream), metadata, samples.shape[:2])
