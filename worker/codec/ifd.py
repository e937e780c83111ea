"""TIFF directories field by field, values as raw bytes: the structure that EXIF and TIFF share.

No library does this without interpreting: Pillow and tifffile read values into Python objects and
write them back with types of their own choice, which loses rationals, signs and maker notes.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from worker.codec.stored import Stored

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_LONG, _LONG8 = 4, 16
_CLASSIC, _BIG = 42, 43
_FIRST_POSSIBLE = 8  # right behind the header

EXIF, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005
_POINTERS = {EXIF, GPS, INTEROPERABILITY}
_MAX_DEPTH = 3


class DamagedError(ValueError):
    """The bytes aren't the directory that they should be."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How numbers are stored: the byte order in `struct`'s letters, and 64-bit offsets or not."""

    order: str
    big: bool = False

    @property
    def count(self) -> struct.Struct:
        """The number of fields, at the start of a directory."""
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def entry(self) -> struct.Struct:
        """Code, type, count, and the value or its offset."""
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))

    @property
    def offset(self) -> struct.Struct:
        """A position in the file."""
        return struct.Struct(self.order + ("Q" if self.big else "I"))


@dataclass(frozen=True, slots=True)
class Field:
    """One entry; `at` is where its value lies in the bytes that it was read from."""

    code: int
    type: int
    count: int
    value: "bytes | Directory"
    at: int = 0


Directory = dict[int, Field]


@dataclass(frozen=True, slots=True)
class Table:
    """A directory as read: its fields, where its link to the next lies, codes of what it lost."""

    fields: Directory
    link_at: int
    skipped: frozenset[int]


def read_header(data: Stored) -> tuple[Layout, int]:
    """Return the layout and where the link to the first directory lies."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < _FIRST_POSSIBLE:
        raise DamagedError("no TIFF header")
    version = struct.unpack(order + "H", data[2:4])[0]
    if version not in {_CLASSIC, _BIG}:
        raise DamagedError(f"TIFF version {version}")
    return Layout(order, big=version == _BIG), 4 if version == _CLASSIC else 8


def follow(data: Stored, link_at: int, layout: Layout) -> int:
    """Return the offset stored at `link_at`; 0 ends a chain."""
    end = link_at + layout.offset.size
    if end > len(data):
        return 0
    return int(layout.offset.unpack(data[link_at:end])[0])


def unpack(
    data: Stored, at: int, layout: Layout, *, depth: int = 1, longest: int | None = None
) -> Table:
    """Read the directory at `at`, with those that it points to.

    A field that lies outside the data is skipped; of a repeated one the first counts.

    Args:
        data: the file.
        at: where the directory lies.
        layout: how its numbers are stored.
        depth: how many directories led here.
        longest: longer values are left empty, not read; None reads all.

    Raises:
        DamagedError: the directory itself lies outside the data.
    """
    if at < _FIRST_POSSIBLE or at + layout.count.size > len(data):
        raise DamagedError(f"a directory outside the data, at {at}")
    table_at = at + layout.count.size
    (number,) = layout.count.unpack(data[at:table_at])
    link_at = table_at + number * layout.entry.size
    if link_at > len(data):
        raise DamagedError(f"a directory of {number} fields runs over the end")
    fields: Directory = {}
    skipped: set[int] = set()
    room = len(data)  # a byte belongs to one field: overlapping ones must not multiply it
    entries = layout.entry.iter_unpack(data[table_at:link_at])
    for entry_end, (code, kind, count, inline) in zip(
        range(table_at + layout.entry.size, link_at + 1, layout.entry.size), entries, strict=True
    ):
        value_at = entry_end - len(inline)
        value: bytes | Directory | None
        if code in _POINTERS:
            value = _read_directory(data, value_at, layout, depth=depth, longest=longest)
        else:
            size = _SIZES.get(kind, 0) * count
            value_at = value_at if size <= len(inline) else follow(data, value_at, layout)
            value = None
            if 0 < size <= room and value_at + size <= len(data):
                read = longest is None or size <= longest
                value = bytes(data[value_at : value_at + size]) if read else b""
                room -= size
        if value is None:
            skipped.add(code)
        else:
            fields.setdefault(code, Field(code, kind, count, value, value_at))
    return Table(fields, link_at, frozenset(skipped))


def _read_directory(
    data: Stored, link_at: int, layout: Layout, *, depth: int, longest: int | None
) -> Directory | None:
    if depth == _MAX_DEPTH:
        return None
    at = follow(data, link_at, layout)
    try:
        return unpack(data, at, layout, depth=depth + 1, longest=longest).fields
    except DamagedError:
        return None


def pack(fields: Iterable[Field], *, at: int, layout: Layout) -> bytes:
    """Write a directory that will lie at `at`: fields, a link of 0, values and sub-directories."""
    ordered = sorted(fields, key=lambda field: field.code)
    inline = layout.offset.size
    values_at = at + layout.count.size + len(ordered) * layout.entry.size + inline
    table, values = bytearray(layout.count.pack(len(ordered))), bytearray()
    for field in ordered:
        here = values_at + len(values)
        kind, count, value = field.type, field.count, field.value
        if isinstance(value, bytes) and len(value) <= inline:
            table += layout.entry.pack(field.code, kind, count, value)
            continue
        if not isinstance(value, bytes):
            kind, count = _LONG8 if layout.big else _LONG, 1
            value = pack(value.values(), at=here, layout=layout)
        table += layout.entry.pack(field.code, kind, count, layout.offset.pack(here))
        values += value + b"\0" * (len(value) % 2)
    return bytes(table + bytes(inline) + values)
