from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from jobs.hours import Hours

BERLIN = ZoneInfo("Europe/Berlin")


def at(text):
    return datetime.fromisoformat(f"2026-11-03T{text}")


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("22:00-06:00", ["22:00", "23:59:59", "00:00", "05:59:59"], ["06:00", "12:00", "21:59:59"]),
        ("9:30-17:00", ["09:30", "12:00", "16:59"], ["09:29", "17:00", "00:00"]),
        ("18:00-24:00", ["18:00", "23:59:59"], ["00:00", "17:59"]),
        ("00:00-06:00", ["00:00", "05:59"], ["06:00", "23:59"]),
    ],
)
def test_hours_are_open_from_their_begin_until_their_end(hours, inside, outside):
    read = Hours.parse(hours)
    assert all(read.is_open(at(moment)) for moment in inside)
    assert not any(read.is_open(at(moment)) for moment in outside)


def test_hours_are_written_as_they_are_read():
    assert str(Hours.parse(" 9:30 - 17:00 ")) == "09:30-17:00"


@pytest.mark.parametrize(
    "text", ["", "22:00", "22-6", "25:00-06:00", "22:60-06:00", "06:00-06:00", "00:00-24:00"]
)
def test_what_is_no_hours_is_refused(text):
    with pytest.raises(ValueError, match=r"isn't of the form|begins and ends"):
        Hours.parse(text)


@pytest.mark.parametrize(("evening", "open_h"), [("2026-03-28", 7), ("2026-10-24", 9)])
def test_a_night_in_which_the_clocks_change_is_an_hour_shorter_or_longer(evening, open_h):
    noon = datetime.fromisoformat(f"{evening}T12:00").replace(tzinfo=BERLIN).timestamp()
    moments = [datetime.fromtimestamp(noon + minute * 60, BERLIN) for minute in range(24 * 60)]
    night = Hours.parse("22:00-06:00")
    open_min = [night.is_open(moment) for moment in moments]
    assert sum(open_min) == open_h * 60
    assert sum(before != after for before, after in pairwise(open_min)) == 2


def test_an_opening_in_the_hour_that_is_left_out_comes_at_its_end():
    night = Hours.parse("02:30-06:00")
    before = datetime(2026, 3, 29, 1, 59, tzinfo=BERLIN).timestamp()
    assert not night.is_open(datetime.fromtimestamp(before, BERLIN))
    after = datetime.fromtimestamp(before + timedelta(minutes=1).total_seconds(), BERLIN)
    assert night.is_open(after)
    assert after.hour == 3
