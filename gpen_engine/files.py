"""Files that appear under their name whole, or not at all; what goes wrong with them, in words."""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gpen_engine.errors import WeightsFolderUnusable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_FOLDER = frozenset({errno.EEXIST, errno.ENOTDIR})


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write; it takes the name when the block ends, and is gone if the block fails.

    Raises:
        WeightsFolderUnusable: it can't be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("xb") as file:
            yield file
            settle(file, draft, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):  # it has its name, or was never there
            draft.unlink()


def settle(file: BinaryIO, draft: Path, path: Path) -> None:
    """Give a written file its name, once its content is on the disk."""
    file.flush()
    os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network file systems can't, and the file is there
            os.fsync(folder)
    finally:
        os.close(folder)


def set_aside(path: Path) -> Path:
    """Rename a file so that its name is free, and return where it is now."""
    number = 0
    while (aside := path.with_name(f"{path.name}.replaced{number or ''}")).exists():
        number += 1
    return path.rename(aside)


def digest_of(path: Path) -> str:
    """Return a file's sha256 in hexadecimal.

    Raises:
        WeightsFolderUnusable: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsFolderUnusable(f"{path} can't be read: {error.strerror}") from error


def unwritable(path: Path, error: OSError) -> WeightsFolderUnusable:
    """Return the error to raise when the system refuses to write a weights file."""
    if error.errno in _FULL:
        return WeightsFolderUnusable(f"there is no room left for {path}")
    if error.errno in _NO_FOLDER:
        return WeightsFolderUnusable(f"{path} can't be written: {path.parent} isn't a folder")
    return WeightsFolderUnusable(f"{path} can't be written: {error.strerror}")
