r"""EXIF blocks: how the picture must be turned, and the same block for the turned picture.

A block is what a JPEG's APP1 holds behind `Exif\0\0`: a TIFF header and its directories. Two things
in it are wrong once the pixels are upright, the orientation and the thumbnail; everything else
stays byte for byte, so that maker notes with offsets of their own survive.
"""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from worker.codec import ifd
from worker.codec.ifd import DamagedError, Directory, Field, Layout
from worker.codec.photograph import Resolution, Unit

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 274, 282, 283, 296
_WIDTH, _HEIGHT, _PIXELS_X, _PIXELS_Y = 256, 257, 0xA002, 0xA003
_FOCAL_PLANE_X, _FOCAL_PLANE_Y = 0xA20E, 0xA20F
_PAIRS = (
    (X_RESOLUTION, Y_RESOLUTION),
    (_WIDTH, _HEIGHT),
    (_PIXELS_X, _PIXELS_Y),
    (_FOCAL_PLANE_X, _FOCAL_PLANE_Y),
)
_THUMBNAIL_AT, _THUMBNAIL_BYTES = 513, 514
_INTEGERS = {1: "B", 3: "H", 4: "I"}
_UNITS = {1: Unit.NONE, 2: Unit.INCH, 3: Unit.CM}
_VERSION, _FIRST_AT = 42, 8
_LONG, _RATIONAL = 4, 5
_TYPE_BYTES, _RATIONAL_BYTES = 6, 8  # a type with its count; a value
_MAX_LONG = 2**32 - 1
_ORIENTATIONS = range(1, 9)


@dataclass(frozen=True, slots=True)
class Exif:
    """A block that describes the upright picture.

    Attributes:
        orientation: 1 to 8, how the stored picture has to be turned.
        damaged: some fields couldn't be read and aren't in the block.
    """

    block: bytes
    orientation: int
    resolution: Resolution | None
    damaged: bool


def read(block: bytes) -> Exif:
    """Read a block and make it upright.

    Raises:
        DamagedError: nothing of it can be read.
    """
    layout, link_at = ifd.read_header(block)
    if layout.big:
        raise DamagedError("a BigTIFF header")
    table = ifd.unpack(block, ifd.follow(block, link_at, layout), layout)
    orientation = read_orientation(table.fields, layout)
    resolution = read_resolution(table.fields, layout)
    if table.skipped:
        fields = {c: f for c, f in table.fields.items() if c != ORIENTATION}
        return Exif(build(fields, layout), orientation, resolution, damaged=True)
    upright = bytearray(block)
    if ORIENTATION in table.fields:
        field = table.fields[ORIENTATION]
        length = len(field.value)
        byteorder: Literal["little", "big"] = "little" if layout.order == "<" else "big"
        upright[field.at : field.at + length] = (1).to_bytes(length, byteorder)
    _drop_thumbnail(upright, table.link_at, layout)
    return Exif(bytes(upright), orientation, resolution, damaged=False)


def build(fields: Directory, layout: Layout) -> bytes:
    """Make a block of fields whose values have the layout's byte order."""
    classic = Layout(layout.order)
    mark = b"II" if classic.order == "<" else b"MM"
    header = mark + struct.pack(classic.order + "HI", _VERSION, _FIRST_AT)
    return header + ifd.pack(fields.values(), at=_FIRST_AT, layout=classic)


def fields_of(block: bytes) -> tuple[Directory, Layout]:
    """Return the fields of an upright block."""
    layout, link_at = ifd.read_header(block)
    return ifd.unpack(block, ifd.follow(block, link_at, layout), layout).fields, layout


def enlarge(block: bytes, scale: int, *, width: int, height: int) -> bytes:
    """Return an upright block for a picture `scale` times as large, now `width` x `height` pixels.

    Resolutions and pixel counts that it has are changed where they lie, all else stays in place.
    """
    fields, layout = fields_of(block)
    fields = _with_camera(fields)
    out = bytearray(block)
    for code in (X_RESOLUTION, Y_RESOLUTION, _FOCAL_PLANE_X, _FOCAL_PLANE_Y):
        value = _read_rational(fields.get(code), layout)
        if value is not None:
            larger = fit_rational(value * scale)
            struct.pack_into(layout.order + "II", out, fields[code].at, *larger)
    counts = {_WIDTH: width, _PIXELS_X: width, _HEIGHT: height, _PIXELS_Y: height}
    for code, count in counts.items():
        if _read_integer(fields.get(code), layout) is not None:
            # The whole entry: 16 bits, which it may have had, may be too few now.
            at = fields[code].at - layout.entry.size + layout.offset.size
            struct.pack_into(layout.order + "HHII", out, at, code, _LONG, 1, count)
    return bytes(out)


def turn(block: bytes) -> bytes:
    """Return an upright block whose widths and heights have changed places."""
    fields, layout = fields_of(block)
    fields = _with_camera(fields)
    out = bytearray(block)
    for one, other in _PAIRS:
        across, down = fields.get(one), fields.get(other)
        if across is None or down is None:
            continue
        first, second = _to_exchange(across, layout), _to_exchange(down, layout)
        if first is not None and second is not None and len(block[first]) == len(block[second]):
            out[first], out[second] = block[second], block[first]
    return bytes(out)


def _with_camera(fields: Directory) -> Directory:
    camera = fields.get(ifd.EXIF)
    return camera.value | fields if camera and isinstance(camera.value, dict) else fields


def _to_exchange(field: Field, layout: Layout) -> slice | None:
    """Return where a number lies: a count with its type, for width and height may differ in it."""
    if _read_integer(field, layout) is not None:
        return slice(field.at - _TYPE_BYTES, field.at + layout.offset.size)
    if (field.type, field.count) == (_RATIONAL, 1):
        return slice(field.at, field.at + _RATIONAL_BYTES)
    return None


def fit_rational(value: Fraction) -> tuple[int, int]:
    """Return the numerator and denominator that two 32-bit fields can hold."""
    if max(value.as_integer_ratio()) > _MAX_LONG:
        value = value.limit_denominator(2**16)
    return min(value.numerator, _MAX_LONG), value.denominator


def read_orientation(fields: Directory, layout: Layout) -> int:
    """Return 1 to 8; 1 also where the tag is absent or makes no sense."""
    value = _read_integer(fields.get(ORIENTATION), layout)
    return value if value is not None and value in _ORIENTATIONS else 1


def read_resolution(fields: Directory, layout: Layout) -> Resolution | None:
    """Return the resolution as stored, None where it isn't given or makes no sense."""
    x = _read_rational(fields.get(X_RESOLUTION), layout)
    y = _read_rational(fields.get(Y_RESOLUTION), layout)
    unit = _read_integer(fields.get(RESOLUTION_UNIT), layout)
    if x is None or y is None:
        return None
    return Resolution(x, y, _UNITS.get(unit or 2, Unit.INCH))


def _read_integer(field: Field | None, layout: Layout) -> int | None:
    if field is None or field.count != 1 or field.type not in _INTEGERS:
        return None
    if not isinstance(field.value, bytes):
        return None
    return int(struct.unpack(layout.order + _INTEGERS[field.type], field.value)[0])


def _read_rational(field: Field | None, layout: Layout) -> Fraction | None:
    if field is None or (field.type, field.count) != (_RATIONAL, 1):
        return None
    if not isinstance(field.value, bytes):
        return None
    numerator, denominator = struct.unpack(layout.order + "II", field.value)
    return Fraction(numerator, denominator) if numerator and denominator else None


def _drop_thumbnail(block: bytearray, link_at: int, layout: Layout) -> None:
    """Unlink the second directory; its picture is cut off at the block's end, else blanked."""
    second = ifd.follow(block, link_at, layout)
    if not second:
        return
    block[link_at : link_at + layout.offset.size] = bytes(layout.offset.size)
    try:
        fields = ifd.unpack(block, second, layout).fields
    except DamagedError:
        return
    at = _read_integer(fields.get(_THUMBNAIL_AT), layout) or 0
    length = _read_integer(fields.get(_THUMBNAIL_BYTES), layout) or 0
    if not 0 < at < at + length <= len(block):
        return
    if at + length == len(block):
        del block[at:]
    else:
        block[at : at + length] = bytes(length)
