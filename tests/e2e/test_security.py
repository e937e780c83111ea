"""Service mode with the least rights, at the most talkative level, through every service's outage.

Each program has its own role in the database and its own identity in the object store
(deploy/roles.sql, deploy/policies); the worker's credentials lie in files. A job runs to its end;
the services are killed one after the other and come back; commands are given wrong passwords, which
hold the right ones. Then everything that was written anywhere is searched for credentials.
"""

import base64
import io
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from PIL import Image

from deploy.flower import Flower
from deploy.postgres import Postgres
from deploy.server import Program, Server
from deploy.services import archive, program
from deploy.valkey import Valkey
from tests.governed import DERIVATIVES, MASTERS, Governed

ROLES = (Path(__file__).resolve().parents[2] / "deploy" / "roles.sql").read_text()
JOB = "grandmother's album"
TABLES = ("alembic_version", "jobs", "photos", "tallies")
PHOTOS = 6
SOON_S = 120.0
DISPATCH = ("dispatch", "--once")


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 90, 60)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Site:
    """The services, our programs, and what any of them has said."""

    folder: Path
    valkey: Valkey
    postgres: Postgres
    store: Governed
    producer: Mapping[str, str]
    worker: Mapping[str, str]
    passwords: Mapping[str, str]
    said: dict[str, str] = field(default_factory=dict)

    def gpen_archive(self, *arguments: str, name: str = "", **other: str) -> str:
        """Run a command as the producer, however it ends; keep and return what it says."""
        command = [sys.executable, "-m", "producer", *arguments]
        environment = {**os.environ, **self.producer, **other}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        self.said[name or " ".join(arguments)] = said = done.stdout + done.stderr
        return said

    def finished(self) -> bool:
        states = "SELECT count(*) FROM photos WHERE state IN ('done', 'failed')"
        with psycopg.connect(self.owner) as connection:
            return connection.execute(states).fetchone() == (PHOTOS + 1,)

    def logs(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.folder)): path.read_text(errors="replace")
            for path in self.folder.rglob("log")
        }

    def rows(self) -> dict[str, str]:
        with psycopg.connect(self.owner) as connection:
            rows = {name: connection.execute(f"TABLE {name}").fetchall() for name in TABLES}
        return {name: json.dumps(found, default=str) for name, found in rows.items()}

    def broker_content(self) -> dict[str, bytes]:
        """Return what the broker holds, and whatever it has ever written to its disk."""
        with redis.Redis.from_url(self.valkey.url) as client:
            held = {key.decode(): client.dump(key) or b"" for key in client.scan_iter()}
        disk = (self.valkey.folder / "appendonlydir").iterdir()
        return held | {path.name: path.read_bytes() for path in disk}

    def objects(self) -> dict[str, bytes]:
        client = self.store.client()
        names = [one["Key"] for one in client.list_objects_v2(Bucket=DERIVATIVES)["Contents"]]
        found = {}
        for name in names:
            answer = client.get_object(Bucket=DERIVATIVES, Key=name)
            found[name] = answer["Body"].read() + json.dumps(answer["Metadata"]).encode()
        return found

    @property
    def owner(self) -> str:
        return self.postgres.url("archive").replace("+psycopg", "")


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < end, "it doesn't happen"
        time.sleep(0.2)


def database_of(postgres: Postgres, role: str, password: str) -> str:
    """Make a login that is a member of a role of ours; return its address."""
    with psycopg.connect(postgres.url("archive").replace("+psycopg", "")) as connection:
        connection.execute(f"CREATE ROLE a_{role} LOGIN PASSWORD '{password}' IN ROLE gpen_{role}")
    port = urlsplit(postgres.url("archive")).port
    return f"postgresql+psycopg://a_{role}:{password}@127.0.0.1:{port}/archive"


def make_site(folder: Path, start_service: Callable[[Server], None]) -> Site:
    valkey, postgres = Valkey(folder / "valkey"), Postgres(folder / "postgres", durable=False)
    store = Governed(folder / "store")
    for server in (valkey, postgres, store):
        start_service(server)
    for bucket in (MASTERS, DERIVATIVES):
        store.make_bucket(bucket)
    owner = {"GPEN_DATABASE_URL": postgres.create_database("archive")}
    with archive(folder / "migrate", "migrate", settings=owner) as migrate:
        migrate.process.finish(deadline_s=SOON_S)
    with psycopg.connect(owner["GPEN_DATABASE_URL"].replace("+psycopg", "")) as connection:
        connection.execute(ROLES)
    passwords = {name: secrets.token_hex(16) for name in ("producer", "worker", "flower")}
    settings = {
        name: {
            "GPEN_DATABASE_URL": database_of(postgres, name, passwords[name]),
            "GPEN_BROKER_URL": valkey.url,
            "GPEN_LOG_LEVEL": "DEBUG",
            **store.keys(name),
        }
        for name in ("producer", "worker")
    }
    return Site(
        folder, valkey, postgres, store, settings["producer"], settings["worker"], passwords
    )


def start_worker(site: Site) -> Program:
    """Return a stub worker whose credentials lie in files, and nowhere in its environment."""
    folder = site.folder / "secrets"
    folder.mkdir()
    for name, value in site.worker.items():
        (folder / name).write_text(f"{value}\n")
        (folder / name).chmod(0o400)
    settings = {"GPEN_SECRETS_DIR": str(folder), "GPEN_STUB_S": "0.5", "GPEN_LANES": "1"}
    command = (sys.executable, "-m", "benchmarks.stub")
    return program(site.folder / "worker", *command, settings=settings, ready_text="worker.ready")


@pytest.fixture(scope="module")
def site(start_service: Callable[[Server], None], tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = make_site(tmp_path_factory.mktemp("security"), start_service)
    dispatch = archive(site.folder / "dispatch", "dispatch", settings=site.producer)
    flower = Flower(
        site.folder / "flower",
        broker_url=site.valkey.url,
        basic_auth=f"archive:{site.passwords['flower']}",
    )
    for server in (dispatch, start_worker(site), flower):
        start_service(server)
    client = site.store.client()
    for number in range(PHOTOS):
        client.put_object(Bucket=MASTERS, Key=f"{number}.png", Body=picture(number))
    client.put_object(Bucket=MASTERS, Key="torn.png", Body=b"no picture")
    places = (f"s3://{MASTERS}", f"s3://{DERIVATIVES}")
    site.gpen_archive("submit", *places, "--name", JOB)
    wait_until(lambda: "photo.done" in site.logs()["worker/log"])
    interrupt(site)
    wait_until(site.finished)
    site.gpen_archive("status")
    site.gpen_archive("doctor")
    give_wrong_passwords(site)
    site.said["flower"] = ask(flower)
    return site


def interrupt(site: Site) -> None:
    """Kill each service, let a command complain of it, and let it come back."""
    submit = ("submit", f"s3://{MASTERS}", f"s3://{DERIVATIVES}", "--name", JOB)
    for server, command, complaint in (
        (site.store, submit, "store.unavailable"),
        (site.valkey, DISPATCH, "broker.unavailable"),
        (site.postgres, ("status",), "database.unavailable"),
    ):
        server.stop(server.death_signal)
        name = type(server).__name__
        assert complaint in site.gpen_archive(*command, name=f"without {name}")
        server.start()


def give_wrong_passwords(site: Site) -> None:
    """Let commands use credentials that are refused, or make no sense."""
    secret = f"{site.producer['GPEN_S3_SECRET_ACCESS_KEY']}x"
    refused = {"GPEN_S3_SECRET_ACCESS_KEY": secret}
    for name, command in (("GPEN_DATABASE_URL", ("status",)), ("GPEN_BROKER_URL", DISPATCH)):
        right = site.producer[name]
        password = str(urlsplit(right).password)
        refused[name] = right.replace(password, f"{password}x")
        wrong = {
            "refused": refused[name],
            "of no kind": right.replace("://", "ql://"),
            "without a port": right.replace("127.0.0.1:", "127.0.0.1:x"),
        }
        for how, value in wrong.items():
            site.gpen_archive(*command, name=f"{name} {how}", **{name: value})
    site.gpen_archive("doctor", name="all refused", **refused)
    places = (f"s3://{MASTERS}", f"s3://{DERIVATIVES}")
    wrong_key = {"GPEN_S3_SECRET_ACCESS_KEY": secret}
    site.gpen_archive("submit", *places, name="key refused", **wrong_key)


def ask(flower: Flower) -> str:
    """Return all that Flower tells those who know the password."""
    token = base64.b64encode(flower.environment()["FLOWER_BASIC_AUTH"].encode()).decode()
    said = []
    for path in ("/api/workers?refresh=true", "/api/tasks?limit=100", "/broker", "/workers"):
        request = urllib.request.Request(f"{flower.url}{path}")
        request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            said.append(answer.read().decode())
    return "\n".join(said)


@pytest.fixture(scope="module")
def credentials(site: Site) -> dict[str, str]:
    """Return everything that must not be found, by what it is."""
    found = {f"password of {name}": password for name, password in site.passwords.items()}
    found["password of the broker"] = site.valkey.password
    found["password of the owner"] = str(urlsplit(site.owner).password)
    found["key of the owner"] = site.store.secret_key
    for name, settings in (("producer", site.producer), ("worker", site.worker)):
        found[f"key of {name}"] = settings["GPEN_S3_SECRET_ACCESS_KEY"]
        found[f"id of the key of {name}"] = settings["GPEN_S3_ACCESS_KEY_ID"]
    assert min(map(len, found.values())) == 32
    return found


def leaks(places: Mapping[str, Any], credentials: Mapping[str, str]) -> list[str]:
    assert places
    return [
        f"{what} in {place}"
        for place, content in places.items()
        for what, credential in credentials.items()
        if credential in (content if isinstance(content, str) else content.decode("latin-1"))
    ]


def test_a_job_runs_to_its_end_with_the_least_rights(site: Site) -> None:
    status = json.loads(site.gpen_archive("status", JOB, "--json"))["job"]

    assert status["photos"]["done"] == PHOTOS
    assert [failure["key"] for failure in status["failures"]] == ["torn.png"]
    assert len(site.objects()) == 2 * PHOTOS


def test_no_credential_stands_in_a_log(site: Site, credentials: dict[str, str]) -> None:
    logs = site.logs()

    assert " DEBUG " in logs["worker/log"]
    assert {"dispatch/log", "worker/log", "flower/log", "valkey/log", "postgres/log"} <= set(logs)
    assert leaks(logs, credentials) == []


def test_no_credential_is_said_by_a_command_even_if_it_is_wrong(
    site: Site, credentials: dict[str, str]
) -> None:
    assert "password authentication failed" in site.said["GPEN_DATABASE_URL refused"]
    assert "settings.invalid" in site.said["GPEN_BROKER_URL of no kind"]
    assert leaks(site.said, credentials) == []


def test_no_credential_stands_in_a_row(site: Site, credentials: dict[str, str]) -> None:
    rows = site.rows()

    assert JOB in rows["jobs"]
    assert leaks(rows, credentials) == []


def test_no_credential_went_through_the_broker(site: Site, credentials: dict[str, str]) -> None:
    content = site.broker_content()

    assert any(b"gpen_archive" in found for found in content.values())
    assert leaks(content, credentials) == []


def test_no_credential_is_delivered(site: Site, credentials: dict[str, str]) -> None:
    assert leaks(site.objects(), credentials) == []


@pytest.mark.usefixtures("site")
def test_no_credential_stands_on_a_command_line(credentials: dict[str, str]) -> None:
    lines = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines[path.parent.name] = path.read_bytes()
        except OSError:  # it has ended
            continue

    assert any(b"benchmarks.stub" in line for line in lines.values())
    assert leaks(lines, credentials) == []
