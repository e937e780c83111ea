"""What the ledger promises to who works on photos, on SQLite and on PostgreSQL."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from sqlalchemy import Engine, event

from jobs.errors import ClaimLost, PhotoCrashesWorker
from jobs.ledger import Ledger, Stalled
from jobs.memory import MemoryClass
from jobs.schema import TRANSITIONS, PhotoState

# Claiming


def test_a_claim_says_all_that_a_worker_needs(album):
    album.add("a.jpg")
    claimed = album.claim(worker="two")
    assert (claimed.key, claimed.worker, claimed.attempt) == ("a.jpg", "two", 1)
    assert claimed.job == album.job
    assert album.state() is PhotoState.CLAIMED


def test_a_photo_can_be_claimed_once(album, ledger):
    album.add("a.jpg")
    ledger.publish_next(1)
    assert album.claim(worker="one") is not None
    assert album.claim(worker="two") is None


def test_of_many_workers_that_want_one_photo_one_gets_it(url, album, clock):
    album.add("a.jpg")
    photo_id = album.photo().id
    workers = [Ledger(url, clock=clock) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        claims = threads.map(lambda mine: mine.claim(photo_id, worker="w", lease_s=1), workers)
        won = [claimed for claimed in claims if claimed is not None]
    for mine in workers:
        mine.close()
    assert len(won) == 1
    assert album.photo().attempts == 1


def test_a_claim_does_not_wait_for_the_disk_and_what_came_of_it_does(album, url):
    album.add("a.jpg")
    with watching("SET LOCAL synchronous_commit") as said:
        claimed = album.claim()
        assert len(said) == (1 if url.startswith("postgresql") else 0)
        album.succeed(claimed)
        assert len(said) == (1 if url.startswith("postgresql") else 0)
    assert album.state() is PhotoState.DONE


@contextmanager
def watching(words):
    """Collect the statements that begin with these words."""
    said = []

    def look(_connection, _cursor, statement, *_):
        said.extend([statement] if statement.startswith(words) else [])

    event.listen(Engine, "before_cursor_execute", look)
    yield said
    event.remove(Engine, "before_cursor_execute", look)


def test_a_claim_whose_answer_was_lost_is_had_again_by_its_token(album, ledger, clock):
    album.add("a.jpg")
    photo_id = album.photo().id
    first = ledger.claim(photo_id, worker="one", lease_s=60, token="mine")
    clock.advance(40)
    assert ledger.claim(photo_id, worker="one", lease_s=60, token="mine") == first
    assert ledger.claim(photo_id, worker="two", lease_s=60, token="another") is None
    clock.advance(40)
    assert album.requeue_stalled() == Stalled(requeued=0, crashed=0)
    assert album.photo().attempts == 1


def test_a_claim_that_is_over_is_not_had_again_by_its_token(album, ledger):
    album.add("a.jpg")
    photo_id = album.photo().id
    album.succeed(ledger.claim(photo_id, worker="one", lease_s=60, token="mine"))
    assert ledger.claim(photo_id, worker="one", lease_s=60, token="mine") is None


def test_a_photo_that_nobody_knows_cannot_be_claimed(ledger):
    assert ledger.claim(12345, worker="one", lease_s=1) is None


def test_an_early_message_does_not_cut_the_wait_for_the_next_try_short(album, ledger, clock):
    album.add("a.jpg")
    ledger.release(album.claim(), after_s=30)
    assert album.claim() is None
    clock.advance(30)
    assert album.claim().attempt == 2


def test_a_finished_photo_is_never_claimed_again(album):
    album.add("a.jpg", "b.jpg")
    album.succeed(album.claim("a.jpg"))
    album.fail(album.claim("b.jpg"))
    assert album.claim("a.jpg") is None
    assert album.claim("b.jpg") is None


# Finishing


def test_a_delivered_photo_says_where_its_derivative_is(album):
    album.add("a.jpg")
    album.succeed(album.claim())
    done = album.photo()
    assert done.state is PhotoState.DONE
    assert (done.derivative_key, done.sidecar_key) == ("a.restored.png", "a.restored.png.json")
    assert (done.faces, done.faces_restored, done.elapsed_s) == (3, 2, 1.5)
    assert done.failure is None


def test_a_failed_photo_says_why_and_what_to_do(album, ledger):
    album.add("a.jpg")
    album.fail(album.claim())
    [failure] = ledger.failures(album.job.id)
    assert album.photo().failure == failure
    assert (failure.key, failure.code, failure.stage) == ("a.jpg", "photo.corrupt", "decode")
    assert (failure.message, failure.advice, failure.attempts) == ("it is broken", "mend it", 1)


def test_any_text_can_be_the_message_of_a_failure(album, ledger):
    album.add("a.jpg")
    ledger.fail(album.claim(), code="x", message="\0\udce9" + "é" * 9999, advice="", stage="put")
    [failure] = ledger.failures(album.job.id)
    assert failure.message.startswith("\\x00\\udce9éé")
    assert len(failure.message) <= 2000


def test_failures_come_by_key_and_as_many_as_asked(album, ledger):
    album.add("c.jpg", "a.jpg", "b.jpg")
    for key in ("c.jpg", "b.jpg", "a.jpg"):
        album.fail(album.claim(key))
    assert [failure.key for failure in ledger.failures(album.job.id, limit=2)] == ["a.jpg", "b.jpg"]
    assert len(list(ledger.failures(album.job.id))) == 3


def test_a_released_attempt_counts_unless_it_was_given_back(album, ledger):
    album.add("a.jpg")
    ledger.release(album.claim(), after_s=0)
    assert album.photo().attempts == 1
    ledger.release(album.claim(), after_s=0, counted=False)
    assert album.photo().attempts == 1


def test_an_outage_is_no_attempt_and_is_counted_apart(album, ledger):
    album.add("a.jpg")
    ledger.release(album.claim(), after_s=0)
    ledger.release(album.claim(), after_s=0, outage=True)
    assert (album.photo().attempts, album.photo().outages) == (1, 1)
    claimed = album.claim()
    assert (claimed.attempt, claimed.outages, claimed.tries) == (2, 1, 3)


def test_a_crash_after_outages_is_not_the_last_attempt(album, ledger):
    album.add("a.jpg")
    for _ in range(5):
        ledger.release(album.claim(), after_s=0, outage=True)
    album.claim(worker="dead")
    assert ledger.requeue_lost("dead", max_attempts=2) == Stalled(requeued=1, crashed=0)
    assert album.photo().attempts == 1


def test_a_failure_tells_of_all_tries_and_a_retry_forgets_them(album, ledger):
    album.add("a.jpg")
    ledger.release(album.claim(), after_s=0, outage=True)
    album.fail(album.claim())
    [failure] = ledger.failures(album.job.id)
    assert failure.attempts == 2
    ledger.retry(album.job.id)
    assert (album.photo().attempts, album.photo().outages) == (0, 0)


def test_a_photo_that_needs_more_memory_is_published_in_the_larger_class(album, ledger):
    album.add("a.jpg")
    assert album.claim().memory_class is MemoryClass.SMALL
    ledger.requeue_lost("one", max_attempts=3)
    ledger.release(album.claim(), after_s=0, counted=False, memory_class=MemoryClass.LARGE)
    [ref] = ledger.publish_next(1)
    assert ref.memory_class is MemoryClass.LARGE


def lose_to_another(album, clock):
    """Let worker one's lease run out and worker two take the photo."""
    lost = album.claim(worker="one")
    clock.advance(album.lease_s)
    album.requeue_stalled()
    assert album.claim(worker="two") is not None
    return lost


@pytest.mark.parametrize(
    "finish",
    [
        lambda album, claimed: album.ledger.renew(claimed, lease_s=1),
        lambda album, claimed: album.succeed(claimed),
        lambda album, claimed: album.fail(claimed),
        lambda album, claimed: album.ledger.release(claimed, after_s=0),
    ],
    ids=["renew", "succeed", "fail", "release"],
)
def test_a_worker_that_lost_its_claim_changes_nothing(album, clock, finish):
    album.add("a.jpg")
    lost = lose_to_another(album, clock)
    before = album.photo()
    with pytest.raises(ClaimLost, match="one"):
        finish(album, lost)
    assert album.photo() == before


def test_a_photo_is_finished_once(album):
    album.add("a.jpg")
    claimed = album.claim()
    album.succeed(claimed)
    with pytest.raises(ClaimLost):
        album.fail(claimed)
    assert album.state() is PhotoState.DONE


# Recovering


def test_a_photo_is_taken_back_when_its_lease_runs_out_and_not_before(album, clock):
    album.add("a.jpg")
    album.claim()
    clock.advance(album.lease_s - 1)
    assert album.requeue_stalled() == Stalled(requeued=0, crashed=0)
    clock.advance(1)
    assert album.requeue_stalled() == Stalled(requeued=1, crashed=0)
    assert album.claim().attempt == 2


def test_a_renewed_lease_keeps_the_photo(album, ledger, clock):
    album.add("a.jpg")
    claimed = album.claim()
    clock.advance(album.lease_s - 1)
    ledger.renew(claimed, lease_s=album.lease_s)
    clock.advance(album.lease_s - 1)
    assert album.requeue_stalled().requeued == 0
    album.succeed(claimed)


def test_a_photo_that_crashes_every_worker_is_given_up(album, ledger, clock):
    album.add("a.jpg")
    for _ in range(2):
        album.claim()
        clock.advance(album.lease_s)
        album.requeue_stalled()
    album.claim()
    clock.advance(album.lease_s)
    assert album.requeue_stalled() == Stalled(requeued=0, crashed=1)
    [failure] = ledger.failures(album.job.id)
    assert (failure.code, failure.attempts) == (PhotoCrashesWorker.code, 3)
    assert failure.advice == PhotoCrashesWorker.advice


def test_a_message_that_nobody_answers_is_sent_again(album, ledger, clock):
    album.add("a.jpg")
    ledger.publish_next(1)
    clock.advance(599)
    assert album.requeue_stalled().requeued == 0
    clock.advance(1)
    assert album.requeue_stalled().requeued == 1
    assert [ref.key for ref in ledger.publish_next(1)] == ["a.jpg"]


def test_what_a_dead_worker_held_is_taken_back_at_once(album, ledger):
    album.add("a.jpg", "b.jpg", "c.jpg")
    album.claim("a.jpg", worker="dead")
    album.claim("b.jpg", worker="alive")
    album.succeed(album.claim("c.jpg", worker="dead"))
    assert ledger.requeue_lost("dead", max_attempts=3) == Stalled(requeued=1, crashed=0)
    assert album.state("a.jpg") is PhotoState.PENDING
    assert album.state("b.jpg") is PhotoState.CLAIMED
    assert album.state("c.jpg") is PhotoState.DONE


def test_a_dead_worker_uses_up_attempts_too(album, ledger):
    album.add("a.jpg")
    album.claim(worker="dead")
    assert ledger.requeue_lost("dead", max_attempts=1) == Stalled(requeued=0, crashed=1)
    assert album.state() is PhotoState.FAILED


def test_what_a_worker_held_that_was_stopped_in_order_counts_as_never_tried(album, ledger):
    album.add("a.jpg", "b.jpg")
    album.claim("a.jpg", worker="stopped")
    album.claim("b.jpg", worker="other")
    assert ledger.give_back("stopped") == 1
    assert album.state("a.jpg") is PhotoState.PENDING
    assert album.photo("a.jpg").attempts == 0
    assert album.state("b.jpg") is PhotoState.CLAIMED


def test_a_retried_photo_starts_afresh(album, ledger):
    album.add("a.jpg")
    album.fail(album.claim())
    assert ledger.retry(album.job.id) == 1
    again = album.photo()
    assert (again.state, again.attempts, again.failure) == (PhotoState.PENDING, 0, None)
    assert album.claim().attempt == 1


def test_only_the_failures_with_the_given_code_are_retried(album, letters, ledger):
    album.add("a.jpg", "b.jpg")
    letters.add("a.jpg")
    album.fail(album.claim("a.jpg"), code="store.full")
    album.fail(album.claim("b.jpg"), code="photo.empty")
    album.fail(ledger.claim(letters.photo().id, worker="w", lease_s=1), "store.full")
    assert ledger.retry(album.job.id, code="store.full") == 1
    assert album.state("a.jpg") is PhotoState.PENDING
    assert album.state("b.jpg") is PhotoState.FAILED
    assert letters.photo().state is PhotoState.FAILED


def test_nothing_ever_leaves_the_diagram_of_states(album, ledger, clock):
    """A long random walk: each photo only ever goes where TRANSITIONS allows it to."""
    album.add(*(f"{number}.jpg" for number in range(6)))
    chance = random.Random(7)  # noqa: S311 - a walk, not a secret
    claims = []
    operations = [
        lambda: ledger.publish_next(2),
        lambda: claims.append(album.claim(f"{chance.randrange(6)}.jpg")),
        lambda: album.succeed(claims.pop()),
        lambda: album.fail(claims.pop()),
        lambda: ledger.release(claims.pop(), after_s=5),
        lambda: clock.advance(40),
        lambda: album.requeue_stalled(max_attempts=2),
        lambda: ledger.requeue_lost("one", max_attempts=3),
        ledger.unpublish,
        lambda: ledger.retry(album.job.id),
    ]
    seen = set()
    for _ in range(250):
        before = {photo.key: photo.state for photo in ledger.photos(album.job.id)}
        with suppress(ClaimLost, IndexError):  # a claim taken back, or none to finish
            chance.choice(operations)()
        claims = [claimed for claimed in claims if claimed is not None]
        for after in ledger.photos(album.job.id):
            step = (before[after.key], after.state)
            if step[0] is not step[1]:
                assert step[1] in TRANSITIONS[step[0]]
                seen.add(step)
    assert len(seen) >= 6


def test_a_method_cannot_take_a_photo_where_the_table_does_not_let_it(album, monkeypatch):
    album.add("a.jpg")
    monkeypatch.setitem(TRANSITIONS, PhotoState.PENDING, {})
    with pytest.raises(ValueError, match="claim may not take a photo from pending to claimed"):
        album.claim()
    assert album.state() is PhotoState.PENDING
