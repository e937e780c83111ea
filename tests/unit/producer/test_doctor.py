import socket
import sqlite3
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from jobs import broker
from jobs.memory import MemoryClass
from jobs.migrate import migrate
from jobs.schema import Candidate, PhotoRef
from jobs.settings import JobSettings
from producer import doctor
from producer.doctor import Check, check_all
from producer.errors import InstallationIncomplete
from producer.plugins import Missing


@pytest.fixture(autouse=True)
def no_engine(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "load", lambda _: ([], []))


def verdicts(**settings) -> dict[str, Check]:
    return {check.name: check for check in check_all(JobSettings(**settings))}


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_without_settings_nothing_of_service_mode_is_wrong():
    found = verdicts()
    assert found["database"].ok
    assert found["broker"].ok
    assert found["object store"].ok
    assert "not configured" in found["broker"].detail


def test_versions_and_free_space_are_told():
    found = verdicts()
    assert "celery" in found["versions"].detail
    assert "GB free" in found["disk"].detail


def test_a_migrated_database_is_fine(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    migrate(url)
    assert verdicts(database_url=SecretStr(url))["database"].ok


def test_a_database_that_was_never_migrated_is_not(tmp_path):
    check = verdicts(database_url=SecretStr(f"sqlite:///{tmp_path}/new.sqlite3"))["database"]
    assert not check.ok
    assert "database.unavailable" in check.detail


def test_tallies_that_differ_from_their_rows_are_wrong(ledger, make_job, tmp_path):
    url = SecretStr(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    job = make_job()
    ledger.add_job(job)
    ledger.add_photos(job.id, [Candidate("a.jpg", 1)])
    assert verdicts(database_url=url)["tallies"].ok
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
        connection.execute("UPDATE tallies SET photos = 7")
    connection.close()
    check = verdicts(database_url=url)["tallies"]
    assert not check.ok
    assert job.id in check.detail
    ledger.recount()
    assert verdicts(database_url=url)["tallies"].ok


def test_a_broker_that_does_not_answer_is_wrong(free_port):
    check = verdicts(broker_url=SecretStr(f"redis://:secret@127.0.0.1:{free_port}/0"))["broker"]
    assert not check.ok
    assert "broker.unavailable" in check.detail
    assert "secret" not in check.detail


def test_photos_of_a_class_that_no_worker_takes_are_said_to_wait(fresh_valkey_url, monkeypatch):
    settings = {"broker_url": SecretStr(fresh_valkey_url)}
    monkeypatch.setattr(broker, "_ANSWER_S", 0.1)
    assert verdicts(**settings)["workers"].ok
    app = broker.make_app(JobSettings(**settings))
    wall = PhotoRef(1, "album", "wall.tif", 0, MemoryClass.LARGE)
    broker.publish(app, [wall])
    check = verdicts(**settings)["workers"]
    assert not check.ok
    assert "no worker takes large ones" in check.detail
    monkeypatch.setattr(broker, "served", lambda _: {MemoryClass.LARGE})
    assert verdicts(**settings)["workers"] == Check("workers", ok=True, detail="take large")


def test_an_object_store_that_does_not_answer_is_wrong(free_port):
    assert not verdicts(s3_endpoint_url=f"http://127.0.0.1:{free_port}")["object store"].ok


def test_an_object_store_that_answers_is_fine():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert verdicts(s3_endpoint_url=f"http://127.0.0.1:{port}")["object store"].ok


def test_the_engine_adds_its_own_checks(monkeypatch):
    def engine_checks(settings: JobSettings) -> Iterator[Check]:
        yield Check("device", ok=True, detail=f"cpu, {settings.window}")

    monkeypatch.setattr(doctor, "load", lambda _: ([engine_checks], []))
    assert verdicts(window=7)["device"].detail == "cpu, 7"


def test_an_engine_that_is_not_installed_is_said_to_be_missing(monkeypatch):
    missing = Missing("engine", "No module named 'torch'")
    monkeypatch.setattr(doctor, "load", lambda _: ([], [missing]))
    check = verdicts()["engine"]
    assert not check.ok
    assert "torch" in check.detail


def test_on_a_machine_of_service_mode_the_engine_may_be_missing(monkeypatch, free_port):
    monkeypatch.setattr(doctor, "load", lambda _: ([], [Missing("engine", "No torch")]))
    monkeypatch.setattr(doctor, "find_binary", no_binary)
    found = verdicts(broker_url=SecretStr(f"redis://127.0.0.1:{free_port}/0"))
    assert found["engine"].ok
    assert found["embedded broker"].ok


def test_on_a_machine_of_its_own_a_missing_broker_is_wrong(monkeypatch):
    monkeypatch.setattr(doctor, "find_binary", no_binary)
    assert not verdicts()["embedded broker"].ok


def no_binary() -> None:
    raise InstallationIncomplete("there is no Valkey")
