"""What Alembic runs: on the connection that `jobs.migrate` gives, else on GPEN_DATABASE_URL."""

from alembic import context
from sqlalchemy import Connection

from jobs.database import Database
from jobs.settings import JobSettings
from jobs.tables import Table


def run(connection: Connection) -> None:
    """Run the migrations inside the transaction that `connection` is in."""
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        render_as_batch=True,  # SQLite alters a table only by copying it
    )
    with context.begin_transaction():
        context.run_migrations()


def run_from_command_line() -> None:
    """Serve `alembic upgrade head` and its kin."""
    database = Database(JobSettings.from_environment().database_url.get_secret_value())
    try:
        with database.begin() as connection:
            run(connection)
    finally:
        database.close()


given = context.config.attributes.get("connection")
if given is None:
    run_from_command_line()
else:
    run(given)
