"""How much memory a photo will take: its key and size go in, one of three classes comes out. Pure.

An estimate from the outside, to send large photos where there is room; a worker that finds itself
mistaken moves the photo to a larger class.
"""

import posixpath
from enum import StrEnum

_BYTES_PER_PIXEL = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), 0.35),
    **dict.fromkeys((".webp", ".avif", ".heic", ".heif"), 0.2),
    **dict.fromkeys((".jp2", ".j2k"), 0.6),
    **dict.fromkeys((".png", ".gif"), 1.5),
}
"""Of a file, by its suffix, where photographs are usual; others are taken to be uncompressed."""
_UNCOMPRESSED = 3.0
_WORKING_BYTES_PER_PIXEL = 20
"""Decoded, as the network sees it, and put back: docs/benchmarks.md, the album page."""
_MOST_BYTES = {"small": 1 << 30, "medium": 4 << 30}


class MemoryClass(StrEnum):
    """What a worker needs to have room for; each has a queue of its own."""

    SMALL = "small"  # up to 1 GiB: any card
    MEDIUM = "medium"  # up to 4 GiB
    LARGE = "large"

    @property
    def larger(self) -> "MemoryClass | None":
        """The next class above; None above the largest."""
        classes = list(MemoryClass)
        return next(iter(classes[classes.index(self) + 1 :]), None)


_ROOM_BYTES = {MemoryClass.SMALL: 0, MemoryClass.MEDIUM: 4 << 30, MemoryClass.LARGE: 12 << 30}
"""What a machine and its card should have in all: of a card of 6 GB the driver leaves 5.7 GiB."""


def classes_for(room_bytes: int) -> tuple[MemoryClass, ...]:
    """Return what a worker takes that nobody told: small photos, and larger ones as it has room."""
    return tuple(each for each in MemoryClass if room_bytes >= _ROOM_BYTES[each])


def estimate_bytes(key: str, size_bytes: int) -> int:
    """Estimate the memory that restoring a file takes, from its suffix and size."""
    suffix = posixpath.splitext(key)[1].lower()
    pixels = size_bytes / _BYTES_PER_PIXEL.get(suffix, _UNCOMPRESSED)
    return int(pixels * _WORKING_BYTES_PER_PIXEL)


def memory_class(key: str, size_bytes: int) -> MemoryClass:
    """Return the smallest class that a file fits into."""
    estimate = estimate_bytes(key, size_bytes)
    fitting = (name for name, most in _MOST_BYTES.items() if estimate <= most)
    return MemoryClass(next(fitting, MemoryClass.LARGE))
