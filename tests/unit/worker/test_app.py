import signal
from contextlib import closing

import pytest
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu.asynchronous import Hub

from worker.app import SpreadConsumer, _listen
from worker.ending import Ending


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setattr(state, "should_stop", None)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_workers_that_lost_their_broker_together_come_back_one_after_the_other(monkeypatch):
    waits = []
    monkeypatch.setattr(Consumer, "on_connection_error_after_connected", lambda *_: None)
    monkeypatch.setattr("worker.app.time.sleep", waits.append)
    for _ in range(50):
        SpreadConsumer.__new__(SpreadConsumer).on_connection_error_after_connected(OSError())
    assert min(waits) >= 0
    assert max(waits) <= 5
    assert max(waits) - min(waits) > 2


def stumble(*_):
    """Do what Kombu does with a channel whose connection is gone."""
    nothing = None
    return nothing.hostname


def test_a_worker_outlives_a_connection_that_cannot_be_closed_cleanly(monkeypatch):
    monkeypatch.setattr(Consumer, "on_connection_error_after_connected", stumble)
    monkeypatch.setattr(SpreadConsumer, "spread_s", 0)
    SpreadConsumer.__new__(SpreadConsumer).on_connection_error_after_connected(OSError())


def answered(answer, *given):
    """Have a message answered as Celery does, in a real event loop."""
    consumer = SpreadConsumer.__new__(SpreadConsumer)
    with closing(Hub()) as consumer.hub:
        consumer.call_soon_ack(answer, *given)
        consumer.hub.run_once()


def test_a_message_is_answered_with_what_celery_gives():
    told = []
    answered(lambda *given: told.append(given), "log", "errors")
    assert told == [("log", "errors")]


def test_a_worker_outlives_a_message_whose_connection_is_gone():
    answered(stumble)


@pytest.mark.parametrize(
    ("thing", "name"), [(object(), "hostname"), (None, "nonsense"), ("text", "client")]
)
def test_other_mistakes_in_answering_a_message_are_not_hidden(thing, name):
    with pytest.raises(AttributeError):
        answered(getattr, thing, name)


def test_an_error_that_only_sounds_like_it_is_not_hidden():
    def complain():
        raise AttributeError("no hostname")

    with pytest.raises(AttributeError, match="no hostname"):
        answered(complain)


@pytest.mark.parametrize(
    ("words", "now"),
    [
        ([signal.SIGTERM], [False]),
        ([signal.SIGINT, signal.SIGTERM], [False, True]),
        ([signal.SIGQUIT], [True]),
    ],
)
def test_the_first_signal_leaves_the_grace_and_what_comes_after_does_not(monkeypatch, words, now):
    ending, told = Ending(grace_s=1), []
    monkeypatch.setattr(ending, "end", lambda code, *, now: told.append((code, now)))
    _listen(ending)
    for word in words:
        signal.raise_signal(word)
    assert told == [(0, each) for each in now]
    assert state.should_stop == 0


def test_a_signal_does_not_hide_why_a_worker_stops(monkeypatch):
    monkeypatch.setattr(state, "should_stop", 5)
    _listen(Ending(grace_s=1))
    signal.raise_signal(signal.SIGTERM)
    assert state.should_stop == 5
