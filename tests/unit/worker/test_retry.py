import pytest

from gpen_engine import CheckpointCorrupt, DeviceError, ImageError, OutOfMemory
from jobs.errors import (
    ClaimLost,
    PhotoCorrupt,
    PhotoUnexpected,
    StoreFull,
    StoreUnavailable,
    WeightsUnavailable,
)
from worker.retry import Drop, Fail, Retry, Stop, decide


def test_what_may_pass_is_tried_again_and_then_fails_with_its_own_code():
    error = OutOfMemory("o")
    assert isinstance(decide(error, 1, max_attempts=3), Retry)
    assert isinstance(decide(error, 2, max_attempts=3), Retry)
    assert decide(error, 3, max_attempts=3) == Fail(error.code, str(error), error.advice)


@pytest.mark.parametrize("error", [StoreUnavailable("s"), WeightsUnavailable("w")])
def test_a_service_that_is_away_is_waited_for_half_an_hour_and_then_fails_the_photo(error):
    waits = [decide(error, attempt, max_attempts=3) for attempt in range(1, 12)]
    assert 1800 <= sum(wait.after_s for wait in waits) <= 3600
    assert decide(error, 12, max_attempts=3) == Fail(error.code, str(error), error.advice)


@pytest.mark.parametrize("error", [PhotoCorrupt("c"), ImageError("i")])
def test_what_will_not_pass_fails_at_once(error):
    assert decide(error, 1, max_attempts=3) == Fail(error.code, str(error), error.advice)


@pytest.mark.parametrize("error", [CheckpointCorrupt("c"), DeviceError("d"), StoreFull("f")])
def test_bad_weights_a_missing_device_and_a_full_disk_stop_the_worker_at_any_attempt(error):
    stop = Stop(error.code, str(error), error.advice)
    assert decide(error, 1, max_attempts=3) == stop
    assert decide(error, 3, max_attempts=3) == stop


def test_a_lost_claim_is_nobodys_failure():
    assert decide(ClaimLost("c"), 3, max_attempts=3) == Drop()


@pytest.mark.parametrize("error", [ZeroDivisionError("z"), MemoryError()])
def test_the_unforeseen_is_tried_again_and_then_fails_with_a_code(error):
    assert isinstance(decide(error, 1, max_attempts=2), Retry)
    decision = decide(error, 2, max_attempts=2)
    assert isinstance(decision, Fail)
    assert decision.code == PhotoUnexpected.code
    assert type(error).__name__ in decision.message


def test_waits_grow_and_are_bounded():
    waits = [decide(StoreUnavailable("s"), n, max_attempts=99).after_s for n in range(1, 9)]
    assert waits == sorted(waits)
    assert waits[0] < waits[1]
    assert waits[-1] == waits[-2] <= 600
