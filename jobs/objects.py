"""What an object store is: a flat set of keys, each with bytes that are written once.

Objects may be larger than memory: stores move them piece by piece between files.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import BinaryIO, Protocol

_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object without its bytes."""

    key: str
    size_bytes: int


class PutResult(StrEnum):
    """What `put_once` found."""

    CREATED = "created"  # the object is new
    SAME = "same"  # it was there already, with the same bytes


class ObjectStore(Protocol):
    """Where masters come from and derivatives go to. Keys are relative to the store's root.

    Raises:
        StoreUnavailable: by every method, when the store doesn't answer.
        UnsafeKey: by every method that takes a key, when it could lead outside the store.
    """

    @property
    def url(self) -> str:
        """The store's address in one canonical spelling, without secrets."""
        ...

    def list(self) -> Iterator[ObjectInfo]:
        """Yield all objects without hidden ones (a part of the key starts with a dot).

        They come by key, but for S3 servers that sort folders otherwise. Keys come as they are:
        `jobs.schema.check_key` says which of them can be used.

        Raises:
            SourceMissing: the store, or a part of it, can't be read.
        """
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object, None where there is none."""
        ...

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            PhotoMissing: there is no such object.
        """
        ...

    def read(self, key: str, start: int, size: int) -> bytes:
        """Return `size` bytes of an object from `start` on; fewer, or none, at its end.

        Raises:
            PhotoMissing: there is no such object.
        """
        ...

    def fetch(self, key: str, target: BinaryIO) -> int:
        """Write an object's bytes to an open file, from its position on; return how many.

        Raises:
            PhotoMissing: there is no such object.
            OSError: the file can't be written; as it came, for that isn't the store's fault.
        """
        ...

    def put_once(self, key: str, data: bytes | BinaryIO, *, content_type: str) -> PutResult:
        """Store an object completely or not at all; what is there is never replaced.

        A seekable file is stored from its start to its end, wherever it stands.

        Raises:
            OutputConflict: an object with other bytes has this key.
            StoreFull: there is no room.
        """
        ...

    def check_readable(self) -> None:
        """Make sure that the store can be listed.

        Raises:
            SourceMissing: it can't.
        """
        ...

    def check_writable(self) -> None:
        """Make sure that objects can be added; leaves nothing behind.

        Raises:
            DestinationUnusable: they can't.
        """
        ...


def as_file(data: bytes | BinaryIO) -> BinaryIO:
    """Return what is to be stored as a file that stands at its start."""
    if isinstance(data, bytes):
        return io.BytesIO(data)
    data.seek(0)
    return data


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield what is left of a file, a piece at a time."""
    return iter(partial(file.read, _PIECE_BYTES), b"")


def write_pieces(pieces: Iterable[bytes], target: BinaryIO) -> int:
    """Write pieces to a file, past its buffer, and return how many bytes they were."""
    written = 0
    for piece in pieces:
        target.write(piece)
        written += len(piece)
    target.flush()
    return written
