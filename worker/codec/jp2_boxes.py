"""The boxes of a JPEG 2000 file: what a picture carries beside its samples.

In: a file's bytes, or boxes and the picture's new size. Out: boxes, `Metadata`, or a file again.
Sources: ISO/IEC 15444-1, annex I; for EXIF, XMP and IPTC the boxes that ExifTool knows.
"""

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction

from jobs.errors import PhotoTruncated
from worker.codec.photograph import Metadata, Resolution, Unit
from worker.codec.stored import Stored

Box = tuple[bytes, bytes]
"""Its type and its content."""

CODESTREAM, HEADER = b"jp2c", b"jp2h"
_UUID, _SIZE, _RESOLUTIONS = b"uuid", b"ihdr", b"res "
_CAPTURE, _SCREEN = b"resc", b"resd"
_XMP_ID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_IPTC_ID = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_PHOTOSHOP_ID = bytes.fromhex("2c4c0100850440b9a03e562148d6dfeb")
_EXIF_ID, _ADOBE_EXIF_ID = b"JpgTiffExif->JP2", bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e")
_REWRITTEN = {
    _EXIF_ID: "EXIF blocks",
    _ADOBE_EXIF_ID: "EXIF blocks",
    _XMP_ID: "XMP packets",
    _PHOTOSHOP_ID: "blocks of Photoshop's resources",
}
"""What the boxes that are written anew hold."""
_ID_BYTES, _SIZE_BYTES = 16, 8
_PROFILES = (b"\2", b"\3")  # methods of `colr`
_COLOUR_METHODS = (b"\1", *_PROFILES)
_WRITTEN_ANYWAY = {b"jP  ", b"ftyp", b"rreq", b"free", HEADER, CODESTREAM}
_BOX_HEADER_BYTES, _LONG_HEADER_BYTES = 8, 16
_RESOLUTION = struct.Struct(">HHHHbb")
_MAX_SHORT = 2**16 - 1


def split(data: Stored, *, longest: int | None = None) -> Iterator[Box]:
    """Yield the boxes of a file, or those in a box.

    Args:
        data: the file, or a box's content.
        longest: so much of the codestream is read; None reads all.

    Raises:
        PhotoTruncated: the data end before a box does.
    """
    at = 0
    while at + _BOX_HEADER_BYTES <= len(data):
        body_at = at + _BOX_HEADER_BYTES
        length, kind = struct.unpack(">I4s", data[at:body_at])
        if length == 1:
            length = int.from_bytes(data[body_at : body_at + 8])
            body_at = at + _LONG_HEADER_BYTES
        end = len(data) if length == 0 else at + length
        if end < body_at or end > len(data):
            raise PhotoTruncated(f"the JPEG 2000 file ends within a box {kind.decode('latin-1')!r}")
        read = end if longest is None or kind != CODESTREAM else min(end, body_at + longest)
        yield kind, bytes(data[body_at:read])
        at = end


def find(boxes: Sequence[Box], kind: bytes) -> bytes:
    """Return the content of the first box of a type, empty where there is none."""
    return next((body for name, body in boxes if name == kind), b"")


def find_colour(header: Sequence[Box]) -> bytes:
    """Return the first colour specification of a known kind, empty where there is none."""
    told = (body for kind, body in header if kind == b"colr")
    return next((body for body in told if body[:1] in _COLOUR_METHODS), b"")


def name_others(boxes: Sequence[Box]) -> list[str]:
    """Say which boxes have no place in another kind of file."""
    understood = {*_REWRITTEN, _IPTC_ID}
    others = [
        kind.decode("latin-1")
        for kind, body in boxes
        if kind not in _WRITTEN_ANYWAY and not (kind == _UUID and body[:_ID_BYTES] in understood)
    ]
    return [f"a JPEG 2000 box {kind!r} was left out" for kind in others]


def name_repeated(boxes: Sequence[Box]) -> list[str]:
    """Say what stands more than once and is kept once."""
    known = Counter(_REWRITTEN[name] for name, _ in _identified(boxes) if name in _REWRITTEN)
    return [
        f"of {count} {name} only the first was kept" for name, count in known.items() if count > 1
    ]


def _identified(boxes: Sequence[Box]) -> list[Box]:
    """Return identifier and content of the boxes that programs define for themselves."""
    return [(body[:_ID_BYTES], body[_ID_BYTES:]) for kind, body in boxes if kind == _UUID]


def _exif_id(identified: Sequence[Box]) -> bytes:
    """Return the identifier of the first EXIF block, or of one that is added."""
    return next((name for name, _ in identified if name in {_EXIF_ID, _ADOBE_EXIF_ID}), _EXIF_ID)


def read_metadata(boxes: Sequence[Box]) -> Metadata:
    """Return what a file's boxes tell."""
    header = list(split(find(boxes, HEADER)))
    identified = _identified(boxes)
    colour = find_colour(header)
    sizes = list(split(find(header, _RESOLUTIONS)))
    shown_at = _read_resolution(find(sizes, _SCREEN))
    return Metadata(
        icc=colour[3:] if colour[:1] in _PROFILES else None,
        exif=find(identified, _exif_id(identified)) or None,
        xmp=find(identified, _XMP_ID) or None,
        photoshop=find(identified, _PHOTOSHOP_ID) or None,
        iptc=find(identified, _IPTC_ID) or None,
        resolution=_read_resolution(find(sizes, _CAPTURE)) or shown_at,
        shown_at=shown_at,
    )


def read_side_px(boxes: Sequence[Box]) -> tuple[int, int] | None:
    """Return the height and width that the boxes tell."""
    body = find(list(split(find(boxes, HEADER))), _SIZE)
    return struct.unpack_from(">II", body) if len(body) >= _SIZE_BYTES else None


def _read_resolution(body: bytes) -> Resolution | None:
    """Read numerators, denominators and powers of ten of the points a metre has (I.5.3.7)."""
    if len(body) < _RESOLUTION.size:
        return None
    down, under, across, below, power_y, power_x = _RESOLUTION.unpack_from(body)
    if not down * under * across * below:
        return None
    x = Fraction(across, below) * Fraction(10) ** power_x / 100
    y = Fraction(down, under) * Fraction(10) ** power_y / 100
    return Resolution(x, y, Unit.CM)


def join(
    boxes: Sequence[Box], codestream: bytes, metadata: Metadata, side_px: Sequence[int]
) -> bytes:
    """Return a file of the master's boxes around another picture.

    Args:
        boxes: the master's, without its codestream.
        codestream: the new picture.
        metadata: EXIF, XMP, Photoshop's resources and resolutions as they are now.
        side_px: height and width of the new picture.
    """
    changed = {
        _exif_id(_identified(boxes)): metadata.exif,
        _XMP_ID: metadata.xmp,
        _PHOTOSHOP_ID: metadata.photoshop,
    }
    out = bytearray()
    for kind, body in boxes:
        if kind == HEADER:
            out += _pack(kind, _fit_header(body, side_px, metadata))
        elif kind != _UUID or body[:_ID_BYTES] not in _REWRITTEN:
            out += _pack(kind, body)
    for identifier, content in changed.items():
        if content is not None:
            out += _pack(_UUID, identifier + content)
    return bytes(out + _pack(CODESTREAM, codestream))


def _fit_header(body: bytes, side_px: Sequence[int], metadata: Metadata) -> bytes:
    """Write the new size down, and the resolutions where they aren't what they were."""
    resolutions = {_CAPTURE: metadata.resolution, _SCREEN: metadata.shown_at}
    out = bytearray()
    for kind, content in split(body):
        fitted = content
        if kind == _SIZE:
            fitted = struct.pack(">II", *side_px) + content[8:]
        elif kind == _RESOLUTIONS:
            fitted = b"".join(
                _pack(name, _fit_resolution(value, resolutions.get(name)))
                for name, value in split(content)
            )
        out += _pack(kind, fitted)
    return bytes(out)


def _fit_resolution(body: bytes, resolution: Resolution | None) -> bytes:
    if resolution is None or _read_resolution(body) in {None, resolution}:
        return body
    fractions = [
        (value * 100).limit_denominator(_MAX_SHORT) for value in (resolution.y, resolution.x)
    ]
    powers = [0, 0]
    for index, fraction in enumerate(fractions):
        value = fraction
        while max(value.as_integer_ratio()) > _MAX_SHORT:
            value = (value / 10).limit_denominator(_MAX_SHORT if value < _MAX_SHORT else 1)
            powers[index] += 1
        fractions[index] = value
    down, across = (fraction.as_integer_ratio() for fraction in fractions)
    return _RESOLUTION.pack(*down, *across, *powers)


def _pack(kind: bytes, body: bytes) -> bytes:
    length = len(body) + _BOX_HEADER_BYTES
    if length < 2**32:
        return struct.pack(">I4s", length, kind) + body
    return struct.pack(">I4sQ", 1, kind, length + 8) + body
