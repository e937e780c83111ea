"""TLS to broker, database and object store: with the right authority it works, else it is refused.

The wheels' Valkey and PostgreSQL have no TLS, so a small front with a certificate stands before
each service, as a load balancer may. Authorities and certificates are made by `openssl`.
"""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest

from deploy.processes import LOOPBACK
from jobs import broker
from jobs.errors import BrokerUnavailable, DatabaseUnavailable, StoreUnavailable
from jobs.ledger import Ledger
from jobs.migrate import migrate
from jobs.schema import PhotoRef
from jobs.settings import JobSettings
from jobs.storage import PutResult, open_store

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates"),
]

SSL_REQUEST = bytes.fromhex("0000000804d2162f")  # what a client of PostgreSQL says first
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
UNTRUSTED = "(?i)certificate.verify.failed"


@dataclass(frozen=True)
class Authority:
    """One that signs certificates, with one of each kind."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self._make("ca", "-addext", "basicConstraints=critical,CA:TRUE")
        signed = ("-CA", str(self.ca), "-CAkey", str(self.folder / "ca.key"))
        for name in ("server", "client"):
            self._make(name, *signed, "-addext", f"subjectAltName=IP:{LOOPBACK}")

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def pair(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _make(self, name: str, *options: str) -> None:
        certificate, key = self.pair(name)
        files = ("-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={name}")
        command = ["openssl", "req", "-x509", *NEW_KEY, *files, *options]
        subprocess.run(command, check=True, capture_output=True)


class Front:
    """Listens with a certificate, and hands what comes to a service that has none.

    Args:
        port: the service's.
        authority: whose certificate it shows.
        wants_client: whether a client has to show one of the same authority.
        greeting: what a client says before it begins with TLS.
    """

    def __init__(
        self, port: int, authority: Authority, *, wants_client: bool = False, greeting: bytes = b""
    ) -> None:
        self._service = (LOOPBACK, port)
        self._greeting = greeting
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*authority.pair("server"))
        if wants_client:
            self._context.load_verify_locations(authority.ca)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self.encrypted = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if self._greeting:
                assert connection.recv(len(self._greeting)) == self._greeting
                connection.sendall(b"S")
            inside = self._context.wrap_socket(connection, server_side=True)
            self.encrypted += 1
            with inside, socket.create_connection(self._service) as service:
                inside.settimeout(0.02)
                service.settimeout(0.02)
                ends = {inside: service, service: inside}
                while all(pass_on(one, other) for one, other in ends.items()):
                    pass


def pass_on(one: socket.socket, other: socket.socket) -> bool:
    """Hand on what is there; return False at the end."""
    try:
        data = one.recv(65536)
    except TimeoutError:
        return True
    other.settimeout(10)
    other.sendall(data)
    other.settimeout(0.02)
    return bool(data)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture
def front(ours: Authority) -> Iterator[Callable[..., Front]]:
    with ExitStack() as open_ones:
        yield lambda port, **how: open_ones.enter_context(closing(Front(port, ours, **how)))


# The broker


def broker_at(valkey_url: str, front: Front, **query: object) -> JobSettings:
    password = urlsplit(valkey_url).password
    asked = f"?{urlencode(query)}" if query else ""
    url = f"rediss://:{password}@{LOOPBACK}:{front.port}/0{asked}"
    return JobSettings.model_validate({"broker_url": url})


def passes(settings: JobSettings) -> bool:
    """Send a message, and find it waiting."""
    with closing(broker.make_app(settings)) as app:
        broker.check(app)
        broker.publish(app, [PhotoRef(1, "album", "a.jpg")])
        return sum(broker.waiting(app).values()) == 1


def test_a_broker_is_reached_through_tls_by_its_authority(
    fresh_valkey_url: str, ours: Authority, front: Callable[..., Front]
) -> None:
    before = front(urlsplit(fresh_valkey_url).port)

    assert passes(broker_at(fresh_valkey_url, before, ssl_ca_certs=ours.ca))
    assert before.encrypted > 0


@pytest.mark.parametrize("query", ["nothing", "their authority", "only that it is required"])
def test_a_broker_whose_authority_is_unknown_is_refused(
    fresh_valkey_url: str, theirs: Authority, front: Callable[..., Front], query: str
) -> None:
    asked = {
        "nothing": {},
        "their authority": {"ssl_ca_certs": theirs.ca},
        "only that it is required": {"ssl_cert_reqs": "required"},
    }[query]
    settings = broker_at(fresh_valkey_url, front(urlsplit(fresh_valkey_url).port), **asked)

    with pytest.raises(BrokerUnavailable, match=UNTRUSTED) as caught:
        passes(settings)
    assert str(urlsplit(fresh_valkey_url).password) not in str(caught.value)


def test_a_broker_may_be_trusted_blindly_if_its_address_says_so(
    fresh_valkey_url: str, front: Callable[..., Front]
) -> None:
    before = front(urlsplit(fresh_valkey_url).port)

    assert passes(broker_at(fresh_valkey_url, before, ssl_cert_reqs="none"))


def test_a_broker_that_asks_for_a_certificate_gets_it(
    fresh_valkey_url: str, ours: Authority, front: Callable[..., Front]
) -> None:
    before = front(urlsplit(fresh_valkey_url).port, wants_client=True)
    certificate, key = ours.pair("client")
    shown = {"ssl_certfile": certificate, "ssl_keyfile": key}

    assert passes(broker_at(fresh_valkey_url, before, ssl_ca_certs=ours.ca, **shown))
    with pytest.raises(BrokerUnavailable):
        passes(broker_at(fresh_valkey_url, before, ssl_ca_certs=ours.ca))


def test_a_missing_file_of_an_authority_is_named(
    fresh_valkey_url: str, front: Callable[..., Front]
) -> None:
    before = front(urlsplit(fresh_valkey_url).port)

    with pytest.raises(BrokerUnavailable, match="No such file"):
        passes(broker_at(fresh_valkey_url, before, ssl_ca_certs="/nowhere/ca.pem"))


# The database


def database_at(url: str, port: int, **query: object) -> str:
    parts = urlsplit(url)
    netloc = f"{parts.username}:{parts.password}@{LOOPBACK}:{port}"
    return parts._replace(netloc=netloc, query=urlencode(query)).geturl()


def test_a_database_is_reached_through_tls_by_its_authority(
    fresh_postgres_url: str, ours: Authority, front: Callable[..., Front]
) -> None:
    before = front(urlsplit(fresh_postgres_url).port, greeting=SSL_REQUEST)
    url = database_at(fresh_postgres_url, before.port, sslmode="verify-full", sslrootcert=ours.ca)

    migrate(url)

    with closing(Ledger(url)) as ledger:
        ledger.check()
    assert before.encrypted > 0


def test_a_database_whose_authority_is_unknown_is_refused(
    fresh_postgres_url: str, theirs: Authority, front: Callable[..., Front]
) -> None:
    before = front(urlsplit(fresh_postgres_url).port, greeting=SSL_REQUEST)
    url = database_at(fresh_postgres_url, before.port, sslmode="verify-full", sslrootcert=theirs.ca)

    with closing(Ledger(url)) as ledger, pytest.raises(DatabaseUnavailable, match=UNTRUSTED):
        ledger.check()


def test_a_database_without_tls_is_refused_where_it_is_required(fresh_postgres_url: str) -> None:
    url = database_at(fresh_postgres_url, urlsplit(fresh_postgres_url).port, sslmode="require")

    with closing(Ledger(url)) as ledger, pytest.raises(DatabaseUnavailable, match="SSL"):
        ledger.check()


# The object store


@pytest.fixture
def store_at(s3, front: Callable[..., Front]):
    before = front(urlsplit(s3.endpoint_url).port)
    settings = JobSettings(
        s3_endpoint_url=f"https://{LOOPBACK}:{before.port}",
        s3_access_key_id=s3.access_key,
        s3_secret_access_key=s3.secret_key,
    )
    return open_store(f"s3://{quote(s3.make_bucket())}", settings)


def test_an_object_store_is_reached_through_tls_by_its_authority(
    store_at, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(ours.ca))

    assert store_at.put_once("a.png", b"1", content_type="image/png") is PutResult.CREATED
    assert store_at.get("a.png") == b"1"


def test_an_object_store_whose_authority_is_unknown_is_refused(
    store_at, theirs: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(theirs.ca))

    with pytest.raises(StoreUnavailable, match=UNTRUSTED):
        store_at.get("a.png")
