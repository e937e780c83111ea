"""The headers of a source's photos: candidates go in, facts or a fault come out for each.

A fault has the code that the photo would fail with in a run, as far as its header tells: samples
aren't looked at, so that a file that is damaged in its middle passes here.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

from jobs.errors import JobError, Permanent, Transient
from jobs.recipe import Recipe
from jobs.schema import Candidate
from jobs.storage import ObjectStore
from worker.codec import Header, Limits, read_header
from worker.codec.limits import check_file
from worker.survey.estimate import expected_bytes
from worker.survey.lazy import LazyBytes

_AT_A_TIME = 8
"""Files that are read at the same time: over a network most of the time is waiting."""
_AHEAD = 256


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a photo would fail."""

    code: str
    message: str
    advice: str

    @classmethod
    def of(cls, error: JobError) -> "Fault":
        """Return what an error says."""
        return cls(error.code, str(error), error.advice)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A photo of the source, and what its header tells: either `header` or `fault` is there.

    Attributes:
        output_bytes: what derivative and sidecar will take.
        bytes_read: how much of the file was read.
    """

    key: str
    size_bytes: int
    header: Header | None = None
    fault: Fault | None = None
    output_bytes: int = 0
    bytes_read: int = 0

    @property
    def megapixels(self) -> float:
        """Millions of pixels of all its pages; 0 where they aren't known."""
        return self.header.pixels / 1e6 if self.header else 0.0


def read_headers(
    store: ObjectStore, candidates: Iterable[Candidate], *, recipe: Recipe, limits: Limits
) -> Iterator[Surveyed]:
    """Yield what the header of each photo tells, in their order.

    Args:
        store: the source; only read, and only in parts.
        candidates: its photos.
        recipe: decides which photos the output can hold, and how large they may be.
        limits: as in the worker's settings.

    Raises:
        StoreUnavailable: the store doesn't answer.
    """
    look = partial(_look, store, recipe=recipe, limits=limits)
    waiting = iter(candidates)
    with ThreadPoolExecutor(_AT_A_TIME) as threads:
        while some := list(islice(waiting, _AHEAD)):
            yield from threads.map(look, some)


def _look(store: ObjectStore, candidate: Candidate, *, recipe: Recipe, limits: Limits) -> Surveyed:
    key, size_bytes = candidate.key, candidate.size_bytes
    data = LazyBytes(partial(store.read, key), size_bytes)
    scale = recipe.background_scale or 1
    header = fault = None
    output_bytes = 0
    try:
        check_file(size_bytes, limits=limits)
        header = read_header(data, limits=limits.enlarged(scale))
        output_bytes = expected_bytes(header, size_bytes, recipe)
    except (Permanent, Transient) as error:
        if isinstance(error, Transient):  # this file alone, or the store?
            store.check_readable()
        header, fault = None, Fault.of(error)
    return Surveyed(key, size_bytes, header, fault, output_bytes, data.bytes_read)
