"""Photos with the same content: keys and sizes go in, groups of keys come out.

Only files of equal size can be equal. Of those a piece in the middle is read, which tells scans
apart that are of one size because they aren't compressed; only what still looks alike is read
whole, piece by piece.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from jobs.errors import Permanent, Transient
from jobs.schema import Candidate
from jobs.storage import ObjectStore

_SAMPLE_BYTES = 64 * 1024
_PIECE_BYTES = 4 << 20
_AT_A_TIME = 4


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Photos with one content: two or more keys, in their order."""

    sha256: str
    size_bytes: int
    keys: tuple[str, ...]

    @property
    def spare_bytes(self) -> int:
        """What all but one of them take."""
        return self.size_bytes * (len(self.keys) - 1)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All groups of duplicates, the largest waste first, and how many bytes were read for it."""

    groups: tuple[Duplicates, ...]
    bytes_read: int


def find_duplicates(store: ObjectStore, candidates: Iterable[Candidate]) -> Comparison:
    """Compare the photos of a store; empty ones and those that can't be read are left out."""
    sized = [candidate for candidate in candidates if candidate.size_bytes]
    with ThreadPoolExecutor(_AT_A_TIME) as threads:
        same_size = _in_groups(sized, lambda candidate: str(candidate.size_bytes), threads)
        sampled = _members(same_size)
        alike = _in_groups(sampled, partial(_hash_sample, store), threads)
        hashed = _members(alike)
        equal = _in_groups(hashed, partial(_hash_whole, store), threads)
    groups = [
        Duplicates(sha256, same[0].size_bytes, tuple(sorted(one.key for one in same)))
        for sha256, same in equal.items()
    ]
    groups.sort(key=lambda group: (-group.spare_bytes, group.keys))
    bytes_read = sum(min(one.size_bytes, _SAMPLE_BYTES) for one in sampled)
    return Comparison(tuple(groups), bytes_read + sum(one.size_bytes for one in hashed))


def _in_groups(
    candidates: list[Candidate], tell: Callable[[Candidate], str | None], threads: Executor
) -> dict[str, list[Candidate]]:
    """Return the groups of two or more of which `tell` says the same."""
    groups: defaultdict[str, list[Candidate]] = defaultdict(list)
    for candidate, told in zip(candidates, threads.map(tell, candidates), strict=True):
        if told is not None:
            groups[told].append(candidate)
    return {told: same for told, same in groups.items() if len(same) > 1}


def _members(groups: dict[str, list[Candidate]]) -> list[Candidate]:
    return [candidate for same in groups.values() for candidate in same]


def _hash_sample(store: ObjectStore, candidate: Candidate) -> str | None:
    """Return the size and the hash of a piece in the middle."""
    start = max(0, (candidate.size_bytes - _SAMPLE_BYTES) // 2)
    told = _hash(store, candidate.key, [start], _SAMPLE_BYTES)
    return told and f"{candidate.size_bytes} {told}"


def _hash_whole(store: ObjectStore, candidate: Candidate) -> str | None:
    """Return the sha256 of a file."""
    starts = range(0, candidate.size_bytes, _PIECE_BYTES)
    return _hash(store, candidate.key, starts, _PIECE_BYTES)


def _hash(store: ObjectStore, key: str, starts: Iterable[int], size: int) -> str | None:
    """Return the sha256 of pieces, None where they can't be read."""
    digest = hashlib.sha256()
    try:
        for start in starts:
            digest.update(store.read(key, start, size))
    except Permanent:
        return None
    except Transient:
        store.check_readable()  # else it isn't this file alone
        return None
    return digest.hexdigest()
