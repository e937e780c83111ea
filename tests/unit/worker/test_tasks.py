import json
from queue import SimpleQueue
from threading import Event, Thread
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.exceptions import Reject
from celery.worker import state

from gpen_engine import CheckpointCorrupt, OutOfMemory
from jobs.errors import ClaimLost, DatabaseUnavailable, StoreFull, StoreUnavailable
from jobs.schema import Claim, PhotoState
from worker.company import Company
from worker.heap import Heap
from worker.lease import Leases
from worker.tasks import handle, register

SOON_S = 10.0
A_WHILE_S = 0.2


@pytest.fixture(autouse=True)
def running_worker(monkeypatch):
    monkeypatch.setattr(state, "should_stop", None)


def message(photo_id):
    return {"version": 1, "photo_id": photo_id}


def only_photo(bench):
    (photo,) = bench.runtime.ledger.photos(bench.job.id)
    return photo


def test_a_message_delivers_its_photo(bench, picture):
    ids = bench.submit({"a.png": picture})
    assert handle(message(ids["a.png"]), bench.runtime) == "done"
    photo = only_photo(bench)
    assert photo.state is PhotoState.DONE
    assert photo.derivative_key == "a.restored.png"
    assert set(bench.derivatives.objects) == {"a.restored.png", "a.restored.png.json"}


def test_a_second_message_for_the_same_photo_ends_quietly(bench, picture):
    ids = bench.submit({"a.png": picture})
    handle(message(ids["a.png"]), bench.runtime)
    assert handle(message(ids["a.png"]), bench.runtime) == "taken"
    assert bench.engine.calls == 1


def test_a_photo_that_another_worker_holds_is_left_alone(bench, picture):
    ids = bench.submit({"a.png": picture})
    bench.runtime.ledger.claim(ids["a.png"], worker="other", lease_s=60)
    assert handle(message(ids["a.png"]), bench.runtime) == "taken"
    assert bench.engine.calls == 0


@pytest.mark.parametrize(
    "nonsense", [{}, {"photo_id": "x"}, {"version": 99, "photo_id": 1}, {"photo_id": 1, "cmd": "x"}]
)
def test_a_message_that_makes_no_sense_touches_nothing(bench, picture, nonsense):
    bench.submit({"a.png": picture})
    assert handle(nonsense, bench.runtime) == "unreadable"
    assert only_photo(bench).state is PhotoState.PENDING


def test_a_corrupt_photo_fails_with_stage_code_and_advice(bench):
    ids = bench.submit({"a.jpg": b"this is no picture"})
    assert handle(message(ids["a.jpg"]), bench.runtime) == "failed"
    failure = only_photo(bench).failure
    assert failure.code == "photo.unsupported"
    assert failure.stage == "decode"
    assert failure.advice
    assert not bench.derivatives.objects


def test_a_store_that_is_away_costs_no_attempt_and_the_photo_waits(bench, picture):
    ids = bench.submit({"a.png": picture})
    bench.engine.errors.append(StoreUnavailable("away"))
    assert handle(message(ids["a.png"]), bench.runtime) == "retry"
    photo = only_photo(bench)
    assert (photo.state, photo.attempts, photo.outages) == (PhotoState.PENDING, 0, 1)
    assert handle(message(ids["a.png"]), bench.runtime) == "taken"
    bench.clock.advance(600)
    assert handle(message(ids["a.png"]), bench.runtime) == "done"


def test_attempts_are_capped(bench, picture):
    ids = bench.submit({"a.png": picture})
    bench.engine.errors += [ZeroDivisionError("bug")] * 9
    results = []
    for _ in range(5):
        results.append(handle(message(ids["a.png"]), bench.runtime))
        bench.clock.advance(3600)
    assert results == ["retry", "retry", "failed", "taken", "taken"]
    assert only_photo(bench).failure.code == "photo.unexpected"


def test_a_crash_after_ten_outages_is_the_first(bench, picture):
    ids = bench.submit({"a.png": picture})
    ledger = bench.runtime.ledger
    bench.engine.errors += [StoreUnavailable("away")] * 10
    for _ in range(10):
        assert handle(message(ids["a.png"]), bench.runtime) == "retry"
        bench.clock.advance(3600)
    ledger.claim(ids["a.png"], worker="w1", lease_s=60)
    ledger.requeue_lost("w1", max_attempts=2)
    assert only_photo(bench).attempts == 1
    assert handle(message(ids["a.png"]), bench.runtime) == "done"


def test_a_store_that_stays_away_fails_the_photo_with_its_code_after_twelve_tries(bench, picture):
    ids = bench.submit({"a.png": picture})
    bench.engine.errors += [StoreUnavailable("away")] * 12
    results = []
    for _ in range(12):
        results.append(handle(message(ids["a.png"]), bench.runtime))
        bench.clock.advance(3600)
    assert results == ["retry"] * 11 + ["failed"]
    failure = only_photo(bench).failure
    assert (failure.code, failure.attempts) == ("store.unavailable", 12)
    bench.runtime.ledger.retry(bench.job.id)
    assert handle(message(ids["a.png"]), bench.runtime) == "done"


def test_a_photo_without_memory_goes_to_the_larger_classes_and_fails_in_the_largest(bench, picture):
    ids = bench.submit({"a.png": picture})
    bench.engine.errors += [OutOfMemory("no room")] * 5
    went = []
    for _ in range(5):
        handle(message(ids["a.png"]), bench.runtime)
        photo = only_photo(bench)
        went.append((photo.memory_class, photo.attempts, photo.state))
        bench.clock.advance(3600)
    assert went == [
        ("medium", 0, "pending"),
        ("large", 0, "pending"),
        ("large", 1, "pending"),
        ("large", 2, "pending"),
        ("large", 3, "failed"),
    ]
    assert only_photo(bench).failure.code == "device.out_of_memory"


def test_bad_weights_stop_the_worker_and_leave_the_photo_unclaimed(bench, picture):
    ids = bench.submit({"a.png": picture})
    bench.engine.errors.append(CheckpointCorrupt("gone"))
    assert handle(message(ids["a.png"]), bench.runtime) == "stopped"
    photo = only_photo(bench)
    assert (photo.state, photo.attempts) == (PhotoState.PENDING, 0)
    assert state.should_stop == 5


def test_a_claim_lost_while_working_leaves_the_photo_to_the_other_worker(bench, picture):
    ids = bench.submit({"a.png": picture})
    ledger = bench.runtime.ledger

    class Slow:
        identity = bench.engine.identity

        def restore(self, image, treatment, *, protected, colour):
            bench.clock.advance(61)
            ledger.requeue_stalled(published_timeout_s=900, max_attempts=3)
            assert isinstance(ledger.claim(ids["a.png"], worker="other", lease_s=60), Claim)
            return bench.engine.restore(image, treatment, protected=protected)

    bench.runtime.engine = Slow()
    assert handle(message(ids["a.png"]), bench.runtime) == "lost"
    assert only_photo(bench).state is PhotoState.CLAIMED


def test_a_claim_lost_while_recording_an_error_is_not_an_error(bench, picture, monkeypatch):
    ids = bench.submit({"a.png": picture})
    bench.engine.errors.append(StoreUnavailable("away"))

    def lost(*_args, **_more):
        raise ClaimLost("lost")

    monkeypatch.setattr(bench.runtime.ledger, "release", lost)
    assert handle(message(ids["a.png"]), bench.runtime) == "lost"


def away_for(monkeypatch, ledger, method, times):
    """Let a method of the ledger find its database away so many times; return the waits."""
    works, waits = getattr(ledger, method), []

    def sometimes(*args, **more):
        if len(waits) < times:
            raise DatabaseUnavailable("away")
        return works(*args, **more)

    monkeypatch.setattr(ledger, method, sometimes)
    monkeypatch.setattr("worker.patience.time", SimpleNamespace(sleep=waits.append))
    return waits


@pytest.mark.parametrize("method", ["claim", "succeed"])
def test_a_database_that_is_away_is_waited_for_and_costs_nothing(
    bench, picture, monkeypatch, method
):
    ids = bench.submit({"a.png": picture})
    waits = away_for(monkeypatch, bench.runtime.ledger, method, 20)
    assert handle(message(ids["a.png"]), bench.runtime) == "done"
    assert only_photo(bench).attempts == 1
    assert waits[0] < waits[3] < waits[-1] <= 15


def test_a_failure_is_recorded_when_the_database_is_back(bench, monkeypatch):
    ids = bench.submit({"a.jpg": b"this is no picture"})
    away_for(monkeypatch, bench.runtime.ledger, "fail", 3)
    assert handle(message(ids["a.jpg"]), bench.runtime) == "failed"
    assert only_photo(bench).state is PhotoState.FAILED


def test_a_worker_that_ends_sends_the_message_back_where_the_database_is_away(bench, monkeypatch):
    def away(*_args, **_more):
        state.should_stop = 0
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(bench.runtime.ledger, "claim", away)
    task = register(Celery(set_as_current=False), bench.runtime)
    with pytest.raises(Reject) as refusal:
        task(message(1))
    assert refusal.value.requeue is True


def test_a_ledger_without_room_stops_the_worker_and_sends_the_message_back(bench, monkeypatch):
    def full(*_args, **_more):
        raise StoreFull("no room")

    monkeypatch.setattr(bench.runtime.ledger, "claim", full)
    task = register(Celery(set_as_current=False), bench.runtime)
    with pytest.raises(Reject) as refusal:
        task(message(1))
    assert refusal.value.requeue is True
    assert state.should_stop == 5


def test_a_worker_that_was_told_to_stop_begins_no_other_photo(bench, picture, monkeypatch):
    ids = bench.submit({"a.png": picture})
    monkeypatch.setattr(state, "should_stop", 0)
    task = register(Celery(set_as_current=False), bench.runtime)
    with pytest.raises(Reject) as refusal:
        task(message(ids["a.png"]))
    assert refusal.value.requeue is True
    assert only_photo(bench).state is PhotoState.PENDING


def test_the_sidecar_names_worker_and_attempt(bench, picture):
    ids = bench.submit({"a.png": picture})
    bench.engine.errors.append(StoreUnavailable("away"))
    handle(message(ids["a.png"]), bench.runtime)
    bench.clock.advance(600)
    handle(message(ids["a.png"]), bench.runtime)
    sidecar = json.loads(bench.derivatives.objects["a.restored.png.json"])
    assert (sidecar["worker"], sidecar["attempt"]) == ("w1", 2)


def test_a_worker_whose_grace_is_over_begins_no_other_stage(bench, picture):
    ids = bench.submit({"a.png": picture})
    gone = Event()
    bench.runtime.ending.watch(lambda: 0, leave=lambda _code: gone.set())
    bench.runtime.ending.end(0, now=True)
    assert gone.wait(10)
    assert handle(message(ids["a.png"]), bench.runtime) == "lost"
    assert bench.engine.calls == 0


def test_memory_that_a_photo_took_goes_back_to_the_system_when_it_ends(bench, picture, monkeypatch):
    ended = []
    monkeypatch.setattr(Heap, "trim", lambda _: ended.append(only_photo(bench).state))
    ids = bench.submit({"a.png": picture})
    register(Celery(set_as_current=False), bench.runtime)(message(ids["a.png"]))
    assert ended == [PhotoState.DONE]


def test_a_claim_whose_answer_was_lost_is_no_attempt_gone(bench, picture, monkeypatch):
    ids = bench.submit({"a.png": picture})
    ledger, asked = bench.runtime.ledger, []
    claim = ledger.claim

    def unheard(*args, **more):
        asked.append(claim(*args, **more))
        if len(asked) == 1:
            raise DatabaseUnavailable("the connection broke after the commit")
        return asked[-1]

    monkeypatch.setattr(ledger, "claim", unheard)
    monkeypatch.setattr("worker.patience.time", SimpleNamespace(sleep=lambda _: None))
    assert handle(message(ids["a.png"]), bench.runtime) == "done"
    assert only_photo(bench).attempts == 1


@pytest.fixture
def last_attempt(bench, picture):
    """Return the message of a photo that has one attempt left."""
    ids = bench.submit({"a.png": picture})
    for _ in range(bench.runtime.settings.max_attempts - 1):
        bench.runtime.ledger.claim(ids["a.png"], worker="w0", lease_s=60)
        bench.runtime.ledger.requeue_lost("w0", max_attempts=9)
    return message(ids["a.png"])


class Lane:
    """Handles a message in a thread of its own."""

    def __init__(self, given, runtime):
        self._words = SimpleQueue()
        self._thread = Thread(target=self._work, args=(given, runtime))
        self._thread.start()

    def _work(self, given, runtime):
        try:
            self._words.put(handle(given, runtime))
        except Reject:
            self._words.put("sent back")

    def word(self):
        word = self._words.get(timeout=SOON_S)
        self._thread.join(SOON_S)
        return word

    def says_nothing(self):
        self._thread.join(A_WHILE_S)
        return self._words.empty()


@pytest.fixture
def released(bench, monkeypatch):
    """Return what is set once a photo was given back."""
    ledger, event = bench.runtime.ledger, Event()
    release = ledger.release

    def tell(*args, **more):
        release(*args, **more)
        event.set()

    monkeypatch.setattr(ledger, "release", tell)
    return event


def test_a_photo_has_the_worker_to_itself_at_its_last_attempt(bench, last_attempt):
    with bench.runtime.company.join():
        lane = Lane(last_attempt, bench.runtime)
        assert lane.says_nothing()
        assert bench.engine.calls == 0
    assert lane.word() == "done"
    assert only_photo(bench).attempts == 3


def test_a_photo_is_not_given_up_for_what_its_neighbour_did(bench, last_attempt, released):
    ledger = bench.runtime.ledger
    with bench.runtime.company.join():
        lane = Lane(last_attempt, bench.runtime)
        assert released.wait(SOON_S)
        ledger.requeue_lost("w1", max_attempts=3)  # as if the neighbour had killed the worker
        photo = only_photo(bench)
    assert (photo.state, photo.attempts) == (PhotoState.PENDING, 2)
    assert lane.word() == "done"


def test_a_photo_is_not_claimed_while_another_is_alone(bench, picture):
    ids = bench.submit({"a.png": picture})
    with bench.runtime.company.join_alone():
        lane = Lane(message(ids["a.png"]), bench.runtime)
        assert lane.says_nothing()
        assert only_photo(bench).state is PhotoState.PENDING
    assert lane.word() == "done"


def test_a_photo_that_cannot_be_alone_comes_again_later(bench, last_attempt):
    bench.runtime.company = Company(patience_s=0)
    with bench.runtime.company.join():
        assert handle(last_attempt, bench.runtime) == "later"
    assert handle(last_attempt, bench.runtime) == "taken"
    bench.clock.advance(60)
    assert handle(last_attempt, bench.runtime) == "done"
    assert only_photo(bench).attempts == 3


def test_a_lane_that_hangs_does_not_keep_a_last_attempt_waiting(bench, picture, last_attempt):
    runtime = bench.runtime
    runtime.company = Company(patience_s=SOON_S)
    hanging_leases = Leases(runtime.ledger, lease_s=0.3, longest_s=0)
    usual, runtime.leases = runtime.leases, hanging_leases
    restore, hangs, may_end = bench.engine.restore, Event(), Event()

    def hang(*args, **more):
        if not hangs.is_set():
            hangs.set()
            may_end.wait(3 * SOON_S)
        return restore(*args, **more)

    bench.engine.restore = hang
    hanging = Lane(message(bench.submit({"b.png": picture})["b.png"]), runtime)
    assert hangs.wait(SOON_S)
    runtime.leases = usual
    assert handle(last_attempt, runtime) == "done"
    may_end.set()
    assert hanging.word() == "lost"


def test_a_lane_that_waits_sends_its_message_back_when_the_worker_ends(bench, picture, monkeypatch):
    ids = bench.submit({"a.png": picture})
    with bench.runtime.company.join_alone():
        lane = Lane(message(ids["a.png"]), bench.runtime)
        assert lane.says_nothing()
        monkeypatch.setattr(state, "should_stop", 0)
        assert lane.word() == "sent back"
    assert only_photo(bench).attempts == 0
