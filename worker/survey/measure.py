"""How fast photos are restored here: some of them are, and nothing of it is kept.

In: photos with their headers, and an engine. Out: a `Rate`, seconds per photo, per megapixel and
per face, fitted to what the samples took. They go the whole way of a photo in a run
(`worker.pipeline.run`), into a store that keeps nothing.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from jobs.errors import PhotoMissing
from jobs.recipe import Recipe
from jobs.schema import Claim, Job
from jobs.storage import ObjectInfo, ObjectStore, PutResult
from worker.codec import Decode, Limits
from worker.pipeline import Engine, run
from worker.retry import Fail, Tries, decide
from worker.scratch import DEFAULT, Scratch
from worker.stages import Stages
from worker.survey.headers import Fault, Surveyed

Floats = NDArray[np.float64]

_FEWEST = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """What restoring one photo took, and gave."""

    key: str
    megapixels: float
    faces: int
    elapsed_s: float
    output_bytes: int


@dataclass(frozen=True, slots=True)
class Rate:
    """What photos take on this machine.

    Attributes:
        faces_per_photo: how many the samples had.
        samples: how many photos it comes from.
        spread_s: the standard deviation of what it doesn't explain of a photo's time.
    """

    per_photo_s: float
    per_megapixel_s: float
    per_face_s: float
    faces_per_photo: float
    samples: int
    spread_s: float

    def expected_s(self, photos: int, megapixels: float) -> float:
        """Return the seconds that photos take one after the other."""
        per_photo = self.per_photo_s + self.per_face_s * self.faces_per_photo
        return photos * per_photo + megapixels * self.per_megapixel_s

    def error_s(self, photos: int) -> float | None:
        """Return by how much `expected_s` may be off: one standard error; None if nobody can tell.

        A few samples, through which any line goes, say nothing of their own error.
        """
        if photos <= self.samples:
            return 0.0
        if self.samples < _FEWEST:
            return None
        unseen = 1 - self.samples / photos
        return photos * self.spread_s * math.sqrt(unseen / self.samples)


@dataclass(slots=True)
class Measured:
    """What came of the samples; those in `faults` have sound headers and fail all the same."""

    samples: list[Sample] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)


def choose(photos: Sequence[Surveyed], count: int) -> list[Surveyed]:
    """Return at most `count` photos, spread evenly over all by their pixels; the same each time."""
    readable = [photo for photo in photos if photo.header is not None]
    ordered = sorted(readable, key=lambda photo: (photo.megapixels, photo.key))
    count = min(count, len(ordered))
    return [ordered[int((index + 0.5) * len(ordered) / count)] for index in range(count)]


def measure(
    chosen: Sequence[Surveyed],
    *,
    store: ObjectStore,
    engine: Engine,
    recipe: Recipe,
    decode: Decode,
    limits: Limits,
    scratch: Scratch = DEFAULT,
    on_photo: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Restore photos and forget them.

    The first one goes twice, for what an engine does once isn't what a photo takes.

    Args:
        chosen: which ones.
        store: where they are; only read.
        engine: as in a run.
        recipe: as in a run, with the engine's weights.
        decode: as in a run.
        limits: as in a run.
        scratch: as in a run.
        on_photo: called after each.
        clock: gives seconds.

    Raises:
        Exception: what would stop a worker, or let it try again later: no photo's fault.
    """
    job = Job("plan", source=store.url, destination="", recipe=recipe)
    measured = Measured()
    for number, photo in enumerate((*chosen[:1], *chosen)):
        sink, start = _Sink(), clock()
        try:
            outcome = run(
                Claim(0, photo.key, token="", attempt=1, worker="plan", job=job),
                masters=store,
                derivatives=sink,
                engine=engine,
                decode=decode,
                limits=limits,
                stages=Stages(),
                scratch=scratch,
            )
        except Exception as error:  # noqa: BLE001 - the worker's own table tells them apart
            measured.faults[photo.key] = _fault_of(error)
        else:
            if number:
                taken_s = clock() - start
                measured.samples.append(
                    Sample(photo.key, photo.megapixels, outcome.faces, taken_s, sink.bytes_put)
                )
        on_photo()
    return measured


def fit(samples: Sequence[Sample]) -> Rate | None:
    """Return the rate that explains the samples best and has no negative part; None without any."""
    if not samples:
        return None
    taken_s = np.array([sample.elapsed_s for sample in samples])
    faces = [float(sample.faces) for sample in samples]
    causes = np.array([[1.0, one.megapixels, float(one.faces)] for one in samples])
    parts_s = _fit_positive(causes, taken_s)
    mean_faces = float(np.mean(faces))
    causes[:, 2] = mean_faces  # a photo's own faces aren't known before
    unexplained = taken_s - causes @ parts_s
    freedom = max(1, len(samples) - 2)
    per_photo_s, per_megapixel_s, per_face_s = (float(part) for part in parts_s)
    return Rate(
        per_photo_s,
        per_megapixel_s,
        per_face_s,
        faces_per_photo=mean_faces,
        samples=len(samples),
        spread_s=math.sqrt(float(unexplained @ unexplained) / freedom),
    )


def _fit_positive(causes: Floats, effects: Floats) -> Floats:
    """Least squares; a cause that comes out negative is left out and the rest is fitted again."""
    parts = np.zeros(causes.shape[1])
    used = list(range(causes.shape[1]))
    while used:
        found = np.linalg.lstsq(causes[:, used], effects, rcond=None)[0]
        if found.min() >= 0:
            parts[used] = found
            break
        del used[int(found.argmin())]
    return parts


def _fault_of(error: Exception) -> Fault:
    """Return why a photo fails; what isn't the photo's fault is raised again."""
    verdict = decide(error, Tries(), max_attempts=1, draw=0)
    if not isinstance(verdict, Fail):
        raise error
    return Fault(verdict.code, verdict.message, verdict.advice)


class _Sink:
    """A store that takes everything, and keeps only count of it."""

    url = "nowhere:"

    def __init__(self) -> None:
        self.bytes_put = 0

    def list(self) -> Iterator[ObjectInfo]:
        return iter(())

    def head(self, key: str) -> ObjectInfo | None:  # noqa: ARG002 - there is nothing
        return None

    def get(self, key: str) -> bytes:
        raise PhotoMissing(f"{key} wasn't kept")

    def read(self, key: str, start: int, size: int) -> bytes:  # noqa: ARG002 - there is nothing
        return self.get(key)

    def fetch(self, key: str, target: BinaryIO) -> int:
        return target.write(self.get(key))

    def put_once(self, key: str, data: bytes | BinaryIO, *, content_type: str) -> PutResult:  # noqa: ARG002 - not kept
        self.bytes_put += len(data) if isinstance(data, bytes) else data.seek(0, os.SEEK_END)
        return PutResult.CREATED

    def check_readable(self) -> None:
        pass

    def check_writable(self) -> None:
        pass
