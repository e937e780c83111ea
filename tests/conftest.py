"""Real services, started once a session from wheels, and a guard that keeps tests on this machine.

A service that isn't installed skips its tests on a developer's machine, and fails them where
`CI` is set. Clients take `fresh_postgres_url`, `postgres_url`, `fresh_valkey_url`, `valkey_url` and
`s3`; `postgres`, `valkey` and `seaweedfs` are the servers themselves.
"""

import ipaddress
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from deploy.postgres import Postgres
from deploy.processes import ServiceMissing
from deploy.seaweedfs import SeaweedFS
from deploy.server import Server
from deploy.valkey import Valkey

NOBODY_LISTENS = "http://127.0.0.1:9"
Starter = Callable[[Server], None]


def _refuse_other_machines(event: str, arguments: tuple[object, ...]) -> None:
    """Fail the test that connects, or looks up a name, beyond loopback."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in {"socket.connect", "socket.sendto"} and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    name = host.decode() if isinstance(host, bytes) else host
    if name in {None, "", "localhost"}:
        return
    try:
        local = ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        local = False
    if not local:
        pytest.fail(f"a test may speak to this machine only, not to {name!r} ({event})")


def pytest_configure() -> None:
    """Set the guard; the programs that tests start find no way out by HTTP either."""
    sys.addaudithook(_refuse_other_machines)
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        os.environ[name] = os.environ[name.lower()] = NOBODY_LISTENS
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "start_service" in getattr(item, "fixturenames", ()):
            item.add_marker("services")


@pytest.fixture(scope="session")
def start_service() -> Iterator[Starter]:
    """Start a server that stops with the session; a missing one skips the test, in CI it fails."""
    with ExitStack() as running:

        def start(server: Server) -> None:
            try:
                running.enter_context(server)
            except ServiceMissing as error:
                (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))

        yield start


@pytest.fixture(scope="session")
def postgres(start_service: Starter, tmp_path_factory: pytest.TempPathFactory) -> Postgres:
    server = Postgres(tmp_path_factory.mktemp("postgres"), durable=False)
    start_service(server)
    return server


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """Address of one empty database that the whole session shares."""
    return postgres.create_database("shared")


@pytest.fixture
def fresh_postgres_url(postgres: Postgres) -> Iterator[str]:
    """Address of an empty database of this test's own."""
    name = f"test_{uuid.uuid4().hex}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def valkey(start_service: Starter, tmp_path_factory: pytest.TempPathFactory) -> Valkey:
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    start_service(server)
    return server


@pytest.fixture(scope="session")
def valkey_url(valkey: Valkey) -> str:
    """Address of the broker that the whole session shares."""
    return valkey.url


@pytest.fixture
def fresh_valkey_url(valkey_url: str) -> str:
    """Address of the same broker, emptied."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
    return valkey_url


@dataclass(frozen=True)
class S3:
    """An S3 endpoint and the key to it."""

    endpoint_url: str
    access_key: str
    secret_key: str
    client: Any  # boto3 makes the class as it runs

    def make_bucket(self) -> str:
        """Make an empty bucket of its own name and return the name."""
        name = f"test-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=name)
        return name


@pytest.fixture(scope="session")
def seaweedfs(start_service: Starter, tmp_path_factory: pytest.TempPathFactory) -> SeaweedFS:
    server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    start_service(server)
    return server


@pytest.fixture(scope="session")
def s3(seaweedfs: SeaweedFS) -> S3:
    """The object store that the whole session shares; each test makes its own buckets."""
    return S3(
        endpoint_url=seaweedfs.endpoint_url,
        access_key=seaweedfs.access_key,
        secret_key=seaweedfs.secret_key,
        client=seaweedfs.client(),
    )
