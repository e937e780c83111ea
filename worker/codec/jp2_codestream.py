"""The header of a JPEG 2000 codestream: what can be told without decoding it.

In: a codestream's bytes, or its start. Out: a `Size`, or an answer. Source: ISO/IEC 15444-1, A.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

START, END = b"\xff\x4f\xff\x51", b"\xff\xd9"
_SIZE = struct.Struct(">HIIIIIIIIH")  # capabilities, sizes and offsets, number of components
_SIZE_AT, _COMPONENTS_AT, _COMPONENT_BYTES = 6, 42, 3
_SIGNED = 0x80
_FIRST_SEGMENT_AT, _MARKER_BYTES, _SEGMENT_FRAME_BYTES = 2, 2, 4
_TILE = b"\xff\x90"
# Where a segment tells which wavelets are used, for all components or for one; and how the
# numbers that they give are rounded.
_WAVELETS_AT = {b"\xff\x52": 9, b"\xff\x53": 6}
_ROUNDING_AT = {b"\xff\x5c": 0, b"\xff\x5d": 1}
_REVERSIBLE, _ROUNDING_MASK, _UNROUNDED = 1, 0x1F, 0


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

    @property
    def is_signed(self) -> bool:
        """Whether the samples of the first channel may be below 0."""
        return bool(self.depths[0] & _SIGNED)


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


def is_reversible(codestream: bytes) -> bool:
    """Tell from a codestream's main header whether it stores whole numbers as whole numbers.

    All components must use the 5/3 wavelets (A.6.1, A.6.2) and round nothing (A.6.4, A.6.5). That
    an encoder stopped before the last bits, to make a file smaller, no header tells.
    """
    wavelets: list[int] = []
    rounding: list[int] = []
    for marker, body in _read_segments(codestream):
        if marker in _WAVELETS_AT:
            wavelets += body[_WAVELETS_AT[marker] :][:1]
        elif marker in _ROUNDING_AT:
            rounding += body[_ROUNDING_AT[marker] :][:1]
    told = bool(wavelets and rounding)
    are_plain = all(number & _ROUNDING_MASK == _UNROUNDED for number in rounding)
    return told and are_plain and set(wavelets) == {_REVERSIBLE}


def _read_segments(codestream: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the marker and the content of each segment before the first tile (A.1)."""
    at = _FIRST_SEGMENT_AT
    while at + _SEGMENT_FRAME_BYTES <= len(codestream):
        marker = codestream[at : at + _MARKER_BYTES]
        end = at + _MARKER_BYTES + int.from_bytes(codestream[at + 2 : at + 4])
        if marker == _TILE or end < at + _SEGMENT_FRAME_BYTES:
            return
        yield marker, codestream[at + _SEGMENT_FRAME_BYTES : end]
        at = end
