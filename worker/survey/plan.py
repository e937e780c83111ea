"""What a job on a source will meet: a store goes in, a `Plan` comes out. Nothing is written."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from jobs.candidates import FileKind, kind_of
from jobs.errors import UnsafeKey
from jobs.recipe import Recipe
from jobs.schema import Candidate
from jobs.storage import ObjectInfo, ObjectStore
from worker.codec import Limits
from worker.survey.duplicates import Comparison, find_duplicates
from worker.survey.headers import Fault, Surveyed, read_headers
from worker.survey.measure import Measured, Rate, fit


@dataclass(slots=True)
class Plan:
    """A source as its headers tell of it.

    Attributes:
        source: its address.
        recipe: what the photos will be restored by.
        workers: how many will share the work.
        photos: every photo, in the order of the source.
        passed_over: how many files a job doesn't take, by why.
        comparison: which photos are the same.
        rate: how fast photos are restored here, where that was measured.
        output_factor: what the measured photos took, by what was expected of them.
    """

    source: str
    recipe: Recipe
    workers: int
    photos: list[Surveyed] = field(default_factory=list)
    passed_over: Counter[FileKind] = field(default_factory=Counter)
    comparison: Comparison = field(default_factory=lambda: Comparison((), 0))
    rate: Rate | None = None
    output_factor: float = 1.0

    @property
    def readable(self) -> list[Surveyed]:
        """The photos that have no fault."""
        return [photo for photo in self.photos if photo.fault is None]

    @property
    def megapixels(self) -> float:
        """Millions of pixels of all readable photos."""
        return sum(photo.megapixels for photo in self.readable)

    @property
    def header_bytes(self) -> int:
        """How much was read of the files for their headers."""
        return sum(photo.bytes_read for photo in self.photos)

    @property
    def output_bytes(self) -> int:
        """What all derivatives and sidecars are expected to take."""
        return round(sum(photo.output_bytes for photo in self.readable) * self.output_factor)

    @property
    def expected_s(self) -> float | None:
        """Seconds until all are restored, None where nothing was measured."""
        if self.rate is None:
            return None
        return self.rate.expected_s(len(self.readable), self.megapixels) / self.workers

    @property
    def error_s(self) -> float | None:
        """By how much that may be off: one standard error; None where nobody can tell."""
        error_s = self.rate.error_s(len(self.readable)) if self.rate else None
        return None if error_s is None else error_s / self.workers

    def take_in(self, measured: Measured) -> None:
        """Use what came of restoring some of the photos; a fault shown by that is one too."""
        self.photos = [
            Surveyed(photo.key, photo.size_bytes, fault=fault, bytes_read=photo.bytes_read)
            if (fault := measured.faults.get(photo.key))
            else photo
            for photo in self.photos
        ]
        self.rate = fit(measured.samples)
        expected = {photo.key: photo.output_bytes for photo in self.photos}
        if measured.samples:
            self.output_factor = sum(sample.output_bytes for sample in measured.samples) / sum(
                expected[sample.key] for sample in measured.samples
            )


def survey(
    store: ObjectStore,
    *,
    recipe: Recipe,
    limits: Limits,
    workers: int = 1,
    on_photo: Callable[[int], None] = lambda _total: None,
) -> Plan:
    """Read the headers of a source's photos, and compare those that may be the same.

    Args:
        store: the source; only read.
        recipe: what the photos will be restored by.
        limits: as in the worker's settings.
        workers: how many will share the work.
        on_photo: called after each photo with how many there are.

    Raises:
        SourceMissing: the source can't be listed.
        StoreUnavailable: the store doesn't answer.
    """
    plan = Plan(store.url, recipe, workers)
    candidates = list(_candidates(store.list(), plan))
    for photo in read_headers(store, candidates, recipe=recipe, limits=limits):
        plan.photos.append(photo)
        on_photo(len(candidates))
    plan.comparison = find_duplicates(store, candidates)
    return plan


def _candidates(files: Iterable[ObjectInfo], plan: Plan) -> Iterator[Candidate]:
    """Yield what a job would take as photos; note in the plan what becomes of the others."""
    for file in files:
        kind = kind_of(file.key)
        if kind is FileKind.PHOTO:
            yield Candidate(file.key, file.size_bytes)
        elif kind is FileKind.UNSAFE:
            fault = Fault(UnsafeKey.code, f"the name {file.key!r} can't be used", UnsafeKey.advice)
            plan.photos.append(Surveyed(file.key, file.size_bytes, fault=fault))
        else:
            plan.passed_over[kind] += 1
