import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from jobs.database import Database
from jobs.errors import DatabaseUnavailable
from jobs.ledger import Ledger
from jobs.memory import MemoryClass
from jobs.migrate import configuration, current_revision, expected_revision, migrate
from jobs.recipe import Recipe
from jobs.schema import Candidate, Job
from jobs.tables import Table

ROOT = Path(__file__).resolve().parents[3]


class PowerCut(Exception):
    pass


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    return request.getfixturevalue("fresh_postgres_url")


@pytest.fixture
def database(url):
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def ledger(url):
    ledger = Ledger(url)
    yield ledger
    ledger.close()


def tables(connection):
    return set(inspect(connection).get_table_names())


def test_a_migrated_database_has_exactly_the_tables_that_the_program_maps(url, database):
    migrate(url)
    with database.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []


def test_a_migrated_database_has_the_constraints_of_a_mapped_one(url, database):
    migrate(url)
    with database.begin() as connection:
        migrated = checks(connection)
        Table.metadata.drop_all(connection)
        Table.metadata.create_all(connection)
        assert checks(connection) == migrated
        assert len(migrated) == 4


def checks(connection):
    return {
        (check["name"], check["sqltext"])
        for table in ("jobs", "photos")
        for check in inspect(connection).get_check_constraints(table)
    }


def test_migrations_go_up_down_and_up_again(url, database):
    migrate(url)
    with database.begin() as connection:
        command.downgrade(configuration(connection), "base")
        assert tables(connection) == {"alembic_version"}
    migrate(url)
    with database.begin() as connection:
        assert tables(connection) == {"alembic_version", "jobs", "photos", "tallies"}
        assert current_revision(connection) == expected_revision()


def begin_a_job_at(connection, revision):
    command.upgrade(configuration(connection), revision)
    connection.execute(
        text("INSERT INTO jobs VALUES ('j', 'album', '/in', '/out', :recipe, 1.0)"),
        {"recipe": Recipe().canonical()},
    )


def test_photos_of_an_older_database_are_tallied(url, database, ledger):
    with database.begin() as connection:
        begin_a_job_at(connection, "0001")
        photo = "INSERT INTO photos (job_id, key, size_bytes, attempts, not_before, state, "
        for row in (
            "faces) VALUES ('j', 'a', 1, 1, 0, 'done', 2)",
            *[
                f"error_code) VALUES ('j', '{key}', 1, 1, 0, 'failed', 'store.full')"
                for key in "bc"
            ],
        ):
            connection.execute(text(photo + row))
    migrate(url)
    assert ledger.miscounts() == []
    counts = ledger.counts("j")
    assert (counts.total, counts.faces, counts.by_code) == (3, 2, {"store.full": 2})


def test_photos_of_an_older_database_are_for_any_worker(url, database, ledger):
    with database.begin() as connection:
        begin_a_job_at(connection, "0002")
        columns = "(job_id, key, size_bytes, attempts, not_before, state)"
        connection.execute(
            text(f"INSERT INTO photos {columns} VALUES ('j', 'a', 1, 0, 0, 'pending')")  # noqa: S608 - ours
        )
    migrate(url)
    assert [photo.memory_class for photo in ledger.photos("j")] == [MemoryClass.SMALL]


def test_migrating_twice_is_harmless(url, ledger):
    migrate(url)
    migrate(url)
    ledger.check()


def test_migrating_says_nothing(url, capfd, caplog):
    caplog.set_level("WARNING")
    migrate(url)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def upgrade_until_the_power_is_cut(database):
    with database.begin() as connection:
        command.upgrade(configuration(connection), "head")
        raise PowerCut


def test_a_migration_that_stops_halfway_leaves_nothing(database):
    with pytest.raises(PowerCut):
        upgrade_until_the_power_is_cut(database)
    with database.begin() as connection:
        assert tables(connection) == set()


def test_a_database_that_was_never_migrated_is_refused_with_the_remedy(ledger):
    with pytest.raises(DatabaseUnavailable, match="gpen-archive migrate"):
        ledger.check()


def test_a_database_of_another_revision_is_refused(url, database, ledger):
    migrate(url)
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseUnavailable, match="9999"):
        ledger.check()


@pytest.mark.parametrize(
    "nonsense",
    ["state = 'lost'", "state = 'claimed'", "claim_token = 'a'", "job_id = 'unknown'"],
)
def test_the_database_itself_refuses_what_makes_no_sense(url, database, ledger, nonsense):
    migrate(url)
    job = Job("album", "/in", "/out", Recipe())
    ledger.add_job(job)
    ledger.add_photos(job.id, [Candidate("a.jpg", 1)])
    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(text(f"UPDATE photos SET {nonsense}"))  # noqa: S608 - from above


def test_alembic_works_from_the_command_line_too(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=ROOT,
        env=os.environ | {"GPEN_DATABASE_URL": url},
        check=True,
        capture_output=True,
    )
    ledger = Ledger(url)
    ledger.check()
    ledger.close()
