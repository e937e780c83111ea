"""The process's heap: what is free of it goes back to the system.

A photo takes hundreds of megabytes in blocks of every size, each lane in its own part of the heap.
The C library keeps what is freed for later, in parts and pieces, so that a worker would hold more
after every large photo. Having it map each large block apart (M_MMAP_THRESHOLD) helps as much, but
the pages of every block are made anew then, which costs far more time.
"""

import ctypes
import time

_EVERY_S = 5.0  # looking through a large heap takes some 40 ms


class Heap:
    """Trims the heap, after each photo but not all the time; threads may share it."""

    def __init__(self, *, every_s: float = _EVERY_S) -> None:
        self._every_s = every_s
        self._due = 0.0

    def trim(self) -> None:
        """Give the system the pages that nothing uses, unless that was just done.

        Another C library than glibc does so by itself.
        """
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self._every_s
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)
