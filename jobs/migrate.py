"""Brings a database to the revision that this program expects, with Alembic.

The migrations lie in `migrations/`, beside this package: in a checkout and in an installed wheel.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from jobs.database import Database

_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
_ADVISORY_LOCK = 0x6770656E  # any number that no other program of this database uses


def migrate(url: str) -> None:
    """Upgrade the database to the newest revision; safe to repeat and to start twice at once.

    Raises:
        DatabaseUnavailable: the database can't be reached.
        SettingsInvalid: the address isn't one of SQLite or PostgreSQL.
    """
    database = Database(url)
    try:
        with database.begin() as connection:
            if database.dialect == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
            command.upgrade(configuration(connection), "head")
    finally:
        database.close()


def configuration(connection: Connection | None = None) -> Config:
    """Return Alembic's settings for this project, working on `connection` where one is given."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def current_revision(connection: Connection) -> str | None:
    """Return the database's revision, None where it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def expected_revision() -> str | None:
    """Return the newest revision in `migrations/`."""
    return ScriptDirectory.from_config(configuration()).get_current_head()
