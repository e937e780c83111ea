"""A place to measure: real services, and workers around a stub engine, all on loopback.

In: photos, and what each worker is told by its environment. Out: when each photo was delivered, by
whom, and what its stages took.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deploy.postgres import Postgres
from deploy.seaweedfs import SeaweedFS
from deploy.server import Program
from deploy.services import BUCKETS, addresses, archive, program
from deploy.valkey import Valkey
from jobs.ledger import Ledger
from jobs.logs import read_fields
from jobs.migrate import migrate
from jobs.recipe import Recipe
from jobs.schema import Candidate, Job
from jobs.settings import JobSettings
from jobs.storage import open_store

CODEC = ("decode", "encode", "prove")
STUB = (sys.executable, "-m", "benchmarks.stub")
_DEADLINE_S = 200.0
_POLL_S = 0.2
_LISTENS = " ready."  # what Celery says once it takes messages
_EACH = {
    "OMP_NUM_THREADS": "1",
    "GPEN_LOG_FORMAT": "json",
    "GPEN_LOG_LEVEL": "INFO",
}


@dataclass(frozen=True, slots=True)
class Delivered:
    """One photo's way.

    Attributes:
        key: the photo.
        worker: the number of who delivered it.
        at: seconds since the epoch.
        stages_s: seconds by stage, as its sidecar tells them.
        elapsed_s: seconds from the claim until both objects were stored, as the ledger tells them.
    """

    key: str
    worker: int
    at: float
    stages_s: Mapping[str, float]
    elapsed_s: float

    @property
    def codec_s(self) -> float:
        """What decoding, encoding and proving took."""
        return sum(self.stages_s[stage] for stage in CODEC)


class Site:
    """The services, and a folder for everything.

    Args:
        folder: where everything lies.
        environment: the services' addresses.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._folder = folder
        self._runs = 0
        known = {name.removeprefix("GPEN_").lower(): own for name, own in environment.items()}
        self.settings = JobSettings.model_validate(known)

    def make_job(self, photos: Mapping[str, bytes], *, in_s3: bool = False) -> Job:
        """Store masters, and return a job of them that isn't entered yet."""
        self._runs += 1
        name = f"run{self._runs}"
        source, destination = (
            f"s3://{bucket}/{name}" if in_s3 else str(self._folder / bucket / name)
            for bucket in BUCKETS
        )
        masters = open_store(source, self.settings)
        for key, data in photos.items():
            masters.put_once(key, data, content_type="application/octet-stream")
        return Job(name, source, destination, Recipe())

    def deliver(
        self,
        job: Job,
        candidates: Sequence[Candidate],
        *,
        workers: Sequence[Mapping[str, str]],
        command: Sequence[str] = STUB,
    ) -> list[Delivered]:
        """Have workers deliver a job's photos; return how it went, by time.

        The workers listen before the job is entered, so that no start counts.

        Args:
            job: the job.
            candidates: its photos.
            workers: the environment of each.
            command: starts a worker.
        """
        place = self._folder / "logs" / job.name
        with ExitStack() as running, closing(self.ledger()) as ledger:
            programs = []
            for number, own in enumerate(workers):
                one = self._worker(place / f"worker{number}", command, own)
                programs.append(running.enter_context(one))
            dispatch = archive(place / "dispatch", "dispatch", settings=self.environment)
            running.enter_context(dispatch)
            ledger.add_job(job)
            ledger.add_photos(job.id, candidates)
            _wait_until(lambda: ledger.standing(job.id).over)
            return sorted(self._delivered(job, ledger, programs), key=lambda photo: photo.at)

    def ledger(self) -> Ledger:
        """Return a way into the ledger."""
        return Ledger(self.settings.database_url.get_secret_value())

    def _worker(self, folder: Path, command: Sequence[str], own: Mapping[str, str]) -> Program:
        settings = {**self.environment, **_EACH, **own}
        return program(folder, *command, settings=settings, ready_text=_LISTENS)

    def _delivered(
        self, job: Job, ledger: Ledger, programs: Sequence[Program]
    ) -> Iterator[Delivered]:
        failures = list(ledger.failures(job.id, limit=3))
        if failures:
            raise SystemExit(f"photos failed: {failures}")
        derivatives = open_store(job.destination, self.settings)
        photos = {photo.key: photo for photo in ledger.photos(job.id)}
        for number, one in enumerate(programs):
            for key, at in _ends(one):
                photo = photos[key]
                sidecar = json.loads(derivatives.get(str(photo.sidecar_key)))
                yield Delivered(key, number, at, sidecar["timings_s"], photo.elapsed_s or 0.0)


def _ends(worker: Program) -> Iterator[tuple[str, float]]:
    """Yield what a worker has delivered, and when, from its log."""
    for line in worker.process.output.splitlines():
        fields = read_fields(line)
        if fields.get("event") == "photo.done":
            yield fields["key"], datetime.fromisoformat(fields["time"]).timestamp()


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not finished within {_DEADLINE_S:g} s")
        time.sleep(_POLL_S)


@contextmanager
def site() -> Iterator[Site]:
    """Start everything in a temporary folder, with its data kept safe, as it is in service."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpen-queue-")))
        valkey = stack.enter_context(Valkey(folder / "valkey"))
        postgres = stack.enter_context(Postgres(folder / "postgres"))
        seaweedfs = stack.enter_context(SeaweedFS(folder / "seaweedfs"))
        for bucket in BUCKETS:
            seaweedfs.make_bucket(bucket)
        environment = addresses(valkey, postgres, seaweedfs)
        migrate(environment["GPEN_DATABASE_URL"])
        yield Site(folder, environment)


def throughput(photos: Sequence[Delivered]) -> float:
    """Return photos a second, as `middle_rate` does."""
    return middle_rate([photo.at for photo in photos])


def middle_rate(ends: Sequence[float]) -> float:
    """Return how many of something end in a second: the first and the last tenth are left out.

    Then the workers still start, or have nothing more to do.
    """
    tenth = max(1, len(ends) // 10)
    middle = ends[tenth:-tenth]
    return (len(middle) - 1) / (middle[-1] - middle[0])
