"""Ledgers, jobs and processes for the producer's tests."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.ledger import Ledger
from jobs.recipe import Recipe
from jobs.schema import Job
from jobs.testing import FakeClock, sqlite_ledger

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Commands configure logging for their process; give pytest its own back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch) -> None:
    """Tests mean the defaults, whatever is set outside."""
    for name in ("DATABASE_URL", "BROKER_URL", "WEIGHTS", "LOG_LEVEL", "LOG_FORMAT", "LANES"):
        monkeypatch.delenv(f"GPEN_{name}", raising=False)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ledger(tmp_path, clock) -> Iterator[Ledger]:
    opened = sqlite_ledger(tmp_path / "ledger.sqlite3", clock)
    yield opened
    opened.close()


@pytest.fixture
def make_job() -> Callable[..., Job]:
    def make(name: str = "album", source: str = "/in", destination: str = "/out", **recipe) -> Job:
        return Job(name, source, destination, Recipe(**recipe))

    return make


@pytest.fixture
def stub_worker() -> tuple[str, ...]:
    """Command of a real Celery worker without an engine."""
    return (sys.executable, str(HERE / "stub_worker.py"))


@pytest.fixture
def stub_run() -> tuple[str, ...]:
    """Command of a `run` in a process of its own, with the stub for a worker."""
    return (sys.executable, str(HERE / "stub_run.py"))


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait until something is true, for a while."""

    def wait(condition: Callable[[], object], within_s: float = 20.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s"
            time.sleep(0.02)

    return wait


@pytest.fixture
def children_of() -> Callable[[int], list[int]]:
    """List the processes that a process started and that still run."""

    def find(parent: int) -> list[int]:
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(status.parent.name))
        return found

    return find
