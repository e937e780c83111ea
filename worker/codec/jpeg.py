"""JPEG files, read and written.

Pillow (libjpeg-turbo) decodes and encodes the samples. The segments are read here: Pillow would
parse EXIF while it opens a file, and takes a file without its end marker for whole.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from jobs.errors import PhotoCorrupt, PhotoTruncated, PhotoUnsupported
from worker.codec import photoshop, xmp_extension
from worker.codec.conversion import choose_inks
from worker.codec.header import PageHeader
from worker.codec.jpeg_damage import find_damage
from worker.codec.limits import Limits, check_pixels
from worker.codec.native import ColourModel, name_special
from worker.codec.photograph import Metadata, Page, Resolution, Samples, Unit
from worker.codec.stored import Stored, find
from worker.codec.upright import Reading, make_page, read_exif
from worker.scratch import Space, bands

SIGNATURE = b"\xff\xd8\xff"
MAX_SIDE_PX = 65_500  # libjpeg's own limit

_SOI, _EOI, _SOS, _COM, _MARK = 0xD8, 0xD9, 0xDA, 0xFE, 0xFF
_APP0, _APP1, _APP2, _APP13, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xEF
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DECODABLE_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_MAX_SEGMENT_BYTES = 65_533
_LENGTH_BYTES, _FRAME_BYTES, _DENSITY_BYTES = 2, 6, 7
_SAMPLE_BITS = 8
_END = bytes((_MARK, _EOI))
_MARKER_IN_SCANS = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_FILLING = b"\0\xff \t\r\n"
_TAIL_BYTES = 4096

_JFIF, _EXIF, _ICC = b"JFIF\0", b"Exif\0\0", b"ICC_PROFILE\0"
_XMP, _LONG_XMP = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP, _JFXX, _ADOBE = b"Photoshop 3.0\0", b"JFXX\0", b"Adobe"
_TO_8_BIT = 257  # 65535 / 255


@dataclass(frozen=True, slots=True)
class _Segment:
    marker: int
    data: bytes

    def pack(self) -> bytes:
        length = (len(self.data) + 2).to_bytes(2)
        return bytes((_MARK, self.marker)) + length + self.data


@dataclass(frozen=True, slots=True)
class _Frame:
    width: int
    height: int
    channels: int


def read(data: bytes, *, limits: Limits, space: Space, notes: list[str]) -> Page:
    """Decode the first picture of a JPEG file; what follows its end marker is left out."""
    segments, frame, scan_at = _read_checked(data, limits=limits)
    behind = data[_find_end(data, scan_at) :]
    if behind.strip(_FILLING):
        notes.append(f"{len(behind)} bytes behind the picture, such as a film, were left out")
    if damage := find_damage(data):
        notes.append(f"the file is damaged, and parts of the picture may be wrong ({damage})")
    samples = _decode(segments, data[scan_at:], space)
    metadata = _read_metadata(segments, notes)
    reading = Reading()
    if frame.channels == ColourModel.CMYK.channels:
        inks = choose_inks(metadata.icc, _SAMPLE_BITS, notes)
        reading = Reading(model=ColourModel.CMYK, conversion=inks)
    return make_page(samples, metadata, space=space, notes=notes, reading=reading)


def read_header(data: Stored, *, limits: Limits) -> PageHeader:
    """Read what stands before the samples, and look whether the file has its end."""
    segments, frame, _ = _read_checked(data, limits=limits)
    metadata = _read_metadata(segments, [])
    _, orientation, resolution = read_exif(metadata, [])
    model = ColourModel.CMYK if frame.channels == ColourModel.CMYK.channels else ColourModel.RGB
    return PageHeader(
        width=frame.width,
        height=frame.height,
        bits=_SAMPLE_BITS,
        colours=frame.channels,
        compression="jpeg",
        icc=metadata.icc is not None,
        orientation=orientation,
        resolution=resolution,
        special=name_special(model, is_float=False),
    )


def check(data: bytes, *, limits: Limits) -> None:
    """Check a JPEG stream as `read` does, without decoding it."""
    _read_checked(data, limits=limits)


def _read_checked(data: Stored, *, limits: Limits) -> tuple[list[_Segment], _Frame, int]:
    segments, scan_at = _read_segments(data)
    frame = _read_frame(segments, limits=limits)
    tail_at = max(scan_at, len(data) - _TAIL_BYTES)  # where it nearly always is
    if find(data, _END, tail_at) < 0 and find(data, _END, scan_at) < 0:
        raise PhotoTruncated("the JPEG data ends before its end marker")
    return segments, frame, scan_at


def _read_segments(data: Stored) -> tuple[list[_Segment], int]:
    """Return the segments before the first scan and where that scan starts."""
    segments: list[_Segment] = []
    at = 2
    while at + 4 <= len(data):
        mark, marker = data[at : at + 2]
        if mark != _MARK:
            raise PhotoCorrupt(f"no JPEG marker where one must be, at byte {at}")
        if marker == _SOS:
            return segments, at
        if marker == _MARK:
            at += 1
            continue
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4])
        if marker in {_SOI, _EOI} or length < _LENGTH_BYTES:
            raise PhotoCorrupt(f"a JPEG marker {marker:#x} where none may be, at byte {at}")
        segments.append(_Segment(marker, bytes(data[at + 4 : at + 2 + length])))
        at += 2 + length
    raise PhotoTruncated("the JPEG data ends before its picture starts")


def _find_end(data: bytes, scan_at: int) -> int:
    """Return where the picture ends: behind the first end marker that isn't within a segment."""
    at = scan_at
    while found := _MARKER_IN_SCANS.search(data, at):
        at = found.end()
        if found[0][1] == _EOI:
            return at
        at += int.from_bytes(data[at : at + 2])
    return len(data)


def _read_frame(segments: list[_Segment], *, limits: Limits) -> _Frame:
    frame = next((segment for segment in segments if segment.marker in _FRAMES), None)
    if frame is None or len(frame.data) < _FRAME_BYTES:
        raise PhotoCorrupt("the JPEG data has no frame header")
    bits, channels = frame.data[0], frame.data[5]
    if frame.marker not in _DECODABLE_FRAMES:
        raise PhotoUnsupported(f"JPEG process {frame.marker:#x} isn't supported")
    if bits != _SAMPLE_BITS:
        raise PhotoUnsupported(f"JPEG with {bits} bits a sample isn't supported")
    if channels not in {1, 3, 4}:
        raise PhotoUnsupported(f"JPEG with {channels} channels isn't supported")
    height, width = int.from_bytes(frame.data[1:3]), int.from_bytes(frame.data[3:5])
    check_pixels(width, height, limits=limits)
    return _Frame(width, height, channels)


def _decode(segments: list[_Segment], scans: bytes, space: Space) -> Samples:
    """Decode, showing the decoder only the segments that decide samples."""
    needed = [s.pack() for s in segments if not _APP1 <= s.marker <= _APP15 or s.marker == _APP14]
    stream = b"".join([bytes((_MARK, _SOI)), *needed, scans])
    with JpegImageFile(BytesIO(stream)) as image:
        image.load()
        channels = len(image.getbands())
        samples = space.empty((image.height, image.width, channels), np.uint8)
        for rows in bands(samples):  # whole, Pillow would need it twice beside its own
            part = image.crop((0, rows.start, image.width, rows.stop))
            samples[rows] = np.asarray(part).reshape(-1, image.width, channels)
        return samples


def _read_metadata(segments: list[_Segment], notes: list[str]) -> Metadata:
    def found(marker: int, prefix: bytes) -> list[bytes]:
        matching = (s.data for s in segments if s.marker == marker)
        return [data[len(prefix) :] for data in matching if data.startswith(prefix)]

    notes += _name_others(segments)
    packet = next(iter(found(_APP1, _XMP)), b"")
    metadata = Metadata(
        icc=_join_profile(found(_APP2, _ICC), notes),
        xmp=xmp_extension.join(packet, found(_APP1, _LONG_XMP), notes) or None,
        photoshop=b"".join(found(_APP13, _PHOTOSHOP)) or None,
        comments=tuple(found(_COM, b"")),
    )
    for exif in found(_APP1, _EXIF)[:1]:
        metadata = replace(metadata, exif=exif)
    for jfif in found(_APP0, _JFIF)[:1]:
        metadata = replace(metadata, resolution=_read_density(jfif))
    return metadata


def _name_others(segments: list[_Segment]) -> list[str]:
    """Say which application's own segments aren't kept."""
    known = (_JFIF, _JFXX, _EXIF, _ICC, _XMP, _LONG_XMP, _PHOTOSHOP, _ADOBE)
    others = [
        f"APP{s.marker - _APP0} {s.data.partition(bytes(1))[0][:8].decode('latin-1')!r}"
        for s in segments
        if _APP0 <= s.marker <= _APP15 and not s.data.startswith(known)
    ]
    return [f"a segment {name} was left out" for name in others]


def _join_profile(parts: list[bytes], notes: list[str]) -> bytes | None:
    """Join a profile's parts, each with its number and their count in front."""
    if not parts:
        return None
    ordered = sorted(parts)
    expected = [bytes((number + 1, len(parts))) for number in range(min(len(parts), 255))]
    if [part[:2] for part in ordered] != expected:
        notes.append("parts of the ICC profile are missing; it was left out")
        return None
    return b"".join(part[2:] for part in ordered)


def _read_density(jfif: bytes) -> Resolution | None:
    """Return a resolution; without a unit the shape of a pixel, where that isn't a square."""
    if len(jfif) < _DENSITY_BYTES:
        return None
    unit = {1: Unit.INCH, 2: Unit.CM}.get(jfif[2], Unit.NONE)
    x, y = int.from_bytes(jfif[3:5]), int.from_bytes(jfif[5:7])
    if not x or not y or (unit is Unit.NONE and x == y):
        return None
    return Resolution(Fraction(x), Fraction(y), unit)


def write(
    samples: NDArray[Any],
    model: ColourModel,
    metadata: Metadata,
    *,
    quality: int,
    software: str,
    notes: list[str],
) -> bytes:
    """Encode gray, RGB or CMYK samples with full colour resolution."""
    if metadata.chunks:
        notes.append("JPEG has no place for the PNG file's own chunks")
    flat = _flatten(np.atleast_3d(samples), model.channels, notes)
    fitting = _fitting(_make_segments(metadata, software, notes), notes)
    told = metadata.resolution
    if told is not None and told.unit is Unit.NONE and told.x != told.y:
        notes.append("the shape of the pixels, which aren't squares, was left out")
    out = BytesIO()
    image = Image.fromarray(flat)
    if model is ColourModel.CMYK:  # four channels look like RGBA
        image = Image.frombytes("CMYK", image.size, flat.tobytes())
    image.save(
        out,
        "JPEG",
        quality=quality,
        subsampling=0,
        icc_profile=metadata.icc,
        dpi=_whole_dpi(metadata.resolution),
        extra=b"".join(segment.pack() for segment in fitting),
    )
    return out.getvalue()


def _flatten(planes: NDArray[Any], channels: int, notes: list[str]) -> NDArray[np.uint8]:
    """Bring samples to what JPEG holds: 8 bits, no alpha."""
    if planes.shape[2] > channels:
        notes.append("JPEG can't hold the alpha channel; it was dropped")
    flat: NDArray[Any] = planes[:, :, 0] if channels == 1 else planes[:, :, :channels]
    if flat.dtype == np.uint16:
        rounded = np.empty(flat.shape, np.uint8)
        for rows in bands(flat):
            rounded[rows] = np.rint(flat[rows] / _TO_8_BIT)
        flat = rounded
        notes.append("JPEG can't hold 16 bits; the samples were rounded to 8")
    return np.ascontiguousarray(flat)


def _make_segments(metadata: Metadata, software: str, notes: list[str]) -> list[_Segment]:
    segments = [_Segment(_COM, comment) for comment in (*metadata.comments, software.encode())]
    if resources := photoshop.resources_of(metadata, notes):
        segments.insert(0, _Segment(_APP13, _PHOTOSHOP + resources))
    if metadata.xmp:
        segments = _make_xmp_segments(metadata.xmp) + segments
    if metadata.exif:
        segments.insert(0, _Segment(_APP1, _EXIF + metadata.exif))
    return segments


def _make_xmp_segments(packet: bytes) -> list[_Segment]:
    """Return a packet as one segment, or with its extension; too long where it can't be cut."""
    room_bytes = _MAX_SEGMENT_BYTES - len(_XMP)
    cut = xmp_extension.split(packet, room_bytes) if len(packet) > room_bytes else None
    main, parts = cut or (packet, [])
    extension = [_Segment(_APP1, _LONG_XMP + part) for part in parts]
    return [_Segment(_APP1, _XMP + main), *extension]


def _fitting(segments: list[_Segment], notes: list[str]) -> list[_Segment]:
    fitting = [s for s in segments if len(s.data) <= _MAX_SEGMENT_BYTES]
    if len(fitting) < len(segments):
        notes.append("a metadata block is too long for JPEG and was left out")
    return fitting


def _whole_dpi(resolution: Resolution | None) -> tuple[int, int]:
    if resolution is None or resolution.unit is Unit.NONE:
        return 0, 0  # Pillow's word for unknown
    x, y = (min(round(value), 65_535) for value in resolution.per_inch())
    return x, y
