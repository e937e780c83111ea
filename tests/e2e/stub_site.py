"""A place with a ledger, a dispatcher, a broker and workers around a stub engine; no S3."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deploy.processes import Process
from deploy.services import archive, program
from jobs.ledger import Ledger
from jobs.migrate import migrate
from jobs.recipe import Recipe
from jobs.schema import Candidate, Job, Photo, PhotoState

SOON_S = 90.0


class Album:
    """A job of small photos in directories, with what tests ask about it."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.masters = folder / "in"
        self.derivatives = folder / "out"
        self.ledger = ledger
        self.job = Job(folder.name, str(self.masters), str(self.derivatives), Recipe())
        self.masters.mkdir(parents=True)

    def enter(self, *keys: str) -> None:
        for key in keys:
            write_photo(self.masters / key)
        self.enter_keys(keys)

    def enter_keys(self, keys: Iterable[str]) -> None:
        self.ledger.add_job(self.job)
        self.ledger.add_photos(self.job.id, [Candidate(key, 100) for key in keys])

    def photos(self) -> dict[str, Photo]:
        return {photo.key: photo for photo in self.ledger.photos(self.job.id)}

    def number_of(self, *states: PhotoState) -> int:
        return self.ledger.counts(self.job.id).of(*states)

    def is_over(self) -> bool:
        return self.ledger.standing(self.job.id).over

    def in_hand(self) -> bool:
        return self.number_of(PhotoState.CLAIMED) > 0

    def delivered(self) -> list[str]:
        """Return all files of the destination, hidden ones too."""
        found = self.derivatives.rglob("*")
        return sorted(str(path.relative_to(self.derivatives)) for path in found if path.is_file())


@dataclass(frozen=True)
class Site:
    """What works on the albums."""

    folder: Path
    settings: dict[str, str]
    ledger: Ledger
    running: ExitStack

    def album(self, name: str) -> Album:
        return Album(self.folder / "albums" / name, self.ledger)

    def worker(self, name: str, **settings: str) -> Process:
        """Start a worker, that has a photo at a time unless it is told otherwise."""
        own = {"GPEN_WORKER_NAME": name, "GPEN_LANES": "1", "OMP_NUM_THREADS": "1"}
        started = program(
            self.folder / name,
            *(sys.executable, "-m", "benchmarks.stub"),
            settings=self.settings | own | settings,
            ready_text="worker.ready",
        )
        return self.running.enter_context(started).process


@contextmanager
def running_site(folder: Path, *, broker_url: str, **settings: str) -> Iterator[Site]:
    """Start a dispatcher, beside an empty ledger."""
    database = f"sqlite:///{folder / 'ledger.sqlite3'}"
    settings |= {"GPEN_DATABASE_URL": database, "GPEN_BROKER_URL": broker_url}
    migrate(database)
    with closing(Ledger(database)) as ledger, ExitStack() as running:
        running.enter_context(archive(folder / "dispatch", "dispatch", settings=settings))
        yield Site(folder, settings, ledger, running)


def write_photo(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def both_files(*keys: str) -> list[str]:
    """Return what a photo's delivery leaves."""
    names = (key.replace(".png", ".restored.png") for key in keys)
    return sorted(file for name in names for file in (name, f"{name}.json"))


def wait_until(condition: Callable[[], object], *, deadline_s: float = SOON_S) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:g} s"
        time.sleep(0.05)
