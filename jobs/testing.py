"""Stand-ins for tests, which pass the same contract tests as the real things (tests/contract)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from jobs.errors import OutputConflict, PhotoMissing
from jobs.ledger import Ledger
from jobs.migrate import migrate
from jobs.objects import ObjectInfo, PutResult, as_file, write_pieces
from jobs.schema import MAX_OBJECT_KEY_BYTES, check_key


class FakeClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class MemoryStore:
    """An `ObjectStore` in a dictionary, `objects`, that a test may fill and look into."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})

    @property
    def url(self) -> str:
        """An address that no other store has."""
        return f"memory://{id(self)}"

    def list(self) -> Iterator[ObjectInfo]:
        """Yield all objects by key."""
        for key in sorted(self.objects):
            if not any(part.startswith(".") for part in key.split("/")):
                yield ObjectInfo(key, len(self.objects[key]))

    def head(self, key: str) -> ObjectInfo | None:
        """Return an object's key and size, None where there is none."""
        data = self.objects.get(_checked(key))
        return None if data is None else ObjectInfo(key, len(data))

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        try:
            return self.objects[_checked(key)]
        except KeyError as error:
            raise PhotoMissing(f"there is no {key!r} in {self.url}") from error

    def read(self, key: str, start: int, size: int) -> bytes:
        """Return a part of an object."""
        return self.get(key)[start : start + size]

    def fetch(self, key: str, target: BinaryIO) -> int:
        """Write an object's bytes to an open file."""
        return write_pieces([self.get(key)], target)

    def put_once(self, key: str, data: bytes | BinaryIO, *, content_type: str) -> PutResult:  # noqa: ARG002 - not kept
        """Store an object unless another has its key."""
        content = as_file(data).read()
        if _checked(key) not in self.objects:
            self.objects[key] = content
            return PutResult.CREATED
        if self.objects[key] == content:
            return PutResult.SAME
        raise OutputConflict(f"another object is at {key!r} in {self.url}")

    def check_readable(self) -> None:
        """Do nothing: memory can be read."""

    def check_writable(self) -> None:
        """Do nothing: memory can be written."""


def sqlite_ledger(path: Path, clock: Callable[[], float]) -> Ledger:
    """Return the real ledger on a new, migrated SQLite file: faster than any fake would be true."""
    url = f"sqlite:///{path}"
    migrate(url)
    return Ledger(url, clock=clock)


def _checked(key: str) -> str:
    return check_key(key, max_bytes=MAX_OBJECT_KEY_BYTES)
