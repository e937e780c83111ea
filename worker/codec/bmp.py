"""BMP files: the ICC profile that the longest of their headers (BITMAPV5HEADER) leads to."""

import struct

from worker.codec.stored import Stored

_HEADER_AT, _HEADER_BYTES = 14, 124
_FIELDS = struct.Struct("<I52x4s52xII")  # length, kind of colours, where the profile lies, its size
_EMBEDDED, _LINKED = b"DEBM", b"KNIL"  # "MBED" and "LINK" as little-endian numbers


def read_profile(data: Stored, notes: list[str]) -> bytes | None:
    """Return the profile that a file holds; one that it only names is said."""
    header = bytes(data[_HEADER_AT : _HEADER_AT + _FIELDS.size])
    if len(header) < _FIELDS.size:
        return None
    length, kind, at, size = _FIELDS.unpack(header)
    if length < _HEADER_BYTES:
        return None
    if kind == _LINKED:
        notes.append("the ICC profile lies in another file, which wasn't read")
    if kind != _EMBEDDED or not size:
        return None
    return bytes(data[_HEADER_AT + at : _HEADER_AT + at + size])
