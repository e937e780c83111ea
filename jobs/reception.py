"""What comes out of the broker, before anybody believes it: what makes no sense is thrown away.

Whoever can write into the broker can leave anything there, and so may another program that shares
it. Celery, left alone, ends a worker over a message that it can't take apart, and the broker gives
the message to the next one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import redis

from jobs.logs import get_logger

_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
_LONGEST_CHARS = 200

_log = get_logger(__name__)


class _Channel(redis.Channel):
    """Reads messages, and outlives those that are none."""

    def basic_consume(
        self,
        queue: str,
        no_ack: bool,
        callback: Callable[[Any], None],
        consumer_tag: str,
        **options: object,
    ) -> None:
        """Hand on each message; one that can't be taken apart is answered, so that it ends here."""

        def receive(message: Any) -> None:  # noqa: ANN401 - kombu has no types
            try:
                callback(message)
            except _NONSENSE as error:
                _log.error("message.refused", queue=queue, error=_said(error))
                if not no_ack:
                    message.reject()

        super().basic_consume(  # type: ignore[no-untyped-call]
            queue, no_ack, receive, consumer_tag, **options
        )

    def _brpop_read(self, **options: object) -> object:
        """Take what a queue holds; what isn't even the envelope of a message is gone with that."""
        return _outlive(partial(super()._brpop_read, **options))

    def _receive(self) -> object:
        """Take what was sent to all workers, likewise."""
        return _outlive(super()._receive)


def _outlive(read: Callable[[], object]) -> object:
    """Read a message; return True, as for one that was read, where it can't be taken apart."""
    try:
        return read()
    except _NONSENSE as error:
        _log.error("message.refused", error=_said(error))
        return True


def _said(error: Exception) -> str:
    """Return what an error says, which may repeat all of a message."""
    return f"{type(error).__name__}: {error}"[:_LONGEST_CHARS]


class _Transport(redis.Transport):
    Channel = _Channel


class _Connection(Connection):
    def get_transport_cls(self) -> type[redis.Transport]:
        """Return the one kind of broker that there is, with its guard."""
        return _Transport


class GuardedAMQP(AMQP):  # type: ignore[misc]
    """Celery's way to the broker, for an application whose workers outlive any message."""

    Connection = _Connection
