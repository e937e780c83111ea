"""Workers on machines whose clocks differ, and one ledger in PostgreSQL, whose server has one."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from jobs.ledger import Ledger
from jobs.migrate import migrate
from jobs.recipe import Recipe
from jobs.schema import Candidate, Job, PhotoState

pytestmark = pytest.mark.services
JOB = Job("album", source="/album", destination="/out", recipe=Recipe())
HOUR_S = 3600.0


@pytest.fixture
def ledger(fresh_postgres_url) -> Iterator[Ledger]:
    migrate(fresh_postgres_url)
    with closing(Ledger(fresh_postgres_url)) as ledger:
        ledger.add_job(JOB)
        yield ledger


@pytest.fixture(params=[-HOUR_S, HOUR_S], ids=["slow", "fast"])
def elsewhere(request, fresh_postgres_url, monkeypatch) -> Iterator[Ledger]:
    """The same ledger from a machine whose clock is an hour off."""
    wrong = time.time() + request.param
    monkeypatch.setattr(time, "time", lambda: wrong)
    with closing(Ledger(fresh_postgres_url)) as elsewhere:
        yield elsewhere


def stalled(ledger):
    return ledger.requeue_stalled(published_timeout_s=600, max_attempts=3).requeued


def test_a_lease_holds_whoever_asks(ledger, elsewhere):
    ledger.add_photos(JOB.id, [Candidate("a.jpg", 1), Candidate("b.jpg", 1)])
    for photo, owner in zip(ledger.photos(JOB.id), (ledger, elsewhere), strict=True):
        claim = owner.claim(photo.id, worker="w", lease_s=60)
        owner.renew(claim, lease_s=60)
    assert stalled(ledger) == stalled(elsewhere) == 0


def test_a_lease_ends_for_everybody(ledger, elsewhere):
    ledger.add_photos(JOB.id, [Candidate("a.jpg", 1)])
    [photo] = ledger.photos(JOB.id)
    elsewhere.claim(photo.id, worker="w", lease_s=0)
    assert stalled(ledger) == 1


def test_what_was_entered_elsewhere_can_be_published_and_claimed_at_once(ledger, elsewhere):
    elsewhere.add_photos(JOB.id, [Candidate("a.jpg", 1)])
    [ref] = ledger.publish_next(1)
    assert stalled(elsewhere) == 0
    claim = elsewhere.claim(ref.id, worker="w", lease_s=60)
    elsewhere.release(claim, after_s=0)
    assert ledger.claim(ref.id, worker="w", lease_s=60) is not None


def test_a_photo_waits_for_its_next_try_by_one_clock(ledger, elsewhere):
    ledger.add_photos(JOB.id, [Candidate("a.jpg", 1)])
    [photo] = ledger.photos(JOB.id)
    ledger.release(ledger.claim(photo.id, worker="w", lease_s=60), after_s=60)
    assert elsewhere.publish_next(1) == []
    assert elsewhere.claim(photo.id, worker="w", lease_s=60) is None
    assert ledger.counts(JOB.id).by_state == {PhotoState.PENDING: 1}
