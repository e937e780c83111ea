"""The way into the ledger's database: an address goes in, short transactions come out.

Whatever the database or its driver says when it can't serve becomes `DatabaseUnavailable`, without
the address's password.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from jobs.errors import DatabaseUnavailable, SettingsInvalid, StoreFull

_BUSY_TIMEOUT_MS = 30_000
_SILENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "options": "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 "
    "-c tcp_keepalives_count=3 -c tcp_user_timeout=60000",
}
"""After a minute of it a connection to PostgreSQL is given up, by the server too."""
_NOT_ALLOWED = "42501"  # insufficient_privilege
_OUR_OWN_FAULTS = (DataError, IntegrityError, ProgrammingError)
_THE_DATABASES_FAULTS = (DatabaseError, InterfaceError, PoolTimeoutError)


class Database:
    """One database and its pool of connections; nothing is opened before the first `begin`."""

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        self.shown_url = parsed.render_as_string(hide_password=True)
        self._file = _file_of(parsed)
        self._engine = _make_engine(parsed, self._file)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @property
    def is_missing(self) -> bool:
        """True for a SQLite file that isn't there; a connection would make an empty one."""
        return self._file is not None and not self._file.exists()

    @contextmanager
    def begin(self, *, writing: bool = False, lasting: bool = True) -> Iterator[Connection]:
        """Lend a connection for one transaction: committed at the end, rolled back on an error.

        Args:
            writing: it reads and then writes, which SQLite has to know from the start.
            lasting: False: it doesn't wait for the server's disk, and may be undone if the server
                dies within a second (postgresql.org/docs/current/wal-async-commit.html).

        Raises:
            DatabaseUnavailable: the database can't be reached, broke off the transaction, or
                doesn't let its user do that.
            StoreFull: it is a file, and there is no room for it.
        """
        try:
            with self._engine.execution_options(writing=writing).begin() as connection:
                if not lasting and self.dialect == "postgresql":
                    connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
                yield connection
        except _OUR_OWN_FAULTS as error:
            if getattr(error.orig, "sqlstate", None) != _NOT_ALLOWED:
                raise
            raise DatabaseUnavailable(
                f"the database {self.shown_url} refuses: {error.orig}"
            ) from error
        except _THE_DATABASES_FAULTS as error:
            cause = getattr(error, "orig", None) or error
            said = str(cause).strip().partition("\n")[0]
            is_full = getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            kind = StoreFull if is_full else DatabaseUnavailable
            raise kind(f"the database {self.shown_url} can't be used: {said}") from error

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _parse(url: str) -> URL:
    """Read an address; a bad one isn't repeated in the message, for it may hold a password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that isn't a number
        raise SettingsInvalid("GPEN_DATABASE_URL: not the address of a database") from None
    backend = parsed.drivername.partition("+")[0]
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return parsed
    raise SettingsInvalid(f"GPEN_DATABASE_URL: {backend} is neither sqlite nor postgresql")


def _file_of(url: URL) -> Path | None:
    on_disk = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if on_disk else None


def _make_engine(url: URL, file: Path | None) -> Engine:
    if url.get_backend_name() == "postgresql":
        return create_engine(url, connect_args=_unless_told(url))
    engine = create_engine(_for_reading(file) if file and _is_read_only(file) else url)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _unless_told(url: URL) -> dict[str, str]:
    """Return what we say to libpq, without what the address, or its variable, says itself."""
    told = {*url.query, *({"options"} if "PGOPTIONS" in os.environ else ())}
    return {name: value for name, value in _SILENCE.items() if name not in told}


def _is_read_only(file: Path) -> bool:
    return file.exists() and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))


def _for_reading(file: Path) -> URL:
    """Return an address at which SQLite neither writes nor locks (sqlite.org/uri.html).

    A file without a log beside it is complete, and is said not to change: without that, SQLite
    would want to make a log.
    """
    query = {"uri": "true", "mode": "ro"}
    if not file.with_name(f"{file.name}-wal").exists():
        query["immutable"] = "1"
    return URL.create("sqlite", database=f"file:{quote(str(file.absolute()))}", query=query)


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's type
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    # The driver itself begins no transaction before a CREATE TABLE: a migration could stop halfway.
    # One that reads before it writes would be broken off if somebody else wrote in between.
    writing = connection.get_execution_options()["writing"]
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
