"""A file's bytes, in memory, in an open file or still in its store: what readers look at.

In: positions. Out: bytes. `bytes` itself is one, and `FileBytes`; one that fetches only what is
looked at is `worker.survey.lazy.LazyBytes`.
"""

import hashlib
import io
import os
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE_BYTES = 2**20


class Stored(Protocol):
    """Bytes that can be measured and sliced."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, part: slice, /) -> bytes | bytearray | memoryview:
        """Return those of a slice with step 1, which may be fewer at the end."""
        ...


class FileBytes:
    """The bytes of an open file, wherever it stands; threads may share it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        file.flush()

    def __len__(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(len(self))
        data = os.pread(self.file.fileno(), max(0, stop - start), start)
        if len(data) >= stop - start:
            return data
        pieces = [data]  # the kernel gives at most 2 GiB at a time
        while data:
            start += len(data)
            data = os.pread(self.file.fileno(), stop - start, start)
            pieces.append(data)
        return b"".join(pieces)


def sha256_of(data: Stored) -> str:
    """Return the sha256 of bytes in hexadecimal."""
    digest = hashlib.sha256()
    for at in range(0, len(data), _PIECE_BYTES):
        digest.update(data[at : at + _PIECE_BYTES])
    return digest.hexdigest()


def find(data: Stored, mark: bytes, at: int = 0) -> int:
    """Return where a mark first lies from `at` on, -1 where it doesn't; looks piece by piece."""
    if isinstance(data, bytes):
        return data.find(mark, at)
    while at < len(data):
        found = bytes(data[at : at + _PIECE_BYTES]).find(mark)
        if found >= 0:
            return at + found
        at += _PIECE_BYTES - len(mark) + 1
    return -1


def open_stored(data: Stored) -> BinaryIO:
    """Return a file for reading."""
    return io.BufferedReader(_StoredFile(data))


class _StoredFile(io.RawIOBase):
    def __init__(self, data: Stored) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read anywhere."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a position, which may lie behind the end."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence]
        if start + offset < 0:
            raise ValueError(f"a position before the start: {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, room: "WriteableBuffer", /) -> int:
        """Fill `room` as far as there are bytes."""
        view = memoryview(room).cast("B")
        part = self._data[self._at : self._at + min(len(view), _PIECE_BYTES)]
        view[: len(part)] = part
        self._at += len(part)
        return len(part)
