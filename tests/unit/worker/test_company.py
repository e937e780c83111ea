"""Lanes of one worker, each a thread with a photo, some of which want to be alone."""

import threading
from collections.abc import Callable, Iterator

import pytest

from worker.company import Company

SOON_S = 10.0
A_WHILE_S = 0.2


class Lane:
    """Joins the company, and leaves it when it is told to."""

    def __init__(self, company: Company, *, alone: bool) -> None:
        self.begun, self._may_end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, args=(company, alone))
        self._thread.start()

    def _work(self, company: Company, alone: bool) -> None:
        with company.join_alone() if alone else company.join() as self.place:
            self.begun.set()
            self._may_end.wait(SOON_S)

    def end(self) -> None:
        self._may_end.set()
        self._thread.join(SOON_S)


@pytest.fixture
def lane() -> Iterator[Callable[..., Lane]]:
    company, lanes = Company(), []

    def start(*, alone: bool = False, of: Company = company) -> Lane:
        lanes.append(Lane(of, alone=alone))
        return lanes[-1]

    yield start
    for each in lanes:
        each.end()


def test_usual_photos_share_the_worker(lane):
    assert all(each.begun.wait(SOON_S) for each in (lane(), lane()))


def test_a_photo_that_is_to_be_alone_waits_for_those_in_work_and_keeps_others_waiting(lane):
    first = lane()
    first.begun.wait(SOON_S)
    alone = lane(alone=True)
    assert not alone.begun.wait(A_WHILE_S)
    later = lane()
    assert not later.begun.wait(A_WHILE_S)
    first.end()
    assert alone.begun.wait(SOON_S)
    assert alone.place.is_alone
    assert not later.begun.wait(A_WHILE_S)
    alone.end()
    assert later.begun.wait(SOON_S)


def test_of_two_that_want_to_be_alone_each_is(lane):
    one = lane(alone=True)
    one.begun.wait(SOON_S)
    other = lane(alone=True)
    assert not other.begun.wait(A_WHILE_S)
    one.end()
    assert other.begun.wait(SOON_S)
    assert other.place.is_alone


@pytest.mark.parametrize("before_alone", [False, True], ids=["together", "alone"])
def test_who_waits_in_vain_to_be_alone_lets_the_others_through(lane, before_alone):
    company = Company(patience_s=A_WHILE_S)
    hanging = lane(alone=before_alone, of=company)
    hanging.begun.wait(SOON_S)
    waiting = lane(alone=True, of=company)
    assert waiting.begun.wait(SOON_S)
    assert not waiting.place.is_alone
    if not before_alone:
        assert lane(of=company).begun.wait(SOON_S)


@pytest.mark.parametrize("was_alone", [False, True], ids=["together", "alone"])
def test_a_lane_that_is_given_up_stands_in_nobodys_way(lane, was_alone):
    hanging = lane(alone=was_alone)
    hanging.begun.wait(SOON_S)
    hanging.place.leave()
    alone = lane(alone=True)
    assert alone.begun.wait(SOON_S)
    assert alone.place.is_alone
    hanging.end()
    assert not lane().begun.wait(A_WHILE_S)


def test_nobody_waits_any_more_once_the_worker_ends(lane):
    company = Company(patience_s=3600)
    lane(alone=True, of=company).begun.wait(SOON_S)
    with company.join_alone(give_up=lambda: True) as place:
        assert not place.is_alone
    with company.join(give_up=lambda: True):
        pass


def test_a_photo_that_fails_leaves_the_worker_to_the_others():
    company = Company()
    for join in (company.join_alone, company.join):
        with pytest.raises(OSError, match="torn"), join():
            raise OSError("torn")
    with company.join_alone() as place:
        assert place.is_alone
