"""The ledger driven at random: many claimers and dispatchers, clocks that go on, leases that end.

After each step every photo has to be where the table of transitions lets that very method take it,
and every tally has to be what its rows add up to.
"""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from jobs.database import Database
from jobs.errors import ClaimLost
from jobs.ledger import Ledger
from jobs.memory import MemoryClass
from jobs.migrate import migrate
from jobs.recipe import Recipe
from jobs.schema import TRANSITIONS, Candidate, Job, Outcome, PhotoState
from jobs.testing import FakeClock

CAP = 2
LEASE_S = 60
PUBLISHED_TIMEOUT_S = 90
KEYS = [f"{number}.jpg" for number in range(3)]
JOBS = [Job(name, f"/{name}", "/out", Recipe()) for name in ("album", "letters")]
WORKERS = ("one", "two", "three")
CODES = ("store.full", "photo.corrupt")


def empty(url):
    with closing(Database(url)) as database, database.begin() as connection:
        for table in ("tallies", "photos", "jobs"):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - from above


class LedgerMachine(RuleBasedStateMachine):
    """Two jobs of three photos, two ledgers whose clocks differ by a few seconds."""

    def __init__(self, url):
        super().__init__()
        empty(url)
        self.clocks = [FakeClock(), FakeClock(1_000_007.0)]
        self.ledgers = [Ledger(url, clock=clock) for clock in self.clocks]
        self.claims = []
        self.holders = {}
        self.resting = set()
        self.photos = {}

    def teardown(self):
        for ledger in self.ledgers:
            ledger.close()

    @initialize()
    def enter(self):
        for job in JOBS:
            self.ledgers[0].add_job(job)
            self.ledgers[0].add_photos(job.id, [Candidate(key, 100) for key in KEYS])
        self.photos = self.look()

    def look(self):
        return {
            photo.id: (job.id, photo) for job in JOBS for photo in self.ledgers[0].photos(job.id)
        }

    def after(self, method):
        """Hold what happened against the table; forget the holders of photos that were taken."""
        now = self.look()
        for photo_id, (_, photo) in now.items():
            before = self.photos[photo_id][1].state
            if photo.state is not before:
                assert method in TRANSITIONS[before].get(photo.state, ()), (method, before, photo)
            if photo.state is not PhotoState.CLAIMED:
                self.holders.pop(photo_id, None)
        self.photos = now

    def one_of_the_claims(self, chosen):
        """Prefer those that hold; but many a worker speaks up after it lost its photo."""
        live = [each for each in self.claims if self.holders.get(each.photo_id) == each.token]
        claims = live if live and chosen % 4 else self.claims
        return claims[chosen % len(claims)] if claims else None

    def finish(self, method, chosen, **arguments):
        """End a claim, which works if and only if the photo is still its own."""
        claim = self.one_of_the_claims(chosen)
        if claim is None:
            return
        mine = self.holders.get(claim.photo_id) == claim.token
        try:
            getattr(self.ledgers[chosen % 2], method)(claim, **arguments)
        except ClaimLost:
            assert not mine
        else:
            assert mine
        self.after(method)

    @rule(seconds=st.sampled_from([1, 70, 100]))
    def time_goes_on(self, seconds):
        for clock in self.clocks:
            clock.advance(seconds)

    @rule(which=st.integers(0, 1), limit=st.integers(1, 4), job=st.sampled_from([None, *JOBS]))
    def publish(self, which, limit, job):
        refs = self.ledgers[which].publish_next(limit, job_id=job and job.id)
        assert len(refs) == len({ref.id for ref in refs}) <= limit
        assert not self.resting.intersection(self.photos[ref.id][0] for ref in refs)
        self.after("publish_next")

    @rule(which=st.integers(0, 1), chosen=st.integers(0, 5), worker=st.sampled_from(WORKERS))
    def claim(self, which, chosen, worker):
        photo_id = sorted(self.photos)[chosen]
        claim = self.ledgers[which].claim(photo_id, worker=worker, lease_s=LEASE_S)
        if claim is not None:
            assert photo_id not in self.holders
            assert self.photos[photo_id][0] not in self.resting
            assert claim.token not in {other.token for other in self.claims}
            self.holders[photo_id] = claim.token
            self.claims.append(claim)
        self.after("claim")

    @rule(chosen=st.integers(0, 20))
    def renew(self, chosen):
        self.finish("renew", chosen, lease_s=LEASE_S)

    @rule(chosen=st.integers(0, 20), faces=st.integers(0, 3))
    def succeed(self, chosen, faces):
        self.finish("succeed", chosen, outcome=Outcome("d", "s", faces, faces // 2, 0.1))

    @rule(chosen=st.integers(0, 20), code=st.sampled_from(CODES))
    def fail(self, chosen, code):
        self.finish("fail", chosen, code=code, message="", advice="", stage="put")

    @rule(
        chosen=st.integers(0, 20),
        after_s=st.integers(0, 90),
        counted=st.sampled_from([{}, {"counted": False}, {"outage": True}]),
        memory_class=st.sampled_from([None, *MemoryClass]),
    )
    def release(self, chosen, after_s, counted, memory_class):
        claim = self.one_of_the_claims(chosen)
        if claim is not None and (counted or claim.attempt < CAP):
            more = {"after_s": after_s, "memory_class": memory_class, **counted}
            self.finish("release", chosen, **more)

    @rule(which=st.integers(0, 1))
    def requeue_stalled(self, which):
        self.ledgers[which].requeue_stalled(
            published_timeout_s=PUBLISHED_TIMEOUT_S, max_attempts=CAP
        )
        self.after("requeue_stalled")

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_dies(self, worker):
        self.ledgers[0].requeue_lost(worker, max_attempts=CAP)
        self.after("requeue_lost")

    @rule(which=st.integers(0, 1), chosen=st.integers(0, 5), worker=st.sampled_from(WORKERS))
    def a_photo_kills_its_worker(self, which, chosen, worker):
        self.claim(which, chosen, worker)
        self.a_worker_dies(worker)

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_stops(self, worker):
        self.ledgers[0].give_back(worker)
        self.after("give_back")

    @rule()
    def the_broker_comes_back_empty(self):
        self.ledgers[1].unpublish()
        self.after("unpublish")

    @rule(job=st.sampled_from(JOBS), code=st.sampled_from([None, None, *CODES]))
    def retry(self, job, code):
        self.ledgers[0].retry(job.id, code=code)
        self.after("retry")

    @rule(job=st.sampled_from(JOBS), how=st.sampled_from(["resume", "resume", "pause", "cancel"]))
    def a_job_is_told(self, job, how):
        getattr(self.ledgers[1], how)(job.id)
        self.resting.discard(job.id)
        self.resting |= {job.id} if how != "resume" else set()
        self.after(how)

    @rule(job=st.sampled_from(JOBS), priority=st.integers(-1, 1))
    def a_job_gets_a_priority(self, job, priority):
        self.ledgers[0].set_priority(job.id, priority)
        self.after("set_priority")

    @rule()
    def withdraw(self):
        self.ledgers[1].withdraw()
        self.after("withdraw")
        published = [i for i, (_, p) in self.photos.items() if p.state is PhotoState.PUBLISHED]
        assert not self.resting.intersection(self.photos[i][0] for i in published)

    @invariant()
    def nobody_tries_more_often_than_allowed(self):
        assert all(0 <= photo.attempts <= CAP for _, photo in self.photos.values())

    @invariant()
    def the_holder_is_the_one_who_claimed_last(self):
        claimed = {i for i, (_, photo) in self.photos.items() if photo.state is PhotoState.CLAIMED}
        assert set(self.holders) == claimed

    @invariant()
    def tallies_are_what_the_rows_add_up_to(self):
        ledger = self.ledgers[0]
        assert ledger.miscounts() == []
        for job in JOBS:
            mine = [photo for owner, photo in self.photos.values() if owner == job.id]
            counts = ledger.counts(job.id)
            assert counts.by_state == Counter(photo.state for photo in mine)
            assert counts.faces == sum(photo.faces or 0 for photo in mine)
            assert counts.by_code == Counter(photo.failure.code for photo in mine if photo.failure)
            flying = counts.of(PhotoState.PUBLISHED, PhotoState.CLAIMED)
            assert ledger.in_flight(job.id) == flying


def test_whatever_happens_no_photo_is_lost_or_done_twice(url):
    migrate(url)
    run_state_machine_as_test(
        lambda: LedgerMachine(url),
        settings=settings(
            max_examples=12,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def live(ledger, seed):
    """Publish, claim, deliver or give back; now and then take back what others have in hand."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    if seed % 4 == 0:
        ledger.requeue_stalled(published_timeout_s=0.01, max_attempts=9)
        ledger.unpublish()
    claims = [
        ledger.claim(ref.id, worker="w", lease_s=chance.choice([0, 60]))
        for ref in ledger.publish_next(3)
    ]
    for claim in filter(None, claims):
        with suppress(ClaimLost):
            if chance.random() < 0.5:
                ledger.succeed(claim, Outcome("d", "s", 2, 1, 0.1))
            else:
                ledger.release(claim, after_s=0)


def test_many_at_once_neither_block_each_other_nor_miscount(url):
    migrate(url)
    with closing(Ledger(url)) as ledger:
        for job in JOBS:
            ledger.add_job(job)
            ledger.add_photos(job.id, [Candidate(f"{number}.jpg", 1) for number in range(20)])
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(partial(live, ledger), range(60)))
        assert ledger.miscounts() == []
        counts = [ledger.counts(job.id) for job in JOBS]
    assert sum(each.total for each in counts) == 40
    assert sum(each.of(PhotoState.DONE) for each in counts) > 0
