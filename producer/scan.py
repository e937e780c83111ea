"""Reads a source and finds the photos in it: a store goes in, candidates come out. Writes nothing.

A file is a candidate by its suffix alone. What is inside is the worker's to judge: an empty or
damaged photo is a candidate too, so that it fails under its own name instead of being passed over.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field

from jobs.errors import UnsafeKey
from jobs.schema import Candidate, check_key
from jobs.storage import ObjectStore

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"),
    *(".jp2", ".j2k", ".avif", ".heic", ".heif"),
)
_OUR_MARK = ".restored."


@dataclass(slots=True)
class Tally:
    """What a scan met.

    Attributes:
        photos: how many candidates.
        ignored: how many files that aren't photos by their suffix.
        ours: how many derivatives and sidecars of an earlier job.
        hidden: how many whose name, or whose folder's name, begins with a dot.
        unsafe: photos that no ledger can hold, because their name can't be the key of an object.
    """

    photos: int = 0
    ignored: int = 0
    ours: int = 0
    hidden: int = 0
    unsafe: list[str] = field(default_factory=list)


def scan(store: ObjectStore, tally: Tally) -> Iterator[Candidate]:
    """Yield the photos of a store in the order of their keys, counting into `tally` on the way."""
    for found in store.list():
        folder, name = posixpath.split(found.key)
        if name.startswith(".") or folder.startswith(".") or "/." in folder:
            tally.hidden += 1
        elif _OUR_MARK in name.lower():
            tally.ours += 1
        elif posixpath.splitext(name)[1].lower() not in SUFFIXES:
            tally.ignored += 1
        else:
            try:
                candidate = Candidate(key=check_key(found.key), size_bytes=found.size_bytes)
            except UnsafeKey:
                tally.unsafe.append(found.key)
                continue
            tally.photos += 1
            yield candidate
