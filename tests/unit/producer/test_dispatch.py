import os
import signal
import time
from datetime import datetime
from typing import ClassVar
from zoneinfo import ZoneInfo

import pytest

from jobs.errors import BrokerUnavailable, DatabaseUnavailable, PhotoCrashesWorker
from jobs.hours import Hours
from jobs.memory import MemoryClass
from jobs.schema import Candidate, Outcome, PhotoState
from producer.dispatch import Dispatcher, Pass, serve
from producer.stop import StopRequest


class FakeBroker:
    """Remembers the keys it was given; may be switched off, or emptied without a word."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.up = True
        self._kept_all = True

    def empty(self) -> None:
        self.keys = []
        self._kept_all = False

    def recognize(self) -> bool:
        kept_all, self._kept_all = self._kept_all, True
        return kept_all

    def waiting(self) -> dict[MemoryClass, int]:
        return {MemoryClass.SMALL: len(self.keys)}

    def publish(self, refs) -> None:
        if not self.up:
            raise BrokerUnavailable("nobody there")
        self.keys += [ref.key for ref in refs]


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def job(ledger, make_job):
    entered = make_job()
    ledger.add_job(entered)
    ledger.add_photos(entered.id, [Candidate(f"{number}.jpg", 1) for number in range(5)])
    return entered


@pytest.fixture
def dispatcher(ledger, broker) -> Dispatcher:
    return Dispatcher(
        ledger=ledger,
        publish=broker.publish,
        recognize=broker.recognize,
        window=2,
        max_attempts=2,
        published_timeout_s=60,
    )


def finish(ledger, photo) -> None:
    claim = ledger.claim(photo.id, worker="w", lease_s=10)
    ledger.succeed(claim, Outcome("d", "s", 0, 0, 0.1))


@pytest.mark.usefixtures("job")
def test_a_pass_publishes_no_more_than_the_window(dispatcher, broker):
    assert dispatcher.step() == Pass(published=2, requeued=0, crashed=0)
    assert broker.keys == ["0.jpg", "1.jpg"]


@pytest.mark.usefixtures("job")
def test_a_full_window_publishes_nothing(dispatcher, broker):
    dispatcher.step()
    assert dispatcher.step().published == 0
    assert len(broker.keys) == 2


def test_a_photo_in_work_takes_its_place_in_the_window(dispatcher, ledger, job):
    dispatcher.step()
    first = next(ledger.photos(job.id, state=PhotoState.PUBLISHED))
    ledger.claim(first.id, worker="w", lease_s=10)
    assert dispatcher.step().published == 0


def test_what_is_finished_makes_room(dispatcher, ledger, broker, job):
    dispatcher.step()
    finish(ledger, next(ledger.photos(job.id, state=PhotoState.PUBLISHED)))
    assert dispatcher.step().published == 1
    assert broker.keys == ["0.jpg", "1.jpg", "2.jpg"]


@pytest.mark.usefixtures("job")
def test_a_message_that_no_worker_has_taken_takes_its_place_even_if_its_photo_is_back(
    ledger, broker, clock
):
    dispatcher = Dispatcher(
        ledger=ledger,
        publish=broker.publish,
        waiting=broker.waiting,
        window=2,
        max_attempts=2,
        published_timeout_s=60,
    )
    for _ in range(3):
        dispatcher.step()
        clock.advance(61)
    assert broker.keys == ["0.jpg", "1.jpg"]


SIZES = {MemoryClass.SMALL: 1000, MemoryClass.MEDIUM: 4 * 10**7, MemoryClass.LARGE: 10**12}


def enter(ledger, job, number, classes=tuple(MemoryClass), priority=0):
    ledger.add_job(job, priority=priority)
    ledger.add_photos(
        job.id,
        [Candidate(f"{each}{i:03}.jpg", SIZES[each]) for each in classes for i in range(number)],
    )


def finish_some(ledger, job, memory_class, number) -> None:
    published = ledger.photos(job.id, state=PhotoState.PUBLISHED)
    mine = [photo for photo in published if photo.memory_class is memory_class]
    for photo in mine[:number]:
        finish(ledger, photo)


def in_flight(ledger) -> tuple[int, ...]:
    return tuple(ledger.in_flight_by_class().values())


def test_no_memory_class_takes_what_is_kept_for_the_others(ledger, broker, make_job):
    job = make_job()
    enter(ledger, job, 60)
    dispatcher = Dispatcher(ledger=ledger, publish=broker.publish, window=40, max_attempts=2)
    dispatcher.step()
    assert in_flight(ledger) == (32, 4, 4)
    for numbers in ((8, 0, 0), (0, 4, 0), (15, 1, 3)):
        for memory_class, number in zip(MemoryClass, numbers, strict=True):
            finish_some(ledger, job, memory_class, number)
        dispatcher.step()
        assert in_flight(ledger) == (32, 4, 4)
    finish_some(ledger, job, MemoryClass.SMALL, 32)  # 5 of these are left
    dispatcher.step()
    assert in_flight(ledger) == (5, 31, 4)


@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("memory_class", MemoryClass)
def test_a_window_that_is_too_small_to_be_shared_still_lets_photos_out(
    ledger, broker, make_job, window, memory_class
):
    enter(ledger, make_job(), 5, classes=[memory_class])
    Dispatcher(ledger=ledger, publish=broker.publish, window=window, max_attempts=2).step()
    assert 1 <= len(broker.keys) <= window


def test_urgent_photos_have_places_beyond_a_window_that_others_fill(ledger, broker, make_job):
    dispatcher = Dispatcher(ledger=ledger, publish=broker.publish, window=20, max_attempts=2)
    usual, urgent = make_job(name="usual"), make_job(name="urgent", source="/urgent")
    enter(ledger, usual, 30, classes=[MemoryClass.SMALL])
    assert dispatcher.step().published == 16
    assert dispatcher.step().published == 0
    enter(ledger, urgent, 30, classes=[MemoryClass.SMALL], priority=5)
    assert dispatcher.step().published == 2
    assert dispatcher.step().published == 0
    assert ledger.in_flight(urgent.id) == 2
    enter(ledger, make_job(name="other", source="/other"), 9, classes=[MemoryClass.LARGE])
    assert dispatcher.step().published == 2  # what was kept for them
    finish_some(ledger, urgent, MemoryClass.SMALL, 1)
    assert dispatcher.step().published == 1
    assert ledger.in_flight(urgent.id) == 2


@pytest.mark.parametrize("rest", ["pause", "cancel"])
def test_what_is_published_of_a_job_that_rests_is_taken_back(dispatcher, ledger, job, rest):
    dispatcher.step()
    ledger.claim(next(ledger.photos(job.id)).id, worker="w", lease_s=60)
    getattr(ledger, rest)(job.id)
    assert dispatcher.step().published == 0
    assert ledger.counts(job.id).by_state == {PhotoState.PENDING: 4, PhotoState.CLAIMED: 1}
    ledger.resume(job.id)
    assert dispatcher.step().published == 1


def test_a_job_starts_and_drains_by_the_clock(dispatcher, ledger, job, clock, midnight):
    ledger.set_hours(job.id, Hours.parse("22:00-06:00"))
    for hour, flying in ((21, 0), (22, 2), (29, 2), (30, 0), (45, 0), (46, 2)):
        clock.now = midnight + 3600 * hour
        dispatcher.step()
        assert ledger.in_flight(job.id) == flying, hour


@pytest.fixture
def midnight(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield datetime(2026, 11, 3, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    monkeypatch.undo()
    time.tzset()


def test_a_photo_is_committed_as_published_before_its_message_is_sent(ledger, job):
    states = []

    def look(refs) -> None:
        states.extend(photo.state for photo in ledger.photos(job.id) if photo.key == refs[0].key)

    Dispatcher(ledger=ledger, publish=look, window=1, max_attempts=2).step()
    assert states == [PhotoState.PUBLISHED]


@pytest.mark.usefixtures("job")
def test_a_message_that_nobody_took_is_sent_again(dispatcher, broker, clock):
    dispatcher.step()
    clock.advance(61)
    assert dispatcher.step() == Pass(published=2, requeued=2, crashed=0)
    assert sorted(broker.keys) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


def test_what_a_vanished_worker_had_fetched_is_sent_again_with_what_it_held(
    dispatcher, ledger, broker, clock, job
):
    dispatcher.step()
    held = next(ledger.photos(job.id))
    ledger.claim(held.id, worker="w", lease_s=10)
    broker.keys.clear()  # both messages are with the worker
    clock.advance(11)
    dispatcher.step()
    published = [photo.key for photo in ledger.photos(job.id, state=PhotoState.PUBLISHED)]
    assert len(published) == 2
    assert sorted(broker.keys) == sorted(published)


def test_a_photo_whose_worker_vanished_too_often_is_given_up(dispatcher, ledger, clock, job):
    photo = next(ledger.photos(job.id))
    for _ in range(2):
        ledger.claim(photo.id, worker="w", lease_s=10)
        clock.advance(11)
        last = dispatcher.step()
    assert last.crashed == 1
    assert [failure.code for failure in ledger.failures(job.id)] == [PhotoCrashesWorker.code]


@pytest.mark.usefixtures("job")
def test_what_could_not_be_sent_is_sent_as_soon_as_the_broker_is_back(dispatcher, broker):
    broker.up = False
    for _ in range(3):
        with pytest.raises(BrokerUnavailable):
            dispatcher.step()
    broker.up = True
    assert dispatcher.step().published == 2


def test_after_an_outage_messages_that_the_broker_forgot_are_sent_again(
    dispatcher, ledger, broker, job
):
    dispatcher.step()
    finish(ledger, next(ledger.photos(job.id, state=PhotoState.PUBLISHED)))
    broker.up = False
    with pytest.raises(BrokerUnavailable):
        dispatcher.step()
    broker.up, broker.keys = True, []  # it comes back empty
    dispatcher.step()
    assert len(broker.keys) == 2


@pytest.mark.usefixtures("job")
def test_what_an_emptied_broker_had_is_sent_again_at_once(dispatcher, broker):
    dispatcher.step()
    broker.empty()
    assert dispatcher.step().published == 2
    assert dispatcher.step().published == 0


@pytest.mark.usefixtures("job")
def test_of_several_dispatchers_one_that_notices_an_emptied_broker_is_enough(
    dispatcher, ledger, broker
):
    dispatcher.step()
    other = Dispatcher(ledger=ledger, publish=broker.publish, window=2, max_attempts=2)
    other.step()
    broker.empty()
    for each in (other, dispatcher, other):
        each.step()
    assert sorted(broker.keys) == ["0.jpg", "1.jpg"]


@pytest.mark.usefixtures("job")
def test_an_emptied_broker_is_not_forgotten_while_the_ledger_is_away(
    dispatcher, ledger, broker, monkeypatch
):
    dispatcher.step()
    broker.empty()
    step_while_away(dispatcher, ledger, "unpublish", monkeypatch)
    assert dispatcher.step().published == 2


@pytest.mark.usefixtures("job")
def test_after_the_database_was_away_all_is_sent_again(dispatcher, ledger, broker, monkeypatch):
    dispatcher.step()
    step_while_away(dispatcher, ledger, "requeue_stalled", monkeypatch)
    assert dispatcher.step().published == 2
    assert sorted(broker.keys) == ["0.jpg", "0.jpg", "1.jpg", "1.jpg"]


def step_while_away(dispatcher, ledger, method, monkeypatch):
    """Take a step that fails, for the database is away when the ledger's `method` is called."""
    with monkeypatch.context() as patch:
        patch.setattr(ledger, method, fail_with(DatabaseUnavailable("nobody there")))
        with pytest.raises(DatabaseUnavailable):
            dispatcher.step()


def fail_with(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.usefixtures("job")
def test_what_a_dispatcher_published_that_died_before_it_sent_it_is_sent_by_the_next(
    dispatcher, ledger, broker
):
    ledger.publish_next(2)
    assert dispatcher.step().published == 2
    assert len(broker.keys) == 2


@pytest.mark.usefixtures("job")
def test_a_dispatcher_that_starts_sends_nothing_twice_that_is_still_waiting(ledger, broker):
    for _ in range(2):
        Dispatcher(
            ledger=ledger,
            publish=broker.publish,
            waiting=broker.waiting,
            window=2,
            max_attempts=2,
        ).step()
    assert broker.keys == ["0.jpg", "1.jpg"]


@pytest.mark.usefixtures("job")
def test_serving_goes_on_through_an_outage_and_ends_at_a_signal(ledger):
    attempts = []

    def publish(refs) -> None:
        attempts.append(len(refs))
        if len(attempts) < 3:
            raise BrokerUnavailable("nobody there")
        os.kill(os.getpid(), signal.SIGTERM)

    dispatcher = Dispatcher(ledger=ledger, publish=publish, window=2, max_attempts=2)
    with StopRequest() as stop:
        serve(dispatcher, stop=stop, poll_s=0.01)
    assert attempts == [2, 2, 2]


def test_however_long_an_outage_lasts_a_pass_comes_every_few_seconds(dispatcher):
    class Impatient:
        count = 0
        waits: ClassVar[list[float]] = []

        def wait(self, timeout_s: float) -> None:
            self.waits.append(timeout_s)
            self.count = len(self.waits) // 8

    dispatcher.step = fail_with(BrokerUnavailable("nobody there"))
    serve(dispatcher, stop=Impatient())
    assert max(Impatient.waits) <= 5
