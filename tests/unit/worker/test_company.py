"""Lanes of one worker, each a thread with a photo, some of which want to be alone."""

import threading
from collections.abc import Callable, Iterator

import pytest

from worker.company import Company

SOON_S = 10.0
A_WHILE_S = 0.2


class Lane:
    """Joins the company with a photo, and leaves it when it is told to."""

    def __init__(self, company: Company, *, alone: bool) -> None:
        self.begun, self._may_end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, args=(company, alone))
        self._thread.start()

    def _work(self, company: Company, alone: bool) -> None:
        with company.join(alone=alone):
            self.begun.set()
            self._may_end.wait(SOON_S)

    def end(self) -> None:
        self._may_end.set()
        self._thread.join(SOON_S)


@pytest.fixture
def lane() -> Iterator[Callable[..., Lane]]:
    company, lanes = Company(), []

    def start(*, alone: bool = False) -> Lane:
        lanes.append(Lane(company, alone=alone))
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


def test_a_photo_that_fails_leaves_the_worker_to_the_others():
    company = Company()
    for alone in (True, False):
        with pytest.raises(OSError, match="torn"), company.join(alone=alone):
            raise OSError("torn")
    with company.join(alone=True):
        pass
