"""Where large things lie while a file is worked on: in memory while there is room, then on disk.

In: sizes. Out: files and arrays that have no name anywhere, and are gone with whoever holds them.
Whoever walks over a large array does it a few rows at a time (`bands`). docs/adr/0013 says why.
"""

import errno
import io
import math
import mmap
import os
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from jobs.errors import ScratchFull

MEMORY_BYTES = 128 << 20
_BAND_BYTES = 2 << 20
_SWEEP_BANDS = 16
_SIDE_PX = 512
_SWEEP_S = 0.05
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE}  # a map of a file is an open file, too
_CUT_SHORT = "requested and"
"""NumPy's words for a disk that was full while it wrote an array; it gives no number."""

_Holder = TypeVar("_Holder")


class Space(Protocol):
    """Room for arrays."""

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array with anything in it.

        Raises:
            ScratchFull: there is no room.
        """
        ...


class Scratch:
    """Room for one process; threads may share it.

    Args:
        folder: where files lie that are too large for memory; None for the system's own place.
        memory_bytes: how much may lie in memory at the same time.
    """

    def __init__(self, folder: Path | None = None, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.memory_bytes = memory_bytes
        self._folder = folder
        self._left_bytes = memory_bytes
        self._given_back: deque[int] = deque()
        self._lock = threading.Lock()

    def file(self, size_bytes: int) -> BinaryIO:
        """Return an empty file for reading and writing.

        Args:
            size_bytes: how large it will be, or a guess.

        Raises:
            ScratchFull: it can't be made.
        """
        if not self._take(size_bytes):
            return self.disk_file()
        return self._hold(size_bytes, _memory_file)

    def disk_file(self) -> BinaryIO:
        """Return an empty file that isn't in memory.

        Raises:
            ScratchFull: it can't be made.
        """
        folder = self._folder or Path(tempfile.gettempdir())
        with _making_in(folder), tempfile.TemporaryFile(dir=folder) as file:
            return _File(_Descriptor(os.dup(file.fileno())))

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array; a large one is a map of a file on the disk."""
        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if self._take(size_bytes):
            return self._hold(size_bytes, lambda: np.empty(shape, dtype))
        with self.disk_file() as file, writing(size_bytes):
            reserve(file.fileno(), 0, size_bytes)
            return map_array(file.fileno(), 0, shape, dtype)

    def _take(self, size_bytes: int) -> bool:
        """Tell whether there is room in memory, and take it; nothing may have more than half."""
        with self._lock:
            while self._given_back:
                self._left_bytes += self._given_back.popleft()
            if size_bytes > min(self._left_bytes, self.memory_bytes // 2):
                return False
            self._left_bytes -= size_bytes
            return True

    def _hold(self, size_bytes: int, make: Callable[[], _Holder]) -> _Holder:
        """Make what has the room that was taken, until it ends or can't be made."""
        # Holders may end anywhere, also where somebody has the lock: so they don't take it.
        try:
            holder = make()
            weakref.finalize(holder, self._given_back.append, size_bytes).atexit = False
        except BaseException:
            self._given_back.append(size_bytes)
            raise
        return holder


class _Descriptor(io.FileIO):
    """A file that is closed, without a warning, when nobody holds it any more."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "r+")
        self.name = "scratch"  # tifffile asks for one that isn't a number

    def __del__(self) -> None:
        self.close()


class _File(io.BufferedRandom):
    """The same with a buffer, whose content doesn't matter then."""

    def __del__(self) -> None:
        with suppress(OSError, ValueError):
            self.close()


def _memory_file() -> BinaryIO:
    with _making_in("memory"):
        return _File(_Descriptor(os.memfd_create("scratch")))


@contextmanager
def _making_in(place: object) -> Iterator[None]:
    """Give a file that can't be made a name."""
    try:
        yield
    except OSError as error:
        raise ScratchFull(f"no file can be made in {place}: {error.strerror}") from error


DEFAULT = Scratch()
"""What is used where nobody says otherwise."""


@contextmanager
def writing(size_bytes: int) -> Iterator[None]:
    """Give a full disk its name, where something of about that size is laid aside.

    Raises:
        ScratchFull: there is no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM or _CUT_SHORT in str(error):
            raise ScratchFull(f"no room for {size_bytes} bytes (GPEN_SCRATCH): {error}") from error
        raise


def reserve(fd: int, start: int, size_bytes: int) -> None:
    """Make sure of the room of a part of a file: a map of a full disk would end the process."""
    if size_bytes:
        os.posix_fallocate(fd, start, size_bytes)


def map_array(fd: int, start: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return a part of a file on the disk as an array, which holds no memory for long."""
    size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(map_file(fd, start, size_bytes), dtype).reshape(shape)


def map_file(fd: int, start: int, size_bytes: int) -> mmap.mmap:
    """Map a part of a file on the disk, for reading and writing."""
    pages = mmap.mmap(fd, size_bytes, offset=start)
    _SWEEPER.add(pages)
    return pages


def bands(array: NDArray[Any]) -> Iterator[slice]:
    """Yield a few rows of an array at a time, from the first on."""
    height = len(array)
    rows = max(1, _BAND_BYTES * height // max(1, array.nbytes))
    for number, top in enumerate(range(0, height, rows), start=1):
        yield slice(top, min(top + rows, height))
        if number % _SWEEP_BANDS == 0:  # a busy machine may not let the thread in for a while
            _SWEEPER.sweep()


def copy_parts(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy an array into another one, square by square, as the source lies in memory.

    In one that is turned by a quarter each row would touch all of the other.
    """
    if abs(source.strides[0]) < abs(source.strides[1]):
        source, target = source.swapaxes(0, 1), target.swapaxes(0, 1)
    height, width = source.shape[:2]
    for top, left in product(range(0, height, _SIDE_PX), range(0, width, _SIDE_PX)):
        part = slice(top, top + _SIDE_PX), slice(left, left + _SIDE_PX)
        target[part] = source[part]
        _SWEEPER.sweep()


class _Sweeper:
    """Keeps maps of files from filling the memory of whoever walks over them.

    A page that was touched counts as memory of the process until it is taken away, which loses
    nothing: what was written to it is in the kernel's cache, or on the disk. It is done from
    beside, so that no library that gets such an array has to know.
    """

    def __init__(self) -> None:
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._is_running = False

    def add(self, pages: mmap.mmap) -> None:
        """Sweep a map as long as there is one."""
        with self._lock:
            self._maps.add(pages)
            if not self._is_running:
                # No room for a thread: `bands` sweeps without it, and the next map tries again.
                with suppress(RuntimeError):
                    threading.Thread(target=self._run, name="scratch", daemon=True).start()
                    self._is_running = True

    def sweep(self) -> None:
        """Take all pages away."""
        with self._lock:
            maps = list(self._maps)
        for pages in maps:
            pages.madvise(mmap.MADV_DONTNEED)

    def _run(self) -> None:
        while self._goes_on():
            self.sweep()
            time.sleep(_SWEEP_S)

    def _goes_on(self) -> bool:
        with self._lock:
            self._is_running = len(self._maps) > 0
            return self._is_running


_SWEEPER = _Sweeper()
