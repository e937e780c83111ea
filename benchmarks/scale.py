"""What the queue costs as a job grows: `python -m benchmarks.scale [--photos N] [--json FILE]`.

A job of a thousand photos and one of a million (or N) are entered by the producer, each into its
own database, on SQLite and on PostgreSQL, the latter as `make services` runs it. The photos are
files without content that lie all in one folder, which takes the producer the most memory. Then the
same calls are timed on both, in turns, so that other load on the machine slows both alike. Memory
of the producer is the peak of a process that does nothing else; the broker's is what Valkey itself
says. Numbers that have a target are printed with it.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import redis
from pydantic import SecretStr

from deploy.postgres import Postgres
from deploy.valkey import Valkey
from jobs import broker
from jobs.directory import DirectoryStore
from jobs.ledger import Ledger
from jobs.migrate import migrate
from jobs.recipe import Recipe
from jobs.schema import Job, Outcome
from jobs.settings import JobSettings
from producer.dispatch import Dispatcher
from producer.submit import submit

JOB = Job("archive", source="/masters", destination="/derivatives", recipe=Recipe())
SMALL = 1000
DATABASES = ("sqlite", "postgresql")
_ROUNDS, _A_ROUND = 16, 50
_STATUSES = 200
_PASSES = 30
_TARGETS = {
    "submit_per_s": "at least 5,000 (PostgreSQL)",
    "producer_peak_mib": "at most 300",
    "claim_and_finish_ratio": "at most 1.5",
    "status_p95_ms": "at most 200",
    "broker_mib": "at most 64",
}


def main() -> None:
    """Measure, print the table, keep the numbers."""
    parser = argparse.ArgumentParser(description="The queue's cost as a job grows.")
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, dest="target")
    parser.add_argument("--only", choices=DATABASES, help="measure one database alone")
    parser.add_argument(
        "--enter", nargs=2, metavar=("FOLDER", "URL"), help="only enter photos; for ourselves"
    )
    asked = parser.parse_args()
    if asked.enter:
        print(json.dumps(enter(*asked.enter)))
        return
    numbers = measure(asked.photos, [asked.only] if asked.only else list(DATABASES))
    print(table(numbers))
    if asked.target is not None:
        asked.target.write_text(json.dumps(numbers, indent=2) + "\n")


def measure(photos: int, databases: Sequence[str]) -> dict[str, Any]:
    """Return all numbers by database."""
    numbers: dict[str, Any] = {
        "photos": photos,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)  # the database may run as somebody else
        few, many = make_archive(folder / "few", SMALL), make_archive(folder / "many", photos)
        postgres = stack.enter_context(Postgres(folder / "postgres"))
        valkey = stack.enter_context(Valkey(folder / "valkey"))
        addresses: dict[str, Callable[[str], str]] = {
            "sqlite": lambda name: f"sqlite:///{folder / name}.sqlite3",
            "postgresql": postgres.create_database,
        }
        for database in databases:
            print(f"== {database}", file=sys.stderr, flush=True)
            small, large = addresses[database]("small"), addresses[database]("large")
            numbers[database] = of_database((few, small), (many, large), valkey)
    numbers["load_after"] = os.getloadavg()[0]
    return numbers


def make_archive(folder: Path, photos: int) -> Path:
    """Make one folder of so many files of the sizes of photographs, which take no room."""
    folder.mkdir()
    for number in range(photos):
        file = os.open(folder / f"scan-{number:07}.jpg", os.O_WRONLY | os.O_CREAT)
        os.ftruncate(file, 4_000_000 + number % 9_000_000)
        os.close(file)
    return folder


def of_database(
    small: tuple[Path, str], large: tuple[Path, str], valkey: Valkey
) -> dict[str, float]:
    """Return the numbers of one database, for a small and a large archive, each with its URL."""
    entered(*small)
    numbers = entered(*large)
    with closing(Ledger(small[1])) as few, closing(Ledger(large[1])) as many:
        numbers |= in_turns(few, many)
        numbers["status_p95_ms"] = p95([timed(partial(status, many)) for _ in range(_STATUSES)])
        numbers["pause_ms"] = 1000 * timed(partial(many.pause, JOB.id))
        many.resume(JOB.id)
        numbers |= of_dispatch(many, valkey)
        recount_s = timed(lambda: expect_right(many))
    return numbers | {"recount_s": recount_s}


def entered(archive: Path, url: str) -> dict[str, float]:
    """Enter a job in a process of its own; return its rate and peak of memory."""
    migrate(url)
    command = [sys.executable, "-m", "benchmarks.scale", "--enter", str(archive), url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    numbers: dict[str, float] = json.loads(done.stdout)
    return numbers


def enter(archive: str, url: str) -> dict[str, float]:
    """Enter a job here."""
    source = DirectoryStore(Path(archive))
    with closing(Ledger(url)) as ledger:
        start = time.perf_counter()
        photos = submit(JOB, ledger=ledger, source=source).new
        taken_s = time.perf_counter() - start
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"submit_per_s": photos / taken_s, "producer_peak_mib": peak_mib}


def in_turns(few: Ledger, many: Ledger) -> dict[str, float]:
    """Publish, claim and finish on both; return milliseconds and ratios of the medians."""
    works: dict[str, list[float]] = {"few": [], "many": []}
    publishes: dict[str, list[float]] = {"few": [], "many": []}
    for turn in range(_ROUNDS):
        for name, ledger in (("few", few), ("many", many)):
            start = time.perf_counter()
            refs = ledger.publish_next(_A_ROUND)
            published_s = time.perf_counter() - start
            works_s = [timed(partial(claim_and_finish, ledger, ref.id)) for ref in refs]
            if turn:  # the first opens connections and fills caches
                publishes[name].append(published_s)
                works[name] += works_s
    few_s, many_s = statistics.median(works["few"]), statistics.median(works["many"])
    publish_s = [statistics.median(publishes[name]) for name in ("few", "many")]
    return {
        "claim_and_finish_few_ms": 1000 * few_s,
        "claim_and_finish_ms": 1000 * many_s,
        "claim_and_finish_ratio": many_s / few_s,
        "publish_50_ms": 1000 * publish_s[1],
        "publish_ratio": publish_s[1] / publish_s[0],
    }


def claim_and_finish(ledger: Ledger, photo_id: int) -> None:
    """Do what a worker does with the ledger for one photo."""
    claim = ledger.claim(photo_id, worker="benchmark", lease_s=300)
    if claim is None:
        raise SystemExit(f"photo {photo_id} can't be claimed")
    ledger.succeed(claim, Outcome("derivative", "sidecar", 2, 1, 1.0))


def status(ledger: Ledger) -> None:
    """Ask what `gpen-archive status JOB` asks."""
    found = ledger.find_job(JOB.id)
    ledger.standing(found.id)
    list(ledger.failures(found.id, limit=100))


def of_dispatch(ledger: Ledger, valkey: Valkey) -> dict[str, float]:
    """Return a pass's time, and what the broker holds while nobody answers any message."""
    app = broker.make_app(JobSettings(broker_url=SecretStr(valkey.url)))
    dispatcher = Dispatcher(
        ledger=ledger,
        publish=partial(broker.publish, app),
        waiting=partial(broker.waiting, app),
        window=200,
        max_attempts=3,
        published_timeout_s=0,  # every message counts as lost at once
    )
    passes_s = [timed(dispatcher.step) for _ in range(_PASSES)]
    with closing(redis.Redis.from_url(valkey.url)) as client:
        used: Any = client.info("memory")
        client.flushall()
    app.close()
    ledger.unpublish()
    return {
        "dispatch_pass_ms": 1000 * statistics.median(passes_s),
        "broker_mib": float(used["used_memory"]) / (1 << 20),
    }


def expect_right(ledger: Ledger) -> None:
    """Count all photos and compare them with the tallies."""
    wrong = ledger.miscounts()
    if wrong:
        raise SystemExit(f"the tallies are wrong: {wrong}")


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds work took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def p95(seconds: list[float]) -> float:
    """Return the 95th percentile in milliseconds."""
    return 1000 * statistics.quantiles(seconds, n=20)[-1]


def table(numbers: dict[str, Any]) -> str:
    """Return the numbers as text, a line each."""
    databases = [database for database in DATABASES if database in numbers]
    lines = [
        f"{numbers['photos']:,} photos against {SMALL:,}, {numbers['cores']} cores, "
        f"load {numbers['load_before']:.1f} to {numbers['load_after']:.1f}",
        f"{'':28}{''.join(f'{database:>12}' for database in databases)}  wanted",
    ]
    for name in numbers[databases[0]]:
        each = (f"{numbers[database][name]:12,.2f}" for database in databases)
        lines.append(f"{name:28}{''.join(each)}  {_TARGETS.get(name, '')}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    main()
