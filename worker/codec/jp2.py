"""JPEG 2000 files, read; and lossless ones written, every box but the picture's own as it was.

In: a JP2 file or a bare codestream. Out: a `Page`; and a file again. OpenJPEG (imagecodecs) decodes
and encodes the samples.
"""

from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from jobs.errors import PhotoCorrupt, PhotoTruncated, PhotoUnsupported
from worker.codec import jp2_boxes
from worker.codec.conversion import Scaled, widen
from worker.codec.header import PageHeader
from worker.codec.jp2_boxes import Box
from worker.codec.jp2_channels import Channels, read_channels
from worker.codec.jp2_codestream import END, START, Size, is_reversible, read_size
from worker.codec.limits import Limits, check_pixels
from worker.codec.photograph import AlphaKind, Jp2Storage, Metadata, Page
from worker.codec.stored import Stored
from worker.codec.upright import Reading, make_page, read_exif
from worker.scratch import Space

_MAX_BITS, _WHOLE_BYTE, _MAX_CHANNELS = 16, 8, 4
_HEADER_BYTES = 4096  # of a codestream: all that is read for its header


def read(data: bytes, *, limits: Limits, space: Space, notes: list[str]) -> Page:
    """Decode a file."""
    boxes: list[Box] = [] if data.startswith(START) else list(jp2_boxes.split(data))
    codestreams = [body for kind, body in boxes if kind == jp2_boxes.CODESTREAM]
    if len(codestreams) > 1:
        notes.append(f"the file holds {len(codestreams)} pictures; only the first one was kept")
    codestream = (codestreams or [b""])[0] if boxes else data
    size, channels = _check(codestream, boxes, limits=limits)
    if not codestream.rstrip(b"\0").endswith(END):
        raise PhotoTruncated("the JPEG 2000 data ends before its end marker")
    samples: NDArray[Any] = np.atleast_3d(imagecodecs.jpeg2k_decode(codestream))
    if samples.shape != (size.height, size.width, len(size.depths)):
        raise PhotoCorrupt(f"the JPEG 2000 decoder gave samples of shape {samples.shape}")
    if channels.order != tuple(range(len(channels.order))):
        samples = samples[:, :, list(channels.order)]
    alpha = channels.alpha or AlphaKind.UNSPECIFIED
    if boxes and size.bits >= _WHOLE_BYTE and is_reversible(codestream):
        reading = _keep(size.bits, boxes, channels, alpha)
    else:
        reading = Reading(alpha_kind=alpha)
        samples = _spread(samples, size.bits, notes)
        notes += jp2_boxes.name_others(boxes)
    notes += jp2_boxes.name_repeated(boxes)
    metadata = jp2_boxes.read_metadata(boxes) if boxes else Metadata()
    return make_page(samples, metadata, space=space, notes=notes, reading=reading)


def _spread(samples: NDArray[Any], bits: int, notes: list[str]) -> NDArray[Any]:
    if bits in {_WHOLE_BYTE, _MAX_BITS}:
        return samples
    notes.append(f"samples of {bits} bits were spread over the full range of their type")
    return widen(samples, bits)


def read_header(data: Stored, *, limits: Limits) -> PageHeader:
    """Read the boxes and the codestream's own header."""
    is_bare = bytes(data[: len(START)]) == START
    boxes = [] if is_bare else list(jp2_boxes.split(data, longest=_HEADER_BYTES))
    start = bytes(data[:_HEADER_BYTES]) if is_bare else jp2_boxes.find(boxes, jp2_boxes.CODESTREAM)
    size, channels = _check(start, boxes, limits=limits)
    metadata = jp2_boxes.read_metadata(boxes)
    _, orientation, resolution = read_exif(metadata, [])
    return PageHeader(
        width=size.width,
        height=size.height,
        bits=size.bits,
        colours=channels.colours,
        compression="jpeg2000",
        alpha=channels.alpha,
        icc=metadata.icc is not None,
        orientation=orientation,
        resolution=resolution,
        lossless=bool(boxes) and size.bits >= _WHOLE_BYTE and is_reversible(start),
    )


def _check(codestream: bytes, boxes: list[Box], *, limits: Limits) -> tuple[Size, Channels]:
    """Check what can be told without the samples."""
    size = read_size(codestream)
    if size is None:
        raise PhotoCorrupt("the JPEG 2000 file has no picture")
    check_pixels(size.width, size.height, limits=limits)
    if boxes and jp2_boxes.read_side_px(boxes) != (size.height, size.width):
        raise PhotoCorrupt("the JPEG 2000 file gives two sizes of its picture")
    _check_kind(size)
    header = list(jp2_boxes.split(jp2_boxes.find(boxes, jp2_boxes.HEADER)))
    if jp2_boxes.find(header, b"pclr"):
        raise PhotoUnsupported("JPEG 2000 with a palette isn't supported")
    return size, read_channels(header, len(size.depths))


def _check_kind(size: Size) -> None:
    if len(set(size.depths)) > 1 or len(size.depths) > _MAX_CHANNELS or size.is_signed:
        raise PhotoUnsupported("JPEG 2000 with signed or several kinds of channels isn't supported")
    if size.bits > _MAX_BITS or set(size.spacings) != {1}:
        raise PhotoUnsupported("JPEG 2000 with reduced channels or over 16 bits isn't supported")


def _keep(bits: int, boxes: list[Box], channels: Channels, alpha: AlphaKind) -> Reading:
    others = tuple(box for box in boxes if box[0] != jp2_boxes.CODESTREAM)
    storage = Jp2Storage(others, bits, channels.order)
    if bits in {_WHOLE_BYTE, _MAX_BITS}:
        return Reading(alpha_kind=alpha, storage=storage)
    scaled = Scaled(0, 2**bits - 1, _MAX_BITS)
    return Reading(alpha_kind=alpha, storage=storage, conversion=scaled, bits=bits)


def write(samples: NDArray[Any], metadata: Metadata, storage: Jp2Storage) -> bytes:
    """Encode `(H, W)` or `(H, W, C)` samples without loss, among the master's boxes."""
    stored = samples
    if samples.ndim > 2:  # noqa: PLR2004 - height, width, channels
        stored = np.empty_like(samples)
        stored[:, :, list(storage.order)] = samples
    codestream = imagecodecs.jpeg2k_encode(
        np.ascontiguousarray(stored),
        level=0,
        codecformat="j2k",
        reversible=True,
        bitspersample=storage.bits,
    )
    return jp2_boxes.join(storage.boxes, bytes(codestream), metadata, samples.shape[:2])
