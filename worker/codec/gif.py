"""GIF files: the XMP packet and the ICC profile that other programs' extensions hold.

In: a file's bytes. Out: what was found. Sources: GIF89a; for XMP part 3 of its specification,
1.1.2; for profiles ICC's own "Embedding ICC profiles in GIF".
"""

from collections.abc import Iterator

from worker.codec.stored import Stored

XMP, PROFILE = b"XMP DataXMP", b"ICCRGBG1012"
_HEADER_BYTES, _TABLE_FLAGS_AT, _IMAGE_BYTES = 13, 10, 10
_EXTENSION, _APPLICATION, _IMAGE = b"\x21", b"\xff", b"\x2c"
_NAME_BYTES = 11
_MAGIC = b"\x01" + bytes(range(255, -1, -1))
"""Behind XMP, which lies there bare: whichever of its bytes counts as a length leads to the end."""


def read_extensions(data: Stored) -> dict[bytes, bytes]:
    """Return the contents of known extensions by name; of one that comes twice the last."""
    found: dict[bytes, bytes] = {}
    for at in _extensions(data):
        name = bytes(data[at + 1 : at + 1 + _NAME_BYTES])
        if name == XMP:
            start = at + 1 + _NAME_BYTES
            bare = bytes(data[start : _skip(data, start) - 1])
            found[name] = bare.removesuffix(_MAGIC)
        elif name == PROFILE:
            _, *parts = (bytes(data[start : start + n]) for start, n in _blocks(data, at))
            found[name] = b"".join(parts)
    return found


def _extensions(data: Stored) -> Iterator[int]:
    """Yield where the blocks of each application's extension start."""
    at = _HEADER_BYTES + _table_bytes(data, _TABLE_FLAGS_AT)
    while (kind := bytes(data[at : at + 1])) in {_EXTENSION, _IMAGE}:
        if kind == _IMAGE:
            at += _IMAGE_BYTES + _table_bytes(data, at + _IMAGE_BYTES - 1) + 1
        else:
            if bytes(data[at + 1 : at + 2]) == _APPLICATION:
                yield at + 2
            at += 2
        at = _skip(data, at)


def _table_bytes(data: Stored, flags_at: int) -> int:
    """Return the length of the palette that flags tell."""
    flags = int.from_bytes(data[flags_at : flags_at + 1])
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def _blocks(data: Stored, at: int) -> Iterator[tuple[int, int]]:
    """Yield where each block's content starts, and its length, up to the empty one."""
    while length := int.from_bytes(data[at : at + 1]):
        yield at + 1, length
        at += 1 + length


def _skip(data: Stored, at: int) -> int:
    """Return where blocks end, behind the empty one."""
    for start, length in _blocks(data, at):
        at = start + length
    return at + 1
