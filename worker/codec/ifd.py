"""TIFF directories field by field, values as raw bytes: the structure that EXIF and TIFF share.

No library does this without interpreting: Pillow and tifffile read values into Python objects and
write them back with types of their own choice, which loses rationals, signs and maker notes.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

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


@dataclass(slots=True)
class Room:
    """How many bytes may still be read: fields and directories that overlap must not multiply."""

    left: int

    @classmethod
    def of(cls, data: Stored, *, shared: int = 0) -> Self:
        """Return enough for every byte twice, as two fields may share a value, and some more."""
        return cls(2 * len(data) + shared)

    def take(self, size: int) -> bool:
        """Tell whether there is room for so many bytes, and take them."""
        if size > self.left:
            return False
        self.left -= size
        return True


def unpack(
    data: Stored,
    at: int,
    layout: Layout,
    *,
    longest: int | None = None,
    room: Room | None = None,
) -> Table:
    """Read the directory at `at`, with those that it points to.

    A field that lies outside the data is skipped; of a repeated one the first counts, and no
    directory is read twice.

    Args:
        data: the file.
        at: where the directory lies.
        layout: how its numbers are stored.
        longest: longer values are left empty, not read; None reads all.
        room: is taken from; None for a room of its own.

    Raises:
        DamagedError: the directory itself lies outside the data, or there is no room for it.
    """
    return _Tree(data, layout, longest, room or Room.of(data)).read(at, depth=1)


@dataclass(slots=True)
class _Tree:
    """A directory and those that it points to, while they are read."""

    data: Stored
    layout: Layout
    longest: int | None
    room: Room
    seen: set[int] = field(default_factory=set)

    def read(self, at: int, *, depth: int) -> Table:
        """Read the directory at `at`, to which so many directories led, itself among them."""
        self.seen.add(at)
        table_at, link_at = self._find_table(at)
        fields: Directory = {}
        skipped: set[int] = set()
        size = self.layout.entry.size
        entries = self.layout.entry.iter_unpack(self.data[table_at:link_at])
        ends = range(table_at + size, link_at + 1, size)
        for end, (code, kind, count, inline) in zip(ends, entries, strict=True):
            if code in fields or code in skipped:
                continue
            value_at = end - len(inline)
            value: bytes | Directory | None
            if code in _POINTERS:
                value = self._read_directory(value_at, depth)
            else:
                size_bytes = _SIZES.get(kind, 0) * count
                if size_bytes > len(inline):
                    value_at = follow(self.data, value_at, self.layout)
                value = self._read_value(value_at, size_bytes)
            if value is None:
                skipped.add(code)
            else:
                fields[code] = Field(code, kind, count, value, value_at)
        return Table(fields, link_at, frozenset(skipped))

    def _find_table(self, at: int) -> tuple[int, int]:
        """Return where a directory's entries begin, and where they end."""
        data, layout = self.data, self.layout
        if at < _FIRST_POSSIBLE or at + layout.count.size > len(data):
            raise DamagedError(f"a directory outside the data, at {at}")
        table_at = at + layout.count.size
        (number,) = layout.count.unpack(data[at:table_at])
        link_at = table_at + number * layout.entry.size
        if link_at > len(data):
            raise DamagedError(f"a directory of {number} fields runs over the end")
        if not self.room.take(link_at - at):
            raise DamagedError(f"a directory of {number} fields lies over too many others")
        return table_at, link_at

    def _read_directory(self, link_at: int, depth: int) -> Directory | None:
        at = follow(self.data, link_at, self.layout)
        if depth == _MAX_DEPTH or at in self.seen:
            return None
        try:
            return self.read(at, depth=depth + 1).fields
        except DamagedError:
            return None

    def _read_value(self, at: int, size: int) -> bytes | None:
        if size == 0 or at + size > len(self.data) or not self.room.take(size):
            return None
        is_wanted = self.longest is None or size <= self.longest
        return bytes(self.data[at : at + size]) if is_wanted else b""


def pack(fields: Iterable[Field], *, at: int, layout: Layout) -> bytes:
    """Write a directory that will lie at `at`: fields, a link of 0, values and sub-directories."""
    ordered = sorted(fields, key=lambda entry: entry.code)
    inline = layout.offset.size
    values_at = at + layout.count.size + len(ordered) * layout.entry.size + inline
    table, values = bytearray(layout.count.pack(len(ordered))), bytearray()
    for entry in ordered:
        here = values_at + len(values)
        kind, count, value = entry.type, entry.count, entry.value
        if isinstance(value, bytes) and len(value) <= inline:
            table += layout.entry.pack(entry.code, kind, count, value)
            continue
        if not isinstance(value, bytes):
            kind, count = _LONG8 if layout.big else _LONG, 1
            value = pack(value.values(), at=here, layout=layout)
        table += layout.entry.pack(entry.code, kind, count, layout.offset.pack(here))
        values += value + b"\0" * (len(value) % 2)
    return bytes(table + bytes(inline) + values)
