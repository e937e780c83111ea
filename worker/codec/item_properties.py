"""The properties of the primary picture of a HEIC or AVIF file.

In: a file's bytes. Out: colour codes, and whether a decoder turns the picture. Sources: ISO/IEC
14496-12, 8.11; ISO/IEC 23008-12, 6.5.
"""

from collections.abc import Iterator

from worker.codec.jp2_boxes import Box, find, split
from worker.codec.stored import Stored

_FULL_BOX_BYTES = 4  # version and flags
_COLOUR, _CODES, _ROTATION = b"colr", b"nclx", b"irot"
_ODD_QUARTER = 1


def read(data: Stored) -> list[Box]:
    """Return them in the order in which they apply, each its type and its content."""
    meta = next((body for kind, body in split(data) if kind == b"meta"), b"")
    boxes = list(split(meta[_FULL_BOX_BYTES:]))
    primary = find(boxes, b"pitm")
    identifier = int.from_bytes(primary[_FULL_BOX_BYTES:])
    told = list(split(find(boxes, b"iprp")))
    shared = list(split(find(told, b"ipco")))
    return [
        shared[number - 1]
        for kind, body in told
        if kind == b"ipma"
        for item, numbers in _associations(body)
        if item == identifier
        for number in numbers
        if 1 <= number <= len(shared)
    ]


def colour_codes(properties: list[Box]) -> tuple[int, int] | None:
    """Return the numbers of primaries and transfer; None where the file doesn't give them."""
    told = (body for kind, body in properties if kind == _COLOUR and body.startswith(_CODES))
    codes = next(told, b"")[len(_CODES) :]
    return (int.from_bytes(codes[:2]), int.from_bytes(codes[2:4])) if codes else None


def is_quarter_turn(properties: list[Box]) -> bool:
    """Tell whether width and height change places when the picture is shown."""
    return bool(int.from_bytes(find(properties, _ROTATION)[:1]) & _ODD_QUARTER)


def _associations(body: bytes) -> Iterator[tuple[int, list[int]]]:
    """Yield items and the numbers of their properties (ISO/IEC 14496-12, 8.11.14)."""
    item_bytes = 4 if body[:1] != b"\0" else 2
    number_bytes = 2 if body[3:4] != b"\0" else 1
    essential = 0x80 << 8 * (number_bytes - 1)
    at = 2 * _FULL_BOX_BYTES  # behind the number of items
    while at + item_bytes < len(body):
        item, count = int.from_bytes(body[at : at + item_bytes]), body[at + item_bytes]
        at += item_bytes + 1
        end = at + count * number_bytes
        starts = range(at, end, number_bytes)
        yield item, [int.from_bytes(body[n : n + number_bytes]) & ~essential for n in starts]
        at = end
