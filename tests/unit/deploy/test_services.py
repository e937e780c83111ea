"""The services: they answer on loopback only, keep their data, and die with their parent."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.flower import Flower
from deploy.postgres import Postgres
from deploy.processes import (
    GRPC_OFFSET,
    LOOPBACK,
    Process,
    ServiceFailed,
    ServiceMissing,
    free_ports,
)
from deploy.seaweedfs import SeaweedFS
from deploy.server import Program, Server, installed_file, installed_script
from deploy.services import archive
from deploy.valkey import Valkey

ROOT = Path(__file__).resolve().parents[3]
SOCKETS = Path("/tmp")  # noqa: S108 - where SeaweedFS puts them
# Starts everything in the folder that it is given, says which processes these are, and waits.
PARENT = """
import json, sys
from pathlib import Path
from deploy.flower import Flower
from deploy.postgres import Postgres
from deploy.seaweedfs import SeaweedFS
from deploy.server import Program
from deploy.valkey import Valkey

folder = Path(sys.argv[1])
valkey = Valkey(folder / "valkey").start()
servers = [
    valkey,
    Postgres(folder / "postgres", durable=False).start(),
    SeaweedFS(folder / "seaweedfs").start(),
    Flower(folder / "flower", broker_url=valkey.url, basic_auth="a:b").start(),
    Program(folder / "program", ["sleep", "600"], environment={}).start(),
]
print(json.dumps([server.process.pid for server in servers]), flush=True)
sys.stdin.read()
"""


@pytest.mark.usefixtures("valkey", "postgres", "seaweedfs")
def test_nothing_survives_when_the_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with parent:
        assert parent.stdout
        started = json.loads(parent.stdout.readline())
        family = [*started, *(child for pid in started for child in children_of(pid))]
        assert len(family) > len(started)  # PostgreSQL has children of its own

        parent.kill()

        wait_until(lambda: not any(map(is_alive, family)), deadline_s=20)


def test_a_child_whose_parent_is_gone_already_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    started = tmp_path / "started"

    process = Process(["touch", str(started)], log=tmp_path / "log", directory=tmp_path)

    wait_until(lambda: process.exit_code is not None, deadline_s=20)
    assert process.exit_code == 1
    assert not started.exists()


@pytest.mark.parametrize("name", ["valkey", "postgres", "seaweedfs"])
def test_a_server_listens_on_loopback_only(name: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(name)

    listening = listening_addresses(server.process.pid)

    assert (LOOPBACK, server.port) in listening
    assert {address for address, _ in listening} == {LOOPBACK}


def test_flower_listens_on_loopback_only(tmp_path: Path, valkey: Valkey) -> None:
    with Flower(tmp_path, broker_url=valkey.url, basic_auth="archive:secret") as flower:
        assert listening_addresses(flower.process.pid) == {(LOOPBACK, flower.port)}


def test_no_secret_stands_on_a_command_line(
    valkey: Valkey, postgres: Postgres, seaweedfs: SeaweedFS
) -> None:
    secrets = {valkey.password, seaweedfs.secret_key, (postgres.folder / "password").read_text()}

    for server in (valkey, postgres, seaweedfs):
        line = Path(f"/proc/{server.process.pid}/cmdline").read_text()
        assert not [secret for secret in secrets if secret in line]


def test_a_broker_wants_its_password(valkey: Valkey) -> None:
    once = Retry(NoBackoff(), 0)

    client = redis.Redis(host=LOOPBACK, port=valkey.port, retry=once)
    with client, pytest.raises(redis.AuthenticationError):
        client.ping()


@pytest.mark.usefixtures("valkey")
def test_a_broker_keeps_its_messages_over_a_restart(tmp_path: Path) -> None:
    with Valkey(tmp_path / "kept") as broker:
        with redis.Redis.from_url(broker.url) as client:
            client.lpush("photos", "message")
        broker.stop()
        broker.start()

        with redis.Redis.from_url(broker.url) as client:
            assert client.lrange("photos", 0, -1) == [b"message"]


@pytest.mark.usefixtures("postgres")
def test_a_database_keeps_its_rows_when_the_server_is_killed(tmp_path: Path) -> None:
    with Postgres(tmp_path / "kept") as server:
        address = server.create_database("kept").replace("+psycopg", "")
        with psycopg.connect(address) as connection:
            connection.execute("CREATE TABLE photo AS SELECT 1 AS id")
        children = children_of(server.process.pid)
        server.stop(signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, children)), deadline_s=20)
        server.start()

        with psycopg.connect(address) as connection:
            assert connection.execute("SELECT id FROM photo").fetchall() == [(1,)]


def test_making_what_is_there_already_changes_nothing(
    postgres: Postgres, seaweedfs: SeaweedFS
) -> None:
    bucket = seaweedfs.make_bucket("made-twice")
    seaweedfs.client().put_object(Bucket=bucket, Key="kept", Body=b"")

    assert seaweedfs.make_bucket("made-twice") == bucket
    assert seaweedfs.client().head_object(Bucket=bucket, Key="kept")
    assert postgres.create_database("made_twice") == postgres.create_database("made_twice")


@pytest.mark.usefixtures("seaweedfs")
def test_an_object_store_leaves_no_socket_behind(tmp_path: Path) -> None:
    with SeaweedFS(tmp_path) as store:
        its_own = SOCKETS / f"seaweedfs-s3-grpc-{store.port + GRPC_OFFSET}.sock"
        assert its_own.exists()

    assert not its_own.exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path, valkey: Valkey) -> None:
    with pytest.raises(ServiceFailed, match="Address already in use"):
        Valkey(tmp_path, port=valkey.port).start()


def test_a_program_that_never_gets_ready_is_killed(tmp_path: Path) -> None:
    process = Process(["sleep", "600"], log=tmp_path / "log", directory=tmp_path)

    with pytest.raises(ServiceFailed, match="wasn't ready after"):
        process.wait_until(lambda: False, deadline_s=0.1)

    assert process.exit_code == -signal.SIGKILL


def test_a_program_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    ignoring = ["sh", "-c", "trap '' TERM; echo ready; exec sleep 600"]
    process = Process(ignoring, log=tmp_path / "log", directory=tmp_path)
    process.wait_until(lambda: "ready" in process.output, deadline_s=20)

    assert process.stop(deadline_s=0.2) == -signal.SIGKILL


def test_a_program_that_fails_is_reported_with_its_last_words(tmp_path: Path) -> None:
    program = Program(tmp_path, ["sh", "-c", "echo no room left; exit 3"], environment={})

    with program, pytest.raises(ServiceFailed, match="ended with 3:\nno room left"):
        program.process.finish(deadline_s=20)


def test_a_program_may_end_in_order_between_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([None])
    monkeypatch.setattr(Process, "exit_code", property(lambda _: next(looks, 0)))

    Process(["true"], log=tmp_path / "log", directory=tmp_path).finish(deadline_s=20)


def test_a_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    process = Process(["sleep", "600"], log=tmp_path / "log", directory=tmp_path)

    with pytest.raises(ServiceFailed, match="wasn't ready after"):
        process.finish(deadline_s=0.1)

    assert process.exit_code == -signal.SIGKILL


def test_a_command_of_gpen_archive_finds_its_settings(tmp_path: Path) -> None:
    settings = {"GPEN_DATABASE_URL": f"sqlite:///{tmp_path}/ledger.sqlite3"}

    with archive(tmp_path / "migrate", "migrate", settings=settings) as migrate:
        migrate.process.finish(deadline_s=60)

    assert (tmp_path / "ledger.sqlite3").exists()


def test_what_is_not_installed_is_said_so() -> None:
    with pytest.raises(ServiceMissing, match="no_such_package isn't installed"):
        installed_file("no_such_package", "*")
    with pytest.raises(ServiceMissing, match="no-such-program isn't installed"):
        installed_script("no-such-program")


def test_a_missing_service_skips_its_tests_at_home_and_fails_them_in_ci(
    tmp_path: Path, start_service: Callable[[Server], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nowhere(Program):
        def command(self) -> Sequence[str]:
            raise ServiceMissing("it isn't installed")

    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception):
        start_service(Nowhere(tmp_path, [], environment={}))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception):
        start_service(Nowhere(tmp_path, [], environment={}))


def test_a_test_cannot_speak_to_another_machine() -> None:
    with pytest.raises(pytest.fail.Exception):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(pytest.fail.Exception):
        socket.getaddrinfo("example.org", 443)


def test_free_ports_differ() -> None:
    assert len(set(free_ports(50))) == 50


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and that nobody has asked about doesn't."""
    try:
        state = re.search(r"^State:\s+(\S)", Path(f"/proc/{pid}/status").read_text(), re.M)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state is not None and state[1] != "Z"


def listening_addresses(pid: int) -> set[tuple[str, int]]:
    """Return the addresses at which a process listens for TCP connections."""
    sockets = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                octets = bytes.fromhex(address)[::-1]
                shown = ".".join(map(str, octets)) if table == "tcp" else f"[{address}]"
                found.add((shown, int(port, 16)))
    return found


def wait_until(condition: Callable[[], bool], *, deadline_s: float) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:g} s"
        time.sleep(0.05)
