import threading

import pytest

from jobs.errors import ClaimLost, DatabaseUnavailable
from jobs.recipe import Recipe
from jobs.schema import Claim, Job
from worker.lease import Leases

CLAIM = Claim(1, "a.png", "t", 1, "w1", Job("j", "s", "d", Recipe()))
OTHER = Claim(2, "b.png", "u", 1, "w1", Job("j", "s", "d", Recipe()))
LEASE_S = 0.03
SOON_S = 10


class RecordingLedger:
    """Answers renewals with the given results and tells when they came."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.renewed = []
        self.used_up = threading.Event()

    def renew(self, claim, *, lease_s):
        assert lease_s == LEASE_S
        self.renewed.append(claim)
        answer = self.answers.pop(0) if self.answers else None
        if not self.answers:
            self.used_up.set()
        if answer is not None:
            raise answer


def renewing():
    return [thread for thread in threading.enumerate() if thread.name == "leases"]


def test_a_lease_is_renewed_while_the_work_goes_on_and_not_after():
    ledger = RecordingLedger(None, None, None)
    with Leases(ledger, lease_s=LEASE_S).hold(CLAIM) as lease:
        assert ledger.used_up.wait(SOON_S)
        lease.check()
    for thread in renewing():
        thread.join(SOON_S)
    assert len(ledger.renewed) >= 3
    assert not renewing()


def test_one_thread_renews_all_leases_of_a_process():
    ledger = RecordingLedger(*[None] * 6)
    leases = Leases(ledger, lease_s=LEASE_S)
    with leases.hold(CLAIM), leases.hold(OTHER):
        assert ledger.used_up.wait(SOON_S)
        assert len(renewing()) == 1
    assert {each.key for each in ledger.renewed} == {"a.png", "b.png"}


def test_a_photo_that_comes_after_a_pause_is_renewed_too():
    ledger = RecordingLedger(None)
    leases = Leases(ledger, lease_s=LEASE_S)
    with leases.hold(OTHER):
        pass
    for thread in renewing():
        thread.join(SOON_S)
    with leases.hold(CLAIM):
        assert ledger.used_up.wait(SOON_S)
    assert ledger.renewed[-1] == CLAIM


def test_a_lost_claim_is_told_at_the_next_check_and_asked_for_no_more():
    class OneLost(RecordingLedger):
        def renew(self, claim, *, lease_s):
            super().renew(claim, lease_s=lease_s)
            if claim == CLAIM:
                raise ClaimLost("lost")

    ledger, told = OneLost(*[None] * 5), threading.Event()
    leases = Leases(ledger, lease_s=LEASE_S)
    with leases.hold(CLAIM, on_lost=told.set) as lost, leases.hold(OTHER) as kept:
        assert told.wait(SOON_S)
        assert ledger.used_up.wait(SOON_S)
        with pytest.raises(ClaimLost, match=r"a\.png"):
            lost.check()
        kept.check()
    assert ledger.renewed.count(CLAIM) == 1


def test_work_that_hangs_loses_its_claim():
    ledger, told = RecordingLedger(), threading.Event()
    leases = Leases(ledger, lease_s=LEASE_S, longest_s=0)
    with leases.hold(CLAIM, on_lost=told.set) as lease:
        assert told.wait(SOON_S)
        with pytest.raises(ClaimLost):
            lease.check()
    assert ledger.renewed == []


def test_a_database_that_is_away_for_a_moment_does_not_lose_the_claim():
    ledger = RecordingLedger(DatabaseUnavailable("away"), None)
    with Leases(ledger, lease_s=LEASE_S).hold(CLAIM) as lease:
        assert ledger.used_up.wait(SOON_S)
        lease.check()
