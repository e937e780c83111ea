"""The broker's side of the contract: a queue for each memory class, one task, a message per photo.

References to photos go in; messages with a version and an id go out (`jobs.schema.PhotoMessage`).
The broker may lose or repeat any of them: the ledger decides.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import ChannelError
from kombu.exceptions import OperationalError as KombuOperationalError
from redis.exceptions import RedisError

from jobs.errors import BrokerUnavailable, SettingsInvalid
from jobs.memory import MemoryClass
from jobs.schema import PhotoMessage, PhotoRef
from jobs.settings import JobSettings

TASK_NAME = "gpen_archive.restore_photo"
QUEUES = {each: f"photos.{each}" for each in MemoryClass}

_SCHEMES = ("redis", "rediss", "redis+socket")
_PATIENCE_S = 4
_VISIBILITY_TIMEOUT_S = 3600
_HEALTH_CHECK_S = 25
_FIRST, _USUAL, _LAST = 0, 3, 6  # Celery keeps a list in Redis for each; the lowest is taken first


def make_app(settings: JobSettings) -> Celery:
    """Return the Celery application that producer and worker share. Nothing is contacted yet.

    Raises:
        SettingsInvalid: GPEN_BROKER_URL isn't the address of a Valkey or Redis.
    """
    url = settings.broker_url.get_secret_value()
    _check_address(url)
    app = Celery("gpen_archive", broker=url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_queues=[_queue(each) for each in reversed(MemoryClass) if each in settings.queues],
        task_default_queue=QUEUES[MemoryClass.SMALL],
        task_ignore_result=True,  # what became of a photo stands in the ledger
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_track_started=True,
        task_send_sent_event=True,  # for Flower
        worker_send_task_events=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=_PATIENCE_S,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_TIMEOUT_S,
            "unacked_restore_throttle": 1,
            "queue_order_strategy": "priority",  # large ones first: few workers can take them
            "socket_timeout": 2 * _HEALTH_CHECK_S,
            "socket_connect_timeout": _PATIENCE_S,
            "socket_keepalive": True,
            "health_check_interval": _HEALTH_CHECK_S,
        },
        task_publish_retry=False,  # the dispatcher tries again by itself
    )
    return app


def publish(app: Celery, refs: Sequence[PhotoRef]) -> None:
    """Send one message for each photo, over one connection.

    Raises:
        BrokerUnavailable: the broker doesn't answer; some of the messages may have been sent.
    """
    with _translating(app), app.producer_pool.acquire(block=True) as producer:
        for ref in refs:
            app.send_task(
                TASK_NAME,
                args=[PhotoMessage(photo_id=ref.id).model_dump()],
                argsrepr=f"(job={ref.job_name!r}, photo={ref.key!r})",  # what Flower lists
                kwargsrepr="{}",
                queue=_queue(ref.memory_class),
                priority=_USUAL if ref.priority == 0 else _FIRST if ref.priority > 0 else _LAST,
                producer=producer,
            )


def waiting(app: Celery) -> dict[MemoryClass, int]:
    """Return how many messages of each class no worker has taken yet.

    Raises:
        BrokerUnavailable: the broker doesn't answer.
    """
    with _translating(app), app.connection_for_write() as connection:
        channel = connection.default_channel
        return {each: _length(channel, name) for each, name in QUEUES.items()}


def check(app: Celery) -> None:
    """Make sure that the broker answers, within a few seconds.

    Raises:
        BrokerUnavailable: it doesn't.
    """
    with _translating(app), app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=_PATIENCE_S)


def _queue(memory_class: MemoryClass) -> Queue:
    name = QUEUES[memory_class]
    exchange = Exchange(name)  # type: ignore[no-untyped-call]
    return Queue(name, exchange, routing_key=name)  # type: ignore[no-untyped-call]


def _length(channel: Any, name: str) -> int:  # noqa: ANN401 - kombu has no types
    """Return the length of a queue, all its priorities together."""
    try:
        return int(channel.queue_declare(queue=name, passive=True).message_count)
    except ChannelError:  # Redis keeps no empty list
        return 0


def _check_address(url: str) -> None:
    """Refuse a bad address without repeating it, for it may hold a password."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in _SCHEMES and (parts.port is None or parts.port > 0)
    except ValueError:  # the port isn't a number
        known = False
    if not known:
        raise SettingsInvalid(f"GPEN_BROKER_URL: give one of {', '.join(_SCHEMES)}, then ://")


@contextmanager
def _translating(app: Celery) -> Iterator[None]:
    try:
        yield
    except (KombuOperationalError, RedisError, OSError) as error:
        address = app.connection_for_write().as_uri()  # kombu leaves the password out
        raise BrokerUnavailable(f"the broker {address} can't be used: {error}") from error
