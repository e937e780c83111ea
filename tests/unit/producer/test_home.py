import sqlite3
from contextlib import suppress

import pytest

from jobs.errors import DestinationUnusable
from jobs.ledger import Ledger
from jobs.migrate import migrate
from producer.errors import BrokerFailed, DestinationBusy
from producer.home import occupy


def test_the_folder_is_made_with_all_that_leads_to_it(tmp_path):
    with occupy(tmp_path / "deep" / "out") as home:
        assert home.folder.is_dir()
    assert home.folder.name.startswith(".")


def test_a_second_run_on_the_same_destination_is_refused(tmp_path):
    with occupy(tmp_path), pytest.raises(DestinationBusy), occupy(tmp_path):
        pass


def test_the_second_run_takes_nothing_away_from_the_first(tmp_path):
    with occupy(tmp_path / "out") as home:
        with pytest.raises(DestinationBusy), occupy(tmp_path / "out"):
            pass
        assert home.folder.is_dir()


def test_after_a_run_the_destination_is_free_again(tmp_path):
    for _ in range(2):
        with occupy(tmp_path):
            pass


def test_a_first_run_that_fails_leaves_nothing_behind(tmp_path):
    with suppress(BrokerFailed), occupy(tmp_path / "deep" / "out") as home:
        home.ledger.touch()
        raise BrokerFailed("no")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_after_a_delivery_keeps_its_ledger(tmp_path):
    with suppress(BrokerFailed), occupy(tmp_path) as home:
        (tmp_path / "a.restored.png").touch()
        raise BrokerFailed("no")
    assert home.folder.is_dir()


def test_a_later_run_that_fails_keeps_the_ledger_of_the_first(tmp_path):
    with occupy(tmp_path) as home:
        home.ledger.touch()
    with pytest.raises(BrokerFailed), occupy(tmp_path):
        raise BrokerFailed("no")
    assert home.ledger.is_file()


def test_a_file_in_the_way_is_an_unusable_destination(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(DestinationUnusable), occupy(tmp_path / "out"):
        pass


@pytest.mark.parametrize("name", ["plain", "what? #1 100%25 & café", "a:b@c"])
def test_the_ledger_lies_where_it_is_said_to_whatever_the_folder_is_called(tmp_path, name):
    with occupy(tmp_path / name) as home:
        migrate(home.ledger_url)
        ledger = Ledger(home.ledger_url)
        ledger.check()
        ledger.close()
        connection = sqlite3.connect(home.ledger)
        assert connection.execute("SELECT count(*) FROM photos").fetchone() == (0,)
        connection.close()
