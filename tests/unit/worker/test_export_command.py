"""`gpen-archive export`: what a user types, reads and finds."""

import logging
from contextlib import closing

import pytest
import typer
from typer.testing import CliRunner

from jobs.errors import DatabaseUnavailable, DestinationUnusable, JobUnknown
from jobs.home import Home
from jobs.ledger import Ledger
from jobs.migrate import migrate
from jobs.testing import FakeClock, sqlite_ledger
from producer.exits import ExitCode, code_for_error
from tests.unit.worker.export_album import album_in, validated_by_others
from worker import commands_export
from worker.export.errors import BagInvalid, DeliveryMismatch


@pytest.fixture
def export(monkeypatch):
    """The command; what it raises comes out."""
    monkeypatch.delenv("GPEN_DATABASE_URL", raising=False)
    app = typer.Typer()
    app.callback()(lambda: None)
    commands_export.register(app)

    def call(*arguments):
        result = CliRunner().invoke(app, ["export", *map(str, arguments)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def album(tmp_path, monkeypatch):
    """A job of service mode, whose ledger the environment names."""
    path = tmp_path / "ledger.sqlite3"
    ledger = sqlite_ledger(path, FakeClock())
    monkeypatch.setenv("GPEN_DATABASE_URL", f"sqlite:///{path}")
    yield album_in(tmp_path, ledger)
    ledger.close()


def test_a_job_is_exported_by_its_name(export, album):
    album.deliver("a.tif")
    album.fail("b.tif")
    result = export("album", "--bagit", album.target)

    assert result.exit_code == 0
    assert f"{album.target}: a bag with 6 files" in result.output
    assert "read back and valid" in result.output
    assert "1 of 2 photos delivered" in result.output
    assert "1 failed: data/metadata/failures.csv says why" in result.output
    assert validated_by_others(album.target).returncode == 0


def test_a_job_is_exported_by_the_first_digits_of_its_id(export, album):
    album.deliver("a.tif")
    assert export(album.job.id[:6], "--bagit", album.target).exit_code == 0


def test_a_job_that_is_not_there_is_told(export, album):
    with pytest.raises(JobUnknown, match="other"):
        export("other", "--bagit", album.target)


def test_a_ledger_that_is_not_there_is_told(export, tmp_path, monkeypatch):
    monkeypatch.setenv("GPEN_DATABASE_URL", f"sqlite:///{tmp_path / 'none.sqlite3'}")
    with pytest.raises(DatabaseUnavailable):
        export("album", "--bagit", tmp_path / "bag")


def test_masters_and_organization_come_in_when_asked_for(export, album):
    album.deliver("a.tif")
    export("album", "--bagit", album.target, "--with-masters", "--organization", "City Archive")
    assert (album.target / "data/masters/a.tif").is_file()
    assert "Source-Organization: City Archive\n" in (album.target / "bag-info.txt").read_text()


def test_an_unfinished_job_is_a_usage_error_until_a_part_will_do(export, album):
    album.deliver("a.tif")
    album.wait("b.tif")
    refused = export("album", "--bagit", album.target)
    assert refused.exit_code == 2
    assert "--partial" in refused.output
    assert not album.target.exists()

    done = export("album", "--bagit", album.target, "--partial")
    assert done.exit_code == 0
    assert "1 not finished yet: data/metadata/pending.csv" in done.output


def test_a_bag_that_was_not_read_back_is_not_called_valid(export, album):
    album.deliver("a.tif")
    result = export("album", "--bagit", album.target, "--no-validate")
    assert "not read back" in result.output
    assert "valid;" not in result.output


def test_the_job_of_a_run_is_found_at_its_destination(export, tmp_path):
    home = Home(tmp_path / "out %41?")
    home.folder.mkdir(parents=True)
    migrate(home.ledger_url)
    with closing(Ledger(home.ledger_url)) as ledger:
        album = album_in(tmp_path, ledger)
        album.deliver("a.tif")

    assert export("album", "--bagit", album.target, "--at", home.destination).exit_code == 0
    with pytest.raises(JobUnknown, match="no `run`"):
        export("album", "--bagit", tmp_path / "other", "--at", tmp_path)


def test_a_taken_folder_is_told(export, album):
    album.deliver("a.tif")
    export("album", "--bagit", album.target)
    with pytest.raises(DestinationUnusable, match="nothing is replaced"):
        export("album", "--bagit", album.target)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeliveryMismatch, ExitCode.NONE_DELIVERED),
        (BagInvalid, ExitCode.ENVIRONMENT),
        (DestinationUnusable, ExitCode.ENVIRONMENT),
    ],
)
def test_what_stops_an_export_has_a_documented_exit_code(error, code):
    assert code_for_error(error.code) is code


def test_the_checker_is_quiet_about_good_bags(export, album, caplog):
    album.deliver("a.tif")
    with caplog.at_level(logging.WARNING):
        export("album", "--bagit", album.target)
    assert caplog.records == []
