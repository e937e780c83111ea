"""Reads a source and finds the photos in it: a store goes in, candidates come out. Writes nothing.

Which files are candidates, `jobs.candidates` says.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from jobs.candidates import FileKind, kind_of
from jobs.schema import Candidate
from jobs.storage import ObjectStore


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
        match kind_of(found.key):
            case FileKind.HIDDEN:
                tally.hidden += 1
            case FileKind.OURS:
                tally.ours += 1
            case FileKind.IGNORED:
                tally.ignored += 1
            case FileKind.UNSAFE:
                tally.unsafe.append(found.key)
            case FileKind.PHOTO:
                tally.photos += 1
                yield Candidate(key=found.key, size_bytes=found.size_bytes)
