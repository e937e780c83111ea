"""The Celery worker process around one runtime: threads as lanes, one engine between them."""

import os
import random
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from types import FrameType

from celery import Celery
from celery.signals import worker_ready
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.control import Panel

from jobs import broker
from jobs.logs import get_logger
from worker.ending import Ending
from worker.runtime import Runtime
from worker.tasks import register

_QUESTIONS = frozenset(
    (
        *("active", "active_queues", "conf", "ping", "registered", "reserved", "revoked"),
        *("scheduled", "stats"),
        *("enable_events", "heartbeat"),  # what whoever watches sends now and then; both are on
    )
)
_OF_A_CONNECTION = {"client", "hostname"}
"""What Kombu's channel for Redis asks of it when it makes a pool of its own."""

_log = get_logger(__name__)


class SpreadConsumer(Consumer):  # type: ignore[misc]
    """Celery's consumer; of all that lost their broker at once, each comes back a bit later.

    It has one message more in hand than there are lanes: no lane waits for the broker, and a slow
    worker keeps no more than that one from the others. Nobody claims its photo meanwhile.
    Lanes go on meanwhile: what they finish stands in the ledger. The broker is asked after 2 s,
    then each time 2 s later, at most 30 s, for as long as it is away.
    """

    spread_s = 5.0

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.initial_prefetch_count += 1

    @property
    def max_prefetch_count(self) -> int:
        """One message more than there are lanes, so that none has to wait for the broker."""
        return int(super().max_prefetch_count) + 1

    def on_connection_error_after_connected(self, error: Exception) -> None:
        """Wait for a moment of its own before the first try."""
        _call_although_closed(partial(super().on_connection_error_after_connected, error))
        time.sleep(random.uniform(0, self.spread_s))  # noqa: S311 - no secret

    def call_soon_ack(
        self, answer: Callable[..., object], *args: object, **options: object
    ) -> object:
        """Have a message acknowledged or rejected by the event loop.

        Where the connection by which it came is gone by then, it comes again, and ends quietly.
        """
        careful = partial(_call_although_closed, answer)
        return super().call_soon_ack(careful, *args, **options)


def _call_although_closed(call: Callable[..., object], *args: object, **options: object) -> None:
    """Call what may need a connection that Kombu has taken apart already.

    It stumbles over the connection's absence then, which Celery knows for no error of the
    connection: the worker would end of it.
    """
    try:
        call(*args, **options)
    except AttributeError as stumble:
        if stumble.obj is not None or stumble.name not in _OF_A_CONNECTION:
            raise
        _log.warning("broker.closed_uncleanly", error=str(stumble))


def build_app(runtime: Runtime) -> Celery:
    """Return the Celery application with the task registered.

    Raises:
        BrokerUnavailable: the broker doesn't answer.
    """
    app = broker.make_app(runtime.settings, queues=runtime.queues)
    app.conf.broker_connection_max_retries = None
    broker.check(app)
    register(app, runtime)
    _restrict(app)
    return app


def serve(runtime: Runtime) -> int:
    """Take photos until told to stop; return the exit code.

    SIGTERM and SIGINT let the photos in hand be finished within the grace; the second one, or
    SIGQUIT, gives them back at once (`worker.ending`). Threads and not processes: the lanes decode,
    encode and store while one of them has the engine, and weights that don't load stop the process
    instead of one child after the other (docs/adr/0004).
    """
    _log.info("worker.queues", takes=",".join(runtime.queues), lanes=runtime.worker.lanes)
    worker = build_app(runtime).Worker(
        pool="threads",
        concurrency=runtime.worker.lanes,
        hostname=f"{runtime.worker.worker_name}@{socket.gethostname()}",
        loglevel=runtime.settings.log_level,
        without_mingle=True,
        without_gossip=True,
        consumer_cls=SpreadConsumer,
    )
    runtime.ending.watch(partial(runtime.ledger.give_back, runtime.worker.worker_name))
    worker_ready.connect(partial(_listen, runtime.ending), weak=False)
    worker.start()
    return int(worker.exitcode or 0)


def _restrict(app: Celery) -> None:
    """Leave this worker with its one task, and with questions that it answers, such as `ping`.

    Celery brings tasks of its own, some of which run others or send themselves again, and orders,
    such as `shutdown` and `revoke`, which anybody may give who can write into the broker.
    """
    for name in set(app.tasks) - {broker.TASK_NAME}:
        app.tasks.unregister(name)
    for name in set(Panel.data) - _QUESTIONS:
        del Panel.data[name]


def _listen(ending: Ending, **_: object) -> None:
    """Take the signals from Celery, which would end with other codes, or lose what is in hand."""
    heard = count()

    def hear(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is given
        if state.should_stop is None:
            state.should_stop = os.EX_OK
        ending.end(os.EX_OK, now=next(heard) > 0 or number == signal.SIGQUIT)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, hear)
