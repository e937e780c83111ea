"""How soon a job does what it is told: `python -m benchmarks.control [--rounds N] [--json FILE]`.

In: a job on real services (PostgreSQL, Valkey, `gpen-archive dispatch`), a worker with two lanes
around a stub engine, and the commands of `gpen-archive`. Out: for each command the seconds from its
return until the last photo began, or until the first one did, by the worker's own log; what is in
hand by then is finished and doesn't count. Wanted: at most 2 s.
"""

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.measure import write_json
from benchmarks.queue.album import portraits
from deploy.postgres import Postgres
from deploy.server import Program
from deploy.services import archive, program
from deploy.valkey import Valkey
from jobs.ledger import Ledger
from jobs.logs import read_fields
from jobs.migrate import migrate
from jobs.recipe import Recipe
from jobs.schema import Candidate, Job
from producer.cli import main as gpen_archive

WANTED_S = 2.0
_PHOTOS = 5000
_STUB_S = 0.1
_QUIET_S = 2.5
_DEADLINE_S = 30.0
_POLL_S = 0.05


class Bench:
    """A job that goes on, and what its worker says of it.

    Args:
        folder: where everything lies.
        ledger: the rows.
        worker: its log tells when photos begin.
    """

    def __init__(self, folder: Path, ledger: Ledger, worker: Program) -> None:
        self._folder = folder
        self._ledger = ledger
        self._worker = worker
        self._master = folder / "master.jpg"
        [data] = portraits(1, side_px=64).values()
        self._master.write_bytes(data)
        self.job = self.enter("archive", _PHOTOS)

    def enter(self, name: str, photos: int, *, paused: bool = False) -> Job:
        """Enter a job of so many small photos."""
        job = Job(name, str(self._folder / name), str(self._folder / f"{name} out"), Recipe())
        Path(job.source).mkdir()
        keys = [f"{name} {number}.jpg" for number in range(photos)]
        for key in keys:
            (Path(job.source) / key).hardlink_to(self._master)
        self._ledger.add_job(job)
        if paused:
            self._ledger.pause(job.id)
        size_bytes = self._master.stat().st_size
        self._ledger.add_photos(job.id, [Candidate(key, size_bytes) for key in keys])
        return job

    def begun_at(self, job: Job) -> list[float]:
        """Return when the job's photos began, in seconds since the epoch."""
        lines = map(read_fields, self._worker.process.output.splitlines())
        return [
            datetime.fromisoformat(fields["time"]).timestamp()
            for fields in lines
            if fields.get("event") == "photo.claimed" and fields["key"].startswith(f"{job.name} ")
        ]

    def until_the_last(self, *command: str) -> float:
        """Give a command that ends something; return the seconds until the last photo began."""
        returned = tell(*command)
        end = time.time() + _DEADLINE_S
        while time.time() < end:
            last = max(self.begun_at(self.job))
            if time.time() - max(last, returned) > _QUIET_S:
                return max(0.0, last - returned)
            time.sleep(_POLL_S)
        raise SystemExit(f"{' '.join(command)} wasn't heard within {_DEADLINE_S:g} s")

    def until_the_first(self, job: Job, *command: str) -> float:
        """Give a command that begins something; return the seconds until a photo began."""
        before = time.time()
        returned = tell(*command)
        end = time.time() + _DEADLINE_S
        while time.time() < end:
            later = [at for at in self.begun_at(job) if at > before]
            if later:
                return max(0.0, min(later) - returned)
            time.sleep(_POLL_S)
        raise SystemExit(f"{' '.join(command)} wasn't heard within {_DEADLINE_S:g} s")


def main() -> None:
    """Measure, print the table, keep the numbers."""
    parser = argparse.ArgumentParser(description="How soon a job does what it is told.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, dest="target")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    with place() as bench:
        seconds = measure(bench, asked.rounds)
    print(table(seconds))
    load_after = os.getloadavg()[0]
    numbers = {"rounds": asked.rounds, "load_before": load, "load_after": load_after}
    write_json(asked.target, numbers | {"seconds": seconds})


def measure(bench: Bench, rounds: int) -> dict[str, list[float]]:
    """Return, for each command, its seconds in every round."""
    job = bench.job
    ends = {
        "pause": ("pause", job.id),
        "window, outside": ("window", job.id, hours(begin_h=10)),
        "cancel": ("cancel", job.id),
    }
    begins = {
        "resume, paused": ("resume", job.id),
        "window, inside": ("window", job.id, hours(begin_h=-1)),
        "resume, cancelled": ("resume", job.id),
    }
    seconds: dict[str, list[float]] = {name: [] for name in (*ends, *begins, "priority")}
    bench.until_the_first(job, "priority", job.id, "0")  # the worker has begun
    for turn in range(rounds):
        for (end, ending), (begin, beginning) in zip(ends.items(), begins.items(), strict=True):
            seconds[end].append(bench.until_the_last(*ending))
            seconds[begin].append(bench.until_the_first(job, *beginning))
        seconds["priority"].append(overtake(bench, turn))
    return seconds


def overtake(bench: Bench, turn: int) -> float:
    """Return when an urgent photo begins, behind a window full of others."""
    urgent = bench.enter(f"urgent{turn}", 1, paused=True)
    tell("priority", urgent.id, "10")
    return bench.until_the_first(urgent, "resume", urgent.id)


def tell(*command: str) -> float:
    """Give a command; return when it returned, in seconds since the epoch."""
    try:
        with redirect_stdout(io.StringIO()):
            gpen_archive(command)
    except SystemExit as end:
        if end.code:
            raise
    return time.time()


def hours(*, begin_h: int) -> str:
    """Return four hours that begin so many hours from now."""
    begin = datetime.now().astimezone() + timedelta(hours=begin_h)
    return f"{begin:%H:%M}-{begin + timedelta(hours=4):%H:%M}"


@contextmanager
def place() -> Iterator[Bench]:
    """Start everything in a temporary folder."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpen-control-")))
        postgres = stack.enter_context(Postgres(folder / "postgres"))
        valkey = stack.enter_context(Valkey(folder / "valkey"))
        settings = {
            "GPEN_DATABASE_URL": postgres.create_database("control"),
            "GPEN_BROKER_URL": valkey.url,
            "GPEN_STUB_S": f"{_STUB_S:g}",
            "GPEN_LANES": "2",
            "GPEN_LOG_FORMAT": "json",
            "OMP_NUM_THREADS": "1",
        }
        os.environ |= settings
        migrate(settings["GPEN_DATABASE_URL"])
        ledger = stack.enter_context(closing(Ledger(settings["GPEN_DATABASE_URL"])))
        stub = (sys.executable, "-m", "benchmarks.stub")
        worker = program(folder / "worker", *stub, settings=settings, ready_text=" ready.")
        stack.enter_context(worker)
        stack.enter_context(archive(folder / "dispatch", "dispatch", settings=settings))
        yield Bench(folder, ledger, worker)


def table(seconds: dict[str, list[float]]) -> str:
    """Return the seconds as text, a line for each command."""
    lines = [f"{'seconds after':24}{'median':>8}{'longest':>8}  wanted: at most {WANTED_S:g}"]
    for name, each in seconds.items():
        lines.append(f"{name:24}{statistics.median(each):8.2f}{max(each):8.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
