"""Which files of a source are photos: a key goes in, the kind of file comes out. No I/O.

A file is a candidate by its name alone. What is inside is the worker's to judge: an empty or
damaged photo is a candidate too, so that it fails under its own name instead of being passed over.
"""

import posixpath
from enum import StrEnum

from jobs.errors import UnsafeKey
from jobs.schema import check_key

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"),
    *(".jp2", ".j2k", ".avif", ".heic", ".heif"),
)
_OUR_MARK = ".restored."


class FileKind(StrEnum):
    """What a file of a source is to a job."""

    PHOTO = "photo"
    IGNORED = "ignored"  # no photo by its suffix
    OURS = "ours"  # derivative or sidecar of an earlier job
    HIDDEN = "hidden"  # its name, or its folder's, begins with a dot
    UNSAFE = "unsafe"  # a photo that no ledger can hold: its name can't be the key of an object


def kind_of(key: str) -> FileKind:
    """Tell what the file of a key is."""
    folder, name = posixpath.split(key)
    if name.startswith(".") or folder.startswith(".") or "/." in folder:
        return FileKind.HIDDEN
    if _OUR_MARK in name.lower():
        return FileKind.OURS
    if posixpath.splitext(name)[1].lower() not in SUFFIXES:
        return FileKind.IGNORED
    try:
        check_key(key)
    except UnsafeKey:
        return FileKind.UNSAFE
    return FileKind.PHOTO
