import threading

import pytest

from jobs.errors import ClaimLost, DatabaseUnavailable
from jobs.recipe import Recipe
from jobs.schema import Claim, Job
from worker.lease import Lease

CLAIM = Claim(1, "a.png", "t", 1, "w1", Job("j", "s", "d", Recipe()))
LEASE_S = 0.03


class RecordingLedger:
    """Answers renewals with the given results and tells when they came."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.renewals = 0
        self.used_up = threading.Event()

    def renew(self, claim, *, lease_s):
        assert (claim, lease_s) == (CLAIM, LEASE_S)
        self.renewals += 1
        answer = self.answers.pop(0) if self.answers else None
        if not self.answers:
            self.used_up.set()
        if answer is not None:
            raise answer


def test_a_lease_is_renewed_while_the_work_goes_on_and_not_after():
    ledger = RecordingLedger(None, None, None)
    with Lease(ledger, CLAIM, lease_s=LEASE_S) as lease:
        assert ledger.used_up.wait(10)
        lease.check()
    renewals = ledger.renewals
    assert renewals >= 3
    assert not any(thread.name == "lease" for thread in threading.enumerate())


def test_a_lost_claim_is_told_at_the_next_check():
    ledger = RecordingLedger(ClaimLost("lost"))
    with Lease(ledger, CLAIM, lease_s=LEASE_S) as lease:
        assert ledger.used_up.wait(10)
        deadline = threading.Event()
        while not lease._lost.is_set() and not deadline.wait(0.005):
            pass
        with pytest.raises(ClaimLost, match=r"a\.png"):
            lease.check()


def test_work_that_hangs_loses_its_claim():
    ledger = RecordingLedger()
    with Lease(ledger, CLAIM, lease_s=LEASE_S, longest_s=0) as lease:
        pause = threading.Event()
        while not lease._lost.is_set() and not pause.wait(0.005):
            pass
        with pytest.raises(ClaimLost):
            lease.check()
    assert ledger.renewals == 0


def test_a_database_that_is_away_for_a_moment_does_not_lose_the_claim():
    ledger = RecordingLedger(DatabaseUnavailable("away"), None)
    with Lease(ledger, CLAIM, lease_s=LEASE_S) as lease:
        assert ledger.used_up.wait(10)
        lease.check()
