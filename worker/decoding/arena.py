"""Room for arrays in the files that a parent gave: what is decoded into them has arrived already.

In: two open files, one in memory and one on the disk. Out: arrays that lie in them, and places.
"""

import errno
import math
import mmap
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from worker.scratch import bands, map_file, reserve, writing

MEMORY, DISK = 0, 1
_ALIGNED_BYTES = 64
_WORTH_MAPPING_BYTES = 1 << 20
_NOT_ALLOWED = {errno.EFBIG, errno.ENOMEM}

Place = tuple[int, int]
"""Which of the files, and where in it."""


class Arena:
    """Two files, filled from their starts.

    Args:
        memory: the one in memory.
        disk: the one on the disk, for what finds no room in the other.
        memory_bytes: how much may lie in memory.
    """

    def __init__(self, memory: int, disk: int, *, memory_bytes: int) -> None:
        self._fds = (memory, disk)
        self._ends = [0, 0]
        self._memory_bytes = memory_bytes
        self._places: dict[int, tuple[Place, int]] = {}
        self._maps: weakref.WeakValueDictionary[int, mmap.mmap] = weakref.WeakValueDictionary()

    @property
    def is_in_use(self) -> bool:
        """Whether there still is an array in one of the files."""
        return len(self._maps) > 0

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array, in one of the files where it is large.

        Raises:
            ScratchFull: the disk has no room.
            MemoryError: it is more than this process may have.
        """
        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if size_bytes < _WORTH_MAPPING_BYTES:
            return np.empty(shape, dtype)
        with _room(size_bytes):
            place = self._take(size_bytes, mmap.ALLOCATIONGRANULARITY)
            file, at = place
            map_part = map_file if file == DISK else _map_memory
            pages = map_part(self._fds[file], at, size_bytes)
        array: NDArray[Any] = np.frombuffer(pages, dtype).reshape(shape)
        self._maps[_address(array)] = pages
        self._places[_address(array)] = place, size_bytes
        return array

    def add(self, part: NDArray[Any] | bytes) -> Place:
        """Return the place of something; it is written there unless it is there.

        Raises:
            ScratchFull, MemoryError: as `empty`.
        """
        if isinstance(part, bytes):
            return self._write(np.frombuffer(part, np.uint8))
        if _address(part) in self._maps and part.flags.c_contiguous:
            place, size_bytes = self._places[_address(part)]
            if part.nbytes <= size_bytes:
                return place
        return self._write(part)

    def _write(self, array: NDArray[Any]) -> Place:
        """Write an array, a few rows at a time where it isn't in one piece."""
        with _room(array.nbytes):
            file, at = self._take(array.nbytes, _ALIGNED_BYTES)
            end = at
            for rows in bands(array):
                left = np.ascontiguousarray(array[rows]).reshape(-1).view(np.uint8).data
                while left:
                    written = os.pwrite(self._fds[file], left, end)
                    end, left = end + written, left[written:]
            return file, at

    def _take(self, size_bytes: int, aligned_bytes: int) -> Place:
        file = MEMORY if self._ends[MEMORY] + size_bytes <= self._memory_bytes else DISK
        at = -(-self._ends[file] // aligned_bytes) * aligned_bytes
        self._ends[file] = at + size_bytes
        if file == DISK:
            reserve(self._fds[file], at, size_bytes)
        else:
            os.ftruncate(self._fds[file], at + size_bytes)
        return file, at


@contextmanager
def _room(size_bytes: int) -> Iterator[None]:
    """Give a full disk its name, and the limits of this process that of memory."""
    try:
        with writing(size_bytes):
            yield
    except OSError as error:
        if error.errno in _NOT_ALLOWED:
            raise MemoryError(f"{size_bytes} bytes aren't allowed: {error}") from error
        raise


def _map_memory(fd: int, at: int, size_bytes: int) -> mmap.mmap:
    return mmap.mmap(fd, size_bytes, offset=at)


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
