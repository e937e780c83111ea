from itertools import pairwise

import pytest

from gpen_engine import CheckpointCorrupt, DeviceError, ImageError, OutOfMemory
from jobs.errors import (
    ClaimLost,
    PhotoCorrupt,
    PhotoOutOfMemory,
    PhotoUnexpected,
    StoreFull,
    StoreUnavailable,
    WeightsUnavailable,
)
from jobs.memory import MemoryClass
from worker.retry import LEDGER_WAITS, Counted, Drop, Fail, Retry, Stop, Tries, decide

SMALL, MEDIUM, LARGE = MemoryClass


def said(error, tries, *, max_attempts=3, draw=0.0):
    return decide(error, tries, max_attempts=max_attempts, draw=draw)


@pytest.mark.parametrize("error", [StoreUnavailable("s"), WeightsUnavailable("w")])
def test_a_service_that_is_away_is_waited_for_half_an_hour_and_then_fails_the_photo(error):
    waits = [said(error, Tries(1, outages)) for outages in range(11)]
    assert 1800 <= sum(wait.after_s for wait in waits) <= 3600
    assert said(error, Tries(1, 11)) == Fail(error.code, str(error), error.advice)


def test_an_outage_is_none_of_the_photos_own_attempts_and_needs_none_of_them():
    decision = said(StoreUnavailable("s"), Tries(attempts=3), max_attempts=3)
    assert decision == Retry(5, Counted.OUTAGE)


def test_outages_leave_the_photo_all_its_own_attempts():
    assert said(ZeroDivisionError("z"), Tries(1, outages=11)) == Retry(5, Counted.ATTEMPT)


@pytest.mark.parametrize("error", [OutOfMemory("o"), MemoryError()])
def test_a_photo_without_memory_goes_to_the_larger_classes_first_which_costs_no_attempt(error):
    assert said(error, Tries(3, memory_class=SMALL)).memory_class is MEDIUM
    assert said(error, Tries(3, memory_class=MEDIUM)) == Retry(80, Counted.NOTHING, LARGE)


@pytest.mark.parametrize("error", [OutOfMemory("o"), MemoryError()])
def test_in_the_largest_class_memory_has_the_photos_attempts_and_then_a_code_of_its_own(error):
    kind = OutOfMemory if isinstance(error, OutOfMemory) else PhotoOutOfMemory
    assert said(error, Tries(2)) == Retry(20, Counted.ATTEMPT)
    decision = said(error, Tries(3))
    assert (decision.code, decision.advice) == (kind.code, kind.advice)
    assert isinstance(decision, Fail)


@pytest.mark.parametrize("error", [PhotoCorrupt("c"), ImageError("i")])
def test_what_will_not_pass_fails_at_once(error):
    assert said(error, Tries()) == Fail(error.code, str(error), error.advice)


@pytest.mark.parametrize("error", [CheckpointCorrupt("c"), DeviceError("d"), StoreFull("f")])
def test_bad_weights_a_missing_device_and_a_full_disk_stop_the_worker_at_any_attempt(error):
    stop = Stop(error.code, str(error), error.advice)
    assert said(error, Tries(1)) == stop
    assert said(error, Tries(3)) == stop


def test_a_lost_claim_is_nobodys_failure():
    assert said(ClaimLost("c"), Tries(3)) == Drop()


def test_the_unforeseen_is_tried_again_and_then_fails_with_a_code():
    error = ZeroDivisionError("z")
    assert said(error, Tries(1), max_attempts=2) == Retry(5, Counted.ATTEMPT)
    decision = said(error, Tries(2), max_attempts=2)
    assert isinstance(decision, Fail)
    assert decision.code == PhotoUnexpected.code
    assert decision.message == "ZeroDivisionError: z"


def test_waits_grow_up_to_a_bound():
    waits = [said(ValueError(), Tries(n), max_attempts=99).after_s for n in range(1, 9)]
    assert waits == [5, 20, 80, 300, 300, 300, 300, 300]


def test_what_failed_together_comes_back_one_after_the_other():
    waits = [said(StoreUnavailable("s"), Tries(), draw=n / 100).after_s for n in range(101)]
    assert (waits[0], waits[-1]) == (5, 7.5)
    assert all(later - earlier == pytest.approx(0.025) for earlier, later in pairwise(waits))


def test_a_ledger_is_asked_again_however_long_that_takes():
    assert LEDGER_WAITS.after(1_000_000, draw=1.0) == 15
