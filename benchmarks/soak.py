"""A thousand photos through one worker: does its memory grow? `python -m benchmarks.soak`.

    python -m benchmarks.soak [--photos 1000] [--folder DIR] [--json PATH]

Makes the photos from the pictures at hand, each cropped, turned over and resized in its own way:
0.2 to 3 megapixels, two of a hundred 12, in several containers and depths. Each hundred has the
same mixture, so that hundreds can be compared. They go through the real queue (Valkey, PostgreSQL,
dispatch) and one worker with the shipped checkpoint, from folder to folder, while Flower looks on.

Memory is looked at from outside, four times a second: the worker's own resident set, and that of
worker and decoding children together with the files in memory that none of them maps
(`benchmarks.large`). Ends with 1 where a photo isn't delivered, or where the last hundred takes
over 5 % more than the second.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psycopg
import redis
import skimage.data
from numpy.typing import NDArray

from benchmarks.large import mib, resident_bytes, status_of
from benchmarks.measure import write_json
from deploy.flower import Flower
from deploy.postgres import Postgres
from deploy.services import archive, worker
from deploy.valkey import Valkey
from gpen_engine.faces import Pixels
from jobs.directory import DirectoryStore
from jobs.ledger import Ledger
from jobs.migrate import migrate
from jobs.recipe import Recipe
from jobs.schema import Job, PhotoState
from producer.submit import submit

PICTURES = Path("../shared/corpus/faces")
PHOTOS, HUNDRED = 1000, 100
MOST_GROWTH = 1.05
LOOK_S = 0.25
STUCK_S = 300.0
_LARGE_MP, _LARGE_OF_A_HUNDRED = 12.0, 2
_LEAST_MP, _MOST_MP = 0.2, 3.0
_KINDS: tuple[tuple[str, str, type[np.generic], bool], ...] = (
    ("jpg", "colour", np.uint8, True),
    ("png", "colour", np.uint8, True),
    ("jpg", "gray", np.uint8, False),
    ("tif", "colour", np.uint8, True),
    ("tif", "deep", np.uint16, True),
    ("webp", "colour", np.uint8, True),
    ("png", "gray", np.uint8, False),
    ("png", "deep", np.uint16, True),
)
"""Suffix, name, samples, and whether it has colours."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was held of memory when so many photos were finished."""

    finished: int
    worker_bytes: int
    all_bytes: int


def make_masters(folder: Path, photos: int, pictures: Sequence[Path]) -> None:
    """Write so many photos; their names are in the order in which they come."""
    megapixels = np.geomspace(_LEAST_MP, _MOST_MP, HUNDRED - _LARGE_OF_A_HUNDRED)
    sizes = np.random.default_rng(5).permutation([*megapixels, *[_LARGE_MP] * _LARGE_OF_A_HUNDRED])
    for number in range(photos):
        place = number % HUNDRED
        suffix, name, samples, colour = _KINDS[place % len(_KINDS)]
        picture = read(pictures[place % len(pictures)])
        made: NDArray[Any] = vary(picture, float(sizes[place]), np.random.default_rng(number))
        if not colour:
            made = cv2.cvtColor(made, cv2.COLOR_BGR2GRAY)
        if samples is np.uint16:
            made = made.astype(np.uint16) * 257
        path = folder / f"box{number // HUNDRED:03}" / f"{place:02}-{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), made)


def read(path: Path) -> Pixels:
    """Return a picture as OpenCV has it."""
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), np.uint8)


def vary(picture: Pixels, megapixels: float, random: np.random.Generator) -> Pixels:
    """Return about nine tenths of a picture, perhaps turned over, with about so many pixels."""
    height, width = picture.shape[:2]
    kept = random.uniform(0.85, 1.0, 2)
    tall, wide = int(height * kept[0]), int(width * kept[1])
    y, x = random.integers(0, height - tall + 1), random.integers(0, width - wide + 1)
    cut = picture[y : y + tall, x : x + wide]
    if random.random() < 0.5:
        cut = cut[:, ::-1]
    scale = (megapixels * random.uniform(0.93, 1.07) * 1e6 / (tall * wide)) ** 0.5
    resized = cv2.resize(np.ascontiguousarray(cut), None, fx=scale, fy=scale)
    return np.asarray(resized, np.uint8)


def find_pictures(folder: Path) -> list[Path]:
    """Return the pictures to vary: the corpus, or where there is none an astronaut."""
    if PICTURES.is_dir():
        return sorted(PICTURES.iterdir())
    astronaut = folder / "astronaut.png"
    cv2.imwrite(str(astronaut), skimage.data.astronaut()[:, :, ::-1])  # type: ignore[no-untyped-call]
    return [astronaut]


def measure(photos: int, folder: Path) -> dict[str, Any]:
    """Let a worker restore so many photos; return all numbers."""
    masters, derivatives = folder / "masters", folder / "derivatives"
    start = time.perf_counter()
    make_masters(masters, photos, find_pictures(folder))
    print(f"{photos} photos made in {time.perf_counter() - start:.0f} s", flush=True)
    with ExitStack() as running:
        valkey = running.enter_context(Valkey(folder / "valkey"))
        postgres = running.enter_context(Postgres(folder / "postgres"))
        database = postgres.create_database("soak")
        settings = {"GPEN_DATABASE_URL": database, "GPEN_BROKER_URL": valkey.url}
        flower = Flower(folder / "flower", broker_url=valkey.url, basic_auth="soak:soak")
        running.enter_context(flower)
        ledger = running.enter_context(closing(open_ledger(database)))
        job = Job("soak", source=str(masters), destination=str(derivatives), recipe=Recipe())
        submit(job, ledger=ledger, source=DirectoryStore(masters))
        running.enter_context(archive(folder / "dispatch", "dispatch", settings=settings))
        tuning = {"GPEN_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
        taker = running.enter_context(worker(folder / "worker", settings=settings | tuning))
        before_bytes = resident_of(flower.process.pid)
        start = time.perf_counter()
        looks = list(watch(ledger, job.id, photos, pid=taker.process.pid))
        elapsed_s = time.perf_counter() - start
        delivered = sum(1 for _ in DirectoryStore(derivatives).list()) // 2  # with its sidecar
        return {
            "photos": photos,
            "delivered": min(delivered, ledger.counts(job.id).of(PhotoState.DONE)),
            "seconds_a_photo": elapsed_s / photos,
            "valkey_mib": valkey_bytes(valkey) / (1 << 20),
            "database_mib": database_bytes(database) / (1 << 20),
            "flower_kib_a_photo": (resident_of(flower.process.pid) - before_bytes) / photos / 1024,
            **of_hundreds(looks),
        }


def open_ledger(url: str) -> Ledger:
    """Make the tables and open the ledger."""
    migrate(url)
    return Ledger(url)


def watch(ledger: Ledger, job_id: str, photos: int, *, pid: int) -> Iterator[Look]:
    """Yield looks at a worker's memory until its job is finished."""
    finished, moved_at = 0, time.monotonic()
    while finished < photos:
        now_finished = ledger.counts(job_id).finished
        if now_finished > finished:
            moved_at = time.monotonic()
            if now_finished // HUNDRED > finished // HUNDRED:
                print(f"{now_finished} photos, {mib(resident_bytes(pid))} MiB", flush=True)
        elif time.monotonic() - moved_at > STUCK_S:
            raise SystemExit(f"nothing moved for {STUCK_S:.0f} s after {finished} photos")
        finished = now_finished
        if finished < photos:
            yield Look(finished, resident_of(pid), resident_bytes(pid))
            time.sleep(LOOK_S)


def resident_of(pid: int) -> int:
    """Return the resident set of one process."""
    return status_of(pid).get("VmRSS", 0)


def of_hundreds(looks: Sequence[Look]) -> dict[str, Any]:
    """Return the mean memory while each photo was in hand, of each hundred, and the growth.

    That is the last hundred over the second; of one hundred alone there is none: 1.0.
    """
    photos = [means_of(list(same)) for _, same in groupby(looks, attrgetter("finished"))]
    numbers: dict[str, Any] = {"looks": photos}
    for column, name in ((1, "worker"), (2, "all")):
        hundreds = [
            statistics.fmean(photo[column] for photo in same)
            for _, same in groupby(photos, lambda photo: photo[0] // HUNDRED)
        ]
        numbers[f"{name}_mib"] = hundreds
        numbers[f"{name}_growth"] = hundreds[-1] / hundreds[min(1, len(hundreds) - 1)]
    return numbers


def means_of(looks: Sequence[Look]) -> tuple[int, float, float]:
    """Return how many photos were finished, and means in MiB, worker and all."""
    own = statistics.fmean(look.worker_bytes for look in looks)
    both = statistics.fmean(look.all_bytes for look in looks)
    return looks[0].finished, round(own / (1 << 20), 1), round(both / (1 << 20), 1)


def valkey_bytes(valkey: Valkey) -> float:
    """Return what the broker says that it holds."""
    with closing(redis.Redis.from_url(valkey.url)) as client:
        used: Any = client.info("memory")
        return float(used["used_memory"])


def database_bytes(url: str) -> float:
    """Return how large a database is on the disk."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        return float(row[0])


def table(numbers: dict[str, Any]) -> str:
    """Return the numbers as text."""
    hundreds = zip(numbers["worker_mib"], numbers["all_mib"], strict=True)
    lines = [f"{'hundred':>8}{'worker':>10}{'with children':>16}  MiB"]
    lines += [
        f"{number:8}{own:10.0f}{both:16.0f}" for number, (own, both) in enumerate(hundreds, 1)
    ]
    return "\n".join(
        [
            *lines,
            f"last against second: worker {numbers['worker_growth']:.3f}, with children "
            f"{numbers['all_growth']:.3f} (at most {MOST_GROWTH})",
            f"delivered {numbers['delivered']} of {numbers['photos']}, "
            f"{numbers['seconds_a_photo']:.2f} s each",
            f"Valkey {numbers['valkey_mib']:.1f} MiB, database {numbers['database_mib']:.1f} MiB, "
            f"Flower {numbers['flower_kib_a_photo']:.1f} KiB a photo",
        ]
    )


def main() -> None:
    """Measure, print the table, keep the numbers."""
    parser = argparse.ArgumentParser(description="Does a worker's memory grow?")
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        Path(folder).chmod(0o755)  # the database may run as somebody else
        numbers = measure(asked.photos, Path(folder))
    print(table(numbers))
    write_json(asked.json, numbers)
    grown = max(numbers["worker_growth"], numbers["all_growth"])
    sys.exit(0 if numbers["delivered"] == asked.photos and grown <= MOST_GROWTH else 1)


if __name__ == "__main__":
    main()
