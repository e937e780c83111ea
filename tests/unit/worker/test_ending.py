import time
from queue import SimpleQueue

import pytest

from jobs.errors import ClaimLost, DatabaseUnavailable
from worker import ending
from worker.ending import Ending
from worker.stages import Stages

SOON_S = 10


class Process:
    """Something that ends: told to give back, and with which code to leave."""

    def __init__(self, grace_s, errors=()):
        self.ending = Ending(grace_s=grace_s)
        self.codes = SimpleQueue()
        self.given_back = []
        self.errors = list(errors)
        self.ending.watch(self.give_back, leave=self.codes.put)

    def give_back(self):
        if self.errors:
            raise self.errors.pop()
        self.given_back.append(time.monotonic())
        return 2


def test_photos_in_hand_have_the_grace_and_are_given_back_then():
    process = Process(grace_s=0.3)
    told = time.monotonic()
    process.ending.end(0)
    assert process.codes.get(timeout=SOON_S) == 0
    assert process.given_back[0] - told >= 0.3


@pytest.mark.parametrize("words", [[True], [False, True]], ids=["at once", "in the grace"])
def test_an_urgent_word_does_not_wait_for_the_grace(words):
    process = Process(grace_s=3600)
    for now in words:
        process.ending.end(0, now=now)
    assert process.codes.get(timeout=SOON_S) == 0
    assert process.given_back


def test_several_lanes_that_cannot_go_on_leave_the_others_their_grace():
    process = Process(grace_s=0.5)
    told = time.monotonic()
    for code in (0, 5, 0):
        process.ending.end(code)
    assert process.codes.get(timeout=SOON_S) == 5
    assert process.given_back[0] - told >= 0.5


def test_a_connection_that_broke_long_ago_does_not_keep_what_is_given_back():
    process = Process(grace_s=0, errors=[DatabaseUnavailable("the server was started anew")])
    process.ending.end(0)
    assert process.codes.get(timeout=SOON_S) == 0
    assert process.given_back


def test_what_cannot_be_given_back_is_told_by_the_exit_code():
    process = Process(grace_s=0, errors=[DatabaseUnavailable("away")] * 99)
    process.ending.end(0)
    assert process.codes.get(timeout=SOON_S) == 5


def test_no_other_stage_begins_once_the_grace_is_over_and_before_it_does():
    process = Process(grace_s=0)
    stages = Stages(on_begin=process.ending.check)
    stages.begin("fetch")
    process.ending.end(0)
    process.codes.get(timeout=SOON_S)
    with pytest.raises(ClaimLost):
        stages.begin("decode")


def test_a_photo_that_is_being_stored_is_stored_first():
    process = Process(grace_s=0)
    stages = Stages()
    with process.ending.in_hand(stages):
        stages.begin("store")
        process.ending.end(0)
        time.sleep(0.3)
        stored = time.monotonic()
    process.codes.get(timeout=SOON_S)
    assert process.given_back[0] >= stored


def test_a_store_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(ending, "_STORING_S", 0.1)
    process = Process(grace_s=0)
    stages = Stages()
    with process.ending.in_hand(stages):
        stages.begin("store")
        process.ending.end(0)
        assert process.codes.get(timeout=SOON_S) == 0
