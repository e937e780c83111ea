"""Whatever somebody writes into the broker: a real worker runs none of it, and goes on working.

The engine is a stub. Behind each message comes a sound one, which nobody gets to who chokes on it.
"""

import base64
import json
import pickle
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import yaml
from PIL import Image

from deploy.server import Program, Server
from deploy.services import program
from deploy.valkey import Valkey
from jobs.broker import QUEUES, TASK_NAME, make_app, publish
from jobs.ledger import Ledger
from jobs.memory import MemoryClass
from jobs.migrate import migrate
from jobs.recipe import Recipe
from jobs.schema import Candidate, Job, PhotoState
from jobs.settings import JobSettings

QUEUE = QUEUES[MemoryClass.SMALL]
SOON_S = 30.0


@dataclass
class Bench:
    """A worker that waits, and the ledger and the broker that it works with."""

    worker: Program
    ledger: Ledger
    settings: JobSettings
    folder: Path
    photos: int = 0
    asked: int = 1_000_000

    @property
    def password(self) -> str:
        return str(urlsplit(self.settings.broker_url.get_secret_value()).password)

    def connect(self) -> redis.Redis:
        return redis.Redis.from_url(self.settings.broker_url.get_secret_value())

    def send(self, raw: str | bytes) -> None:
        with self.connect() as client:
            client.lpush(QUEUE, raw)

    def goes_on(self) -> bool:
        """Send a message of a photo that nobody knows, and wait until it was looked for."""
        self.asked += 1
        self.send(envelope(task({"version": 1, "photo_id": self.asked})))
        looked_for = f"photo.taken photo_id={self.asked}\n"
        return self.until(lambda: looked_for in self.worker.process.output and not self._left())

    def restores_a_photo(self) -> bool:
        """Enter a photo, publish it, and wait for what becomes of it."""
        self.photos += 1
        job = Job("album", str(self.folder / "in"), str(self.folder / "out"), Recipe())
        key = f"{self.photos}.png"
        Image.new("RGB", (32, 32), (self.photos, 90, 60)).save(self.folder / "in" / key)
        self.ledger.add_job(job)
        self.ledger.add_photos(job.id, [Candidate(key, 100)])
        with closing(make_app(self.settings)) as app:
            publish(app, self.ledger.publish_next(10))
        return self.until(lambda: self.ledger.counts(job.id).of(PhotoState.DONE) == self.photos)

    def until(self, condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + SOON_S
        while not condition():
            if time.monotonic() > end or self.worker.process.exit_code is not None:
                return False
            time.sleep(0.05)
        return True

    def _left(self) -> int:
        """Count the messages that wait in any queue, or that a worker hasn't answered."""
        with self.connect() as client:
            waiting = sum(client.llen(key) for key in client.keys("photos.*"))
            return int(waiting + client.hlen("unacked"))


@pytest.fixture(scope="module")
def bench(
    start_service: Callable[[Server], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "in").mkdir()
    valkey = Valkey(folder / "valkey")
    start_service(valkey)
    url = f"sqlite:///{folder / 'ledger.sqlite3'}"
    migrate(url)
    own = {
        "GPEN_DATABASE_URL": url,
        "GPEN_BROKER_URL": valkey.url,
        "GPEN_LANES": "1",
        "GPEN_LOG_LEVEL": "DEBUG",
    }
    command = (sys.executable, "-m", "benchmarks.stub")
    worker = program(folder / "worker", *command, settings=own, ready_text="worker.ready")
    settings = JobSettings.model_validate({"database_url": url, "broker_url": valkey.url})
    with worker, closing(Ledger(url)) as ledger:
        yield Bench(worker, ledger, settings, folder)


def envelope(body: str, *, headers: dict[str, Any] | None = None, **properties: Any) -> str:
    """Return a message as kombu lays it into Redis."""
    task_id = str(uuid.uuid4())
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": TASK_NAME, "id": task_id} | (headers or {}),
            "properties": {
                "correlation_id": task_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
        | properties
    )


def encoded(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def task(*args: object, **kwargs: object) -> str:
    """Return a well-formed body with these arguments."""
    extra = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return encoded(json.dumps([args, kwargs, extra]))


class Trap:
    """Touches a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


GOOD = {"version": 1, "photo_id": 1}
NONSENSE = {
    "an unknown task": envelope(task(GOOD), headers={"task": "os.system"}),
    "no task at all": envelope(task(GOOD), headers={"task": None}),
    "no headers": envelope(task(GOOD)).replace('"headers"', '"others"'),
    "another version": envelope(task({"version": 2, "photo_id": 1})),
    "a word for an id": envelope(task({"version": 1, "photo_id": "one"})),
    "an id of text": envelope(task({"version": 1, "photo_id": "1"})),
    "an endless id": envelope(task({"version": 1, "photo_id": 10**30})),
    "an id below zero": envelope(task({"version": 1, "photo_id": -1})),
    "an id that nobody has": envelope(task({"version": 1, "photo_id": 10**9})),
    "a path besides": envelope(task({**GOOD, "key": "/etc/passwd"})),
    "a list for a message": envelope(task([1, 2, 3])),
    "a text for a message": envelope(task("../../etc/passwd")),
    "too many arguments": envelope(task(GOOD, GOOD, GOOD)),
    "no arguments": envelope(task()),
    "arguments by other names": envelope(task(source="/etc")),
    "a body that is no task": envelope(encoded('{"what": 1}')),
    "a body of a number": envelope(encoded("7")),
    "a body that is no JSON": envelope(encoded("{[")),
    "a body that is no base64": envelope("\u2603"),
    "a body without end": envelope(encoded("[" * 100_000)),
    "a large body": envelope(task({"version": 1, "photo_id": "x" * 20_000_000})),
    "bytes that are no text": envelope(encoded(b"\xff\xfe\xfa")),
    "an encoding that nobody knows": envelope(task(GOOD), **{"content-encoding": "rot13"}),
    "a number for headers": envelope(task(GOOD), headers=None).replace(
        '"lang"', '"retries": "x", "lang"'
    ),
    "a date that is none": envelope(task(GOOD), headers={"eta": "tomorrow"}),
    "no JSON": "hello",
    "half of a message": envelope(task(GOOD))[:100],
    "a number": "7",
    "null": "null",
    "no properties": '{"body": "", "headers": {}}',
    "no text": b"\xff\xfe",
    "nothing": "",
}


@pytest.mark.parametrize("message", NONSENSE.values(), ids=NONSENSE)
def test_a_message_that_makes_no_sense_does_nothing_and_goes_away(
    bench: Bench, message: str | bytes
) -> None:
    bench.send(message)

    assert bench.goes_on()


@pytest.mark.parametrize("kind", ["application/x-python-serialize", "application/x-yaml", "pickle"])
def test_a_message_that_would_run_code_where_it_is_read_is_not_read(
    bench: Bench, tmp_path: Path, kind: str
) -> None:
    trap = tmp_path / "sprung"
    if kind == "application/x-yaml":
        data = f"!!python/object/apply:os.mkdir ['{trap}']".encode()
        with suppress(FileExistsError):
            yaml.unsafe_load(data)
    else:
        data = pickle.dumps(((Trap(trap),), {}, {}))
        pickle.loads(data)  # noqa: S301 - our own
    assert trap.exists()  # the trap works
    trap.rmdir() if trap.is_dir() else trap.unlink()

    bench.send(envelope(encoded(data), **{"content-type": kind, "content-encoding": "binary"}))

    assert bench.goes_on()
    assert not trap.exists()


@pytest.mark.parametrize("name", ["celery.map", "celery.chord_unlock", "celery.backend_cleanup"])
def test_a_task_of_celerys_own_is_not_run(bench: Bench, name: str) -> None:
    arguments = ({"task": TASK_NAME, "args": [], "kwargs": {}}, [GOOD])
    bench.send(envelope(task(*arguments), headers={"task": name}))

    assert bench.goes_on()
    assert f"Received unregistered task of type '{name}'" in bench.worker.process.output


def test_a_worker_answers_questions_without_a_password(bench: Bench) -> None:
    with closing(make_app(bench.settings)) as app:
        asked = app.control.inspect(timeout=SOON_S, limit=1)
        answers = [getattr(asked, one)() for one in ("ping", "stats", "conf", "active_queues")]

    assert all(answers)
    assert bench.password not in json.dumps(answers)


@pytest.mark.parametrize(
    ("order", "arguments"),
    [
        ("shutdown", {}),
        ("pool_shrink", {"n": 1}),
        ("pool_restart", {"modules": ["os"]}),
        ("rate_limit", {"task_name": TASK_NAME, "rate_limit": "1/h"}),
        ("time_limit", {"task_name": TASK_NAME, "hard": 1}),
        ("cancel_consumer", {"queue": QUEUE}),
        ("add_consumer", {"queue": "another"}),
        ("revoke", {"task_id": "x", "terminate": True}),
        ("disable_events", {}),
        ("no such order", {}),
    ],
)
def test_a_worker_takes_no_orders_from_the_broker(
    bench: Bench, order: str, arguments: dict[str, Any]
) -> None:
    with closing(make_app(bench.settings)) as app:
        [answer] = app.control.broadcast(
            order, arguments=arguments, reply=True, timeout=SOON_S, limit=1
        )

    assert "error" in next(iter(answer.values()))
    assert bench.goes_on()


@pytest.mark.parametrize("raw", ["", "hello", "7", "{}", envelope(encoded("[1]")), b"\xff"])
def test_an_order_that_makes_no_sense_is_not_taken_for_one(bench: Bench, raw: str | bytes) -> None:
    with bench.connect() as client:
        assert client.publish("/0.celery.pidbox", raw) == 1

    assert bench.goes_on()


def test_photos_are_restored_after_all_that_and_their_outcome_is_not_kept_in_the_broker(
    bench: Bench,
) -> None:
    assert bench.restores_a_photo()

    with bench.connect() as client:
        assert not client.keys("celery-task-meta-*")
