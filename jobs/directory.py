"""An object store in a directory: keys are relative paths, and no key or link leads outside."""

import errno
import os
import secrets
import stat
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from jobs.errors import (
    DestinationUnusable,
    JobError,
    OutputConflict,
    PhotoMissing,
    PhotoUnreadable,
    SourceMissing,
    StoreFull,
    StoreUnavailable,
    UnsafeKey,
)
from jobs.logs import get_logger
from jobs.objects import ObjectInfo, PutResult, as_file, pieces_of, write_pieces
from jobs.schema import MAX_OBJECT_KEY_BYTES, check_key

log = get_logger(__name__)

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_TAKEN = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR}
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class DirectoryStore:
    """Objects as files under one directory, which need not exist before the first put."""

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().resolve()

    @property
    def url(self) -> str:
        """The directory's absolute path."""
        return str(self._root)

    def list(self) -> Iterator[ObjectInfo]:
        """Yield all files by key. Linked folders aren't followed, nor links that leave the root."""
        try:
            yield from self._walk()
        except OSError as error:
            raise SourceMissing(f"can't list {error.filename}: {error.strerror}") from error

    def head(self, key: str) -> ObjectInfo | None:
        """Return a file's key and size, None where there is none."""
        path = self._path(key)
        try:
            return ObjectInfo(key, path.stat().st_size) if path.is_file() else None
        except OSError as error:
            raise _translated(error, key) from error

    def get(self, key: str) -> bytes:
        """Return a file's bytes."""
        with self._opened(key) as file:
            return file.read()

    def read(self, key: str, start: int, size: int) -> bytes:
        """Return a part of a file."""
        with self._opened(key) as file:
            file.seek(start)
            return file.read(size)

    def fetch(self, key: str, target: BinaryIO) -> int:
        """Copy a file to another that is open."""
        with closing(self._pieces(key)) as pieces:
            return write_pieces(pieces, target)

    def put_once(self, key: str, data: bytes | BinaryIO, *, content_type: str) -> PutResult:  # noqa: ARG002 - files have no content type
        """Write a file under a hidden name, then link it to its own name, which must be free."""
        path = self._path(key)
        file = as_file(data)
        try:
            with self._held(path.parent, make=True) as folder:
                if _write_new(folder / path.name, file):
                    return PutResult.CREATED
                if _same_bytes(folder / path.name, file):
                    return PutResult.SAME
        except OSError as error:
            raise _translated(error, key) from error
        raise OutputConflict(f"another file is at {key!r} in {self.url}")

    def check_readable(self) -> None:
        """Look into the directory."""
        try:
            with os.scandir(self._root):
                pass
        except NotADirectoryError as error:
            hint = "for one picture use: gpen-archive restore IN OUT"
            raise SourceMissing(f"{self.url} is a file, not a folder; {hint}") from error
        except OSError as error:
            raise SourceMissing(f"can't read {self.url}: {error.strerror}") from error

    def check_writable(self) -> None:
        """Write a file and delete it, in the directory or in the closest one that exists."""
        existing = next(path for path in (self._root, *self._root.parents) if path.exists())
        probe = existing / _hidden_name()
        try:
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            raise DestinationUnusable(f"can't write into {existing}: {error.strerror}") from error

    def _walk(self) -> Iterator[ObjectInfo]:
        folders = [("", _names(self._root))]
        while folders:  # which may be nested deeper than calls may
            prefix, names = folders[-1]
            if not names:
                folders.pop()
                continue
            key = prefix + names.pop()
            if key.endswith("/"):
                folders.append((key, _names(self._root / key)))
            elif (size_bytes := self._size_of(key)) is not None:
                yield ObjectInfo(key, size_bytes)

    def _size_of(self, key: str) -> int | None:
        """Return a file's size, None where it isn't one of this store's."""
        path = self._root / key
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            if not self._is_file_inside(path):
                log.warning("store.link_skipped", key=key, store=self.url)
                return None
            found = path.stat()
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def _is_file_inside(self, link: Path) -> bool:
        """Tell whether a link leads to a file of the store; one that leads to itself doesn't."""
        return link.is_file() and link.resolve().is_relative_to(self._root)

    def _pieces(self, key: str) -> Generator[bytes, None, None]:
        """Yield a file's bytes; what goes wrong where they are used isn't translated here."""
        with self._opened(key) as file:
            yield from pieces_of(file)

    @contextmanager
    def _opened(self, key: str) -> Iterator[BinaryIO]:
        path = self._path(key)
        try:
            with self._held(path.parent) as folder, _open(folder / path.name) as file:
                yield file
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise PhotoMissing(f"there is no {key!r} in {self.url}") from error
        except PermissionError as error:
            raise PhotoUnreadable(f"may not read {key!r}: {error.strerror}") from error
        except OSError as error:
            raise _translated(error, key) from error

    def _path(self, key: str) -> Path:
        """Return where a key's file is, after all links on the way were followed."""
        key = check_key(key, max_bytes=MAX_OBJECT_KEY_BYTES)
        with suppress(OSError, RuntimeError):  # a link to itself
            path = (self._root / key).resolve()
            if path.is_relative_to(self._root):
                return path
        raise UnsafeKey(f"the key {key!r} leads outside {self.url} through a link")

    @contextmanager
    def _held(self, path: Path, *, make: bool = False) -> Iterator[Path]:
        """Lend a folder by a name that leads to it even if a link takes its place meanwhile.

        Each folder on the way is opened from the one above it, and no link is followed any more.
        """
        if make:
            _make_folder(self._root)
        descriptor = os.open(self._root, _FOLDER)
        try:
            for part in path.relative_to(self._root).parts:
                below = _by_descriptor(descriptor) / part
                if make:
                    _make_folder(below)
                above, descriptor = descriptor, os.open(below, _FOLDER)
                os.close(above)
            yield _by_descriptor(descriptor)
        finally:
            os.close(descriptor)


def _names(folder: Path) -> list[str]:
    """Return what lies in a folder, a folder with a slash; the first of them last.

    Nothing but names, for there may be a million. With its slash a folder sorts as its files' keys
    do: "a.jpg" comes before "a/b.jpg".
    """
    with os.scandir(folder) as found:
        names = [
            entry.name + "/" * entry.is_dir(follow_symlinks=False)
            for entry in found
            if not entry.name.startswith(".")
        ]
    names.sort(reverse=True)
    return names


def _by_descriptor(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}")


def _open(path: Path) -> BinaryIO:
    """Open a file for reading, but no link."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW))


def _hidden_name() -> str:
    return f".{secrets.token_hex(8)}.partial"


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, each on the disk before the next."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _write_new(path: Path, data: BinaryIO) -> bool:
    """Write a file that appears at once and complete; return False where the name is taken."""
    partial = path.parent / _hidden_name()
    try:
        with partial.open("xb") as file:
            write_pieces(pieces_of(data), file)
            os.fsync(file.fileno())
        if not _give_name(partial, path):
            return False
    finally:
        partial.unlink(missing_ok=True)
    _sync(path.parent)
    return True


def _same_bytes(path: Path, data: BinaryIO) -> bool:
    data.seek(0)
    with _open(path) as file:
        both = zip_longest(pieces_of(file), pieces_of(data))
        return all(theirs == ours for theirs, ours in both)


def _give_name(partial: Path, path: Path) -> bool:
    try:
        os.link(partial, path)  # unlike a rename, a link never replaces
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            return False
        partial.rename(path)
    return True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError, key: str) -> JobError:
    if error.errno in _NO_ROOM:
        return StoreFull(f"no room for {key!r}: {error.strerror}")
    if error.errno in _TAKEN:
        return OutputConflict(f"a file or folder is in the way of {key!r}: {error.strerror}")
    if error.errno == errno.ENAMETOOLONG:
        return UnsafeKey(f"a part of the key {key!r} is too long for this file system")
    if error.errno == errno.ELOOP:
        return UnsafeKey(f"a link took the place of {key!r}")
    return StoreUnavailable(f"can't reach {key!r}: {error.strerror}")
