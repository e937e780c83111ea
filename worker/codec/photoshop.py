"""Photoshop's image resources, the block that carries IPTC in JPEG, TIFF and PNG files.

In: the block's bytes. Out: the same without some of its parts, or in PNG's way of writing it down.
Source: Adobe Photoshop File Formats Specification (2019), "Image Resource Blocks".
"""

from collections.abc import Iterator, Set

from worker.codec.photograph import Metadata

THUMBNAILS = frozenset((0x0409, 0x040C))
RESOLUTION = frozenset((0x03ED,))
_IPTC = 0x0404
MARKS = (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR")
"""What a resource begins with, by the program that it is from."""
_HEADER_BYTES = 7  # mark, number, length of the name
_LINE_DIGITS = 72


def without(numbers: Set[int], block: bytes, notes: list[str]) -> bytes | None:
    """Return the block without some resources, None if empty.

    What can't be read at its end stays, unless it seems to hold one of these.

    Args:
        numbers: of the resources.
        block: as a file carried it.
        notes: is appended to.
    """
    parts = list(_split(block))
    tail = block[sum(len(part) for _, part in parts) :]
    if any(mark + number.to_bytes(2) in tail for mark in MARKS for number in numbers):
        notes.append("Photoshop's resources are damaged; only their readable parts were kept")
        tail = b""
    rest = b"".join(part for number, part in parts if number not in numbers) + tail
    return rest if rest.strip(b"\0") else None


def _split(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and all bytes of each resource, as far as they make sense."""
    at = 0
    while block[at : at + 4] in MARKS and at + _HEADER_BYTES <= len(block):
        number = int.from_bytes(block[at + 4 : at + 6])
        size_at = _size_at(block, at)
        size = int.from_bytes(block[size_at : size_at + 4])
        end = size_at + 4 + size
        if end > len(block):
            return
        end = min(end + size % 2, len(block))
        yield number, block[at:end]
        at = end


def _find(number: int, block: bytes) -> bytes | None:
    """Return what the first resource of a number holds, None where there is none."""
    part = next((part for one, part in _split(block) if one == number), None)
    if part is None:
        return None
    content_at = _size_at(part, 0) + 4
    size = int.from_bytes(part[content_at - 4 : content_at])
    return part[content_at : content_at + size]


def _size_at(block: bytes, at: int) -> int:
    """Return where the size of the resource at `at` lies: behind its name, which is padded."""
    name = 1 + block[at + 6]
    return at + 6 + name + name % 2


def resources_of(metadata: Metadata, notes: list[str]) -> bytes | None:
    """Return the block for a file that has no other place for IPTC."""
    block, iptc = metadata.photoshop, metadata.iptc
    if block is None or iptc is None:
        return wrap(iptc) if iptc is not None else block
    stored = _find(_IPTC, block)
    if stored is None:
        return wrap(iptc) + block
    if stored.rstrip(b"\0") != iptc.rstrip(b"\0"):
        notes.append("of two IPTC blocks that differ only Photoshop's was kept")
    return block


def wrap(iptc: bytes) -> bytes:
    """Return a block that holds nothing but IPTC."""
    header = MARKS[0] + _IPTC.to_bytes(2) + bytes(2) + len(iptc).to_bytes(4)
    return header + iptc + bytes(len(iptc) % 2)


def write_raw_profile(name: bytes, data: bytes) -> bytes:
    """Write bytes as the text that ImageMagick and ExifTool know as a raw profile."""
    digits = data.hex().encode()
    lines = [digits[at : at + _LINE_DIGITS] for at in range(0, len(digits), _LINE_DIGITS)]
    return b"\n" + name + b"\n" + f"{len(data):8d}".encode() + b"\n" + b"\n".join(lines) + b"\n"


def read_raw_profile(text: bytes) -> bytes | None:
    """Read what `write_raw_profile` writes; None for what isn't such a text."""
    _, _, numbered = text.lstrip().partition(b"\n")
    length, _, digits = numbered.lstrip().partition(b"\n")
    if not length.strip().isdigit():
        return None
    try:
        return bytes.fromhex(digits.decode("ascii")) or None
    except ValueError:
        return None
