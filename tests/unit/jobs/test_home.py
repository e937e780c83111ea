import pytest

from jobs.errors import JobUnknown
from jobs.home import Home, find_ledger
from jobs.settings import JobSettings

SERVICE = JobSettings(database_url="postgresql://db/jobs")


def test_without_a_destination_the_ledger_of_service_mode_is_meant():
    assert find_ledger(SERVICE, None) == "postgresql://db/jobs"


def test_the_ledger_of_a_run_lies_at_its_destination(tmp_path):
    home = Home(tmp_path)
    home.folder.mkdir()
    home.ledger.touch()
    assert find_ledger(SERVICE, tmp_path) == find_ledger(SERVICE, tmp_path / "x" / "..")
    assert find_ledger(SERVICE, tmp_path).endswith(f"{tmp_path}/.gpen-archive/ledger.sqlite3")


def test_a_destination_without_a_run_is_told(tmp_path):
    with pytest.raises(JobUnknown, match="no `run`"):
        find_ledger(SERVICE, tmp_path)
