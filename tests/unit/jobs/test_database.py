import os
import socket
from contextlib import closing
from urllib.parse import quote

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from jobs.database import Database
from jobs.errors import DatabaseUnavailable, SettingsInvalid, StoreFull
from jobs.ledger import Ledger
from jobs.recipe import Recipe
from jobs.schema import Job
from jobs.testing import FakeClock, sqlite_ledger


@pytest.fixture
def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize(
    "url", ["hunter2", "mysql://me:hunter2@db/archive", "postgresql://h:hunter2"]
)
def test_an_address_that_cannot_be_used_is_refused_and_not_repeated(url):
    with pytest.raises(SettingsInvalid, match="GPEN_DATABASE_URL") as caught:
        Database(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_any_usual_spelling_of_postgresql_is_understood(scheme):
    database = Database(f"{scheme}://me@127.0.0.1/archive")
    assert database.dialect == "postgresql"


def test_nothing_is_opened_before_the_first_use(tmp_path, closed_port):
    Ledger(f"sqlite:///{tmp_path / 'new.sqlite3'}").close()
    Ledger(f"postgresql://127.0.0.1:{closed_port}/archive").close()
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_run_is_reported_without_the_password(closed_port):
    ledger = Ledger(f"postgresql://me:hunter2@127.0.0.1:{closed_port}/archive")
    with pytest.raises(DatabaseUnavailable, match=f"127.0.0.1:{closed_port}") as caught:
        ledger.check()
    assert "hunter2" not in str(caught.value)


@pytest.mark.services
def test_a_database_that_does_not_exist_is_reported(fresh_postgres_url):
    ledger = Ledger(f"{fresh_postgres_url}_not")
    with pytest.raises(DatabaseUnavailable, match="does not exist"):
        ledger.check()


SILENCE = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")


@pytest.mark.services
def test_a_connection_that_fell_silent_is_given_up_within_a_minute_by_both_ends(
    fresh_postgres_url, monkeypatch
):
    monkeypatch.delenv("PGOPTIONS", raising=False)
    with closing(Database(fresh_postgres_url)) as database, database.begin() as connection:
        idle, interval, count = (
            connection.execute(text(f"SHOW {name}")).scalar_one() for name in SILENCE
        )
        assert int(idle) + int(interval) * int(count) <= 60
        assert connection.execute(text("SHOW tcp_user_timeout")).scalar_one() in ("60000", "1min")
        fileno = connection.connection.driver_connection.fileno()
        with socket.socket(fileno=os.dup(fileno)) as ours:
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


@pytest.mark.services
@pytest.mark.parametrize("by", ["address", "variable"])
def test_what_the_address_says_of_a_connection_is_kept(fresh_postgres_url, monkeypatch, by):
    own, url = "-c statement_timeout=7s", fresh_postgres_url
    if by == "variable":
        monkeypatch.setenv("PGOPTIONS", own)
    else:
        monkeypatch.delenv("PGOPTIONS", raising=False)
        url += f"{'&' if '?' in url else '?'}options={quote(own)}&keepalives_idle=77"
    with closing(Database(url)) as database, database.begin() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "7s"
        fileno = connection.connection.driver_connection.fileno()
        with socket.socket(fileno=os.dup(fileno)) as ours:
            idle_s = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    assert idle_s == (77 if by == "address" else 30)


def test_a_folder_that_does_not_exist_is_reported(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/nowhere/ledger.sqlite3")
    with pytest.raises(DatabaseUnavailable, match="nowhere"):
        ledger.jobs()


def test_a_file_that_is_not_a_database_is_reported(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"this is not a database, " * 100)
    ledger = Ledger(f"sqlite:///{path}")
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        ledger.jobs()


def test_a_file_without_room_to_grow_is_a_full_store_and_no_missing_database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'a.sqlite3'}")
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE a (b INTEGER)"))
        connection.execute(text("PRAGMA max_page_count = 2"))
    with pytest.raises(StoreFull, match="full"), database.begin() as connection:
        connection.execute(text("CREATE TABLE c (d INTEGER)"))
    database.close()


def test_a_mistake_of_our_own_is_not_blamed_on_the_database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'a.sqlite3'}")
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE a (b INTEGER PRIMARY KEY)"))
    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(text("INSERT INTO a VALUES (1), (1)"))
    database.close()


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """A folder with a ledger of one job; to us it is on a medium that can't be written."""
    folder = tmp_path / "album #1"
    folder.mkdir()
    ledger = sqlite_ledger(folder / "ledger.sqlite3", FakeClock())
    ledger.add_job(Job("album", "/in", "/out", Recipe()))
    ledger.close()
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    return folder


@pytest.fixture
def reader(read_only):
    ledger = Ledger(f"sqlite:///{read_only / 'ledger.sqlite3'}")
    yield ledger
    ledger.close()


def test_a_ledger_that_cannot_be_written_can_be_asked_and_no_file_appears_beside_it(
    read_only, reader
):
    reader.check()
    assert [job.name for job in reader.jobs()] == ["album"]
    assert [standing.counts.total for standing in reader.standings()] == [0]
    assert [path.name for path in read_only.iterdir()] == ["ledger.sqlite3"]


def test_a_ledger_that_cannot_be_written_is_not(reader):
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        reader.add_job(Job("other", "/in", "/other", Recipe()))


def test_asking_a_ledger_that_is_not_there_makes_no_file(tmp_path):
    path = tmp_path / "nothing.sqlite3"
    ledger = Ledger(f"sqlite:///{path}")
    with pytest.raises(DatabaseUnavailable, match="gpen-archive migrate"):
        ledger.check()
    ledger.close()
    assert not path.exists()
