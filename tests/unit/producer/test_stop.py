import os
import signal
import threading
import time

import pytest

from producer.stop import StopRequest


@pytest.fixture(autouse=True)
def _hangups_are_heard():
    """Under nohup they would be ignored, and StopRequest leaves that as it is."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_becomes_a_request(number):
    with StopRequest() as stop:
        assert not stop.wait(0)
        os.kill(os.getpid(), number)
        assert stop.wait(5)
        assert stop.count == 1


def test_waiting_ends_at_once_when_a_signal_comes():
    with StopRequest() as stop:
        sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
        sender.start()
        started_at = time.monotonic()
        assert stop.wait(30)
        sender.join()
    assert time.monotonic() - started_at < 10


def test_after_one_signal_waiting_still_pauses_and_a_second_is_counted():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        stop.wait(5)
        started_at = time.monotonic()
        assert stop.wait(0.05)
        assert time.monotonic() - started_at >= 0.05
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.count == 2


def test_afterwards_signals_mean_what_they_did_before():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.wait(0)
    finally:
        signal.signal(signal.SIGHUP, before)
