"""The broker's side of the contract: a queue for each memory class, one task, a message per photo.

References to photos go in; messages with a version and an id go out (`jobs.schema.PhotoMessage`).
The broker may lose or repeat any of them: the ledger decides.
"""

import ssl
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import ChannelError
from kombu.exceptions import OperationalError as KombuOperationalError
from kombu.utils.url import parse_url
from redis.exceptions import RedisError

from jobs.errors import BrokerUnavailable, SettingsInvalid
from jobs.memory import MemoryClass
from jobs.reception import GuardedAMQP
from jobs.schema import PhotoMessage, PhotoRef
from jobs.settings import JobSettings

TASK_NAME = "gpen_archive.restore_photo"
QUEUES = {each: f"photos.{each}" for each in MemoryClass}

_MARK = "gpen_archive.mark"  # where we note in which of its lives the broker was asked last
_TRUSTED = {"ssl_cert_reqs": ssl.CERT_REQUIRED}  # kombu's default is to trust anybody
_SCHEMES = ("redis", "rediss", "redis+socket")
_PATIENCE_S = 4
_HEALTH_CHECK_S = 25
_ANSWER_S = 2.0
_FIRST, _USUAL, _LAST = 0, 3, 6  # Celery keeps a list in Redis for each; the lowest is taken first


def make_app(
    settings: JobSettings, *, queues: Collection[MemoryClass] = tuple(MemoryClass)
) -> Celery:
    """Return the Celery application that producer and worker share. Nothing is contacted yet.

    Args:
        settings: where the broker is.
        queues: what a worker takes.

    Raises:
        SettingsInvalid: GPEN_BROKER_URL isn't the address of a Valkey or Redis, or of one on
            another machine that asks for no password.
    """
    url = settings.broker_url.get_secret_value()
    _check_address(url)
    is_tls = urlsplit(url).scheme == "rediss"
    app = Celery("gpen_archive", broker=url, amqp=GuardedAMQP, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_queues=[_queue(each) for each in reversed(MemoryClass) if each in queues],
        task_default_queue=QUEUES[MemoryClass.SMALL],
        task_ignore_result=True,  # what became of a photo stands in the ledger
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_track_started=True,
        task_send_sent_event=True,  # for Flower
        worker_send_task_events=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_use_ssl=_TRUSTED if is_tls else None,  # if it says nothing else
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=_PATIENCE_S,
        broker_transport_options={
            "visibility_timeout": settings.visibility_timeout_s,
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


def served(app: Celery) -> set[MemoryClass]:
    """Return the classes that some worker takes; all workers have two seconds to say so.

    Raises:
        BrokerUnavailable: the broker doesn't answer.
    """
    with _translating(app):
        answers = app.control.inspect(timeout=_ANSWER_S).active_queues() or {}
    names = {queue["name"] for queues in answers.values() for queue in queues}
    return {each for each, name in QUEUES.items() if name in names}


def recognize(app: Celery) -> bool:
    """Tell whether the broker has kept all that it was given since this was asked last.

    It hasn't if it was emptied, or has begun a new life: what it was given last may not have been
    on its disk, or on the server that took over from it.

    Raises:
        BrokerUnavailable: the broker doesn't answer.
    """
    with _translating(app), app.connection_for_write() as connection:
        server = connection.default_channel.client
        life = str(server.info("server")["run_id"])
        return bool(server.getset(_MARK, life) == life.encode())


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
        parse_url(url)
        known = parts.scheme in _SCHEMES and (parts.port is None or parts.port > 0)
    except (ValueError, KeyError, TypeError):
        # The port isn't a number, ssl_cert_reqs isn't one of three, or a part is named again.
        known = False
    if not known or ";" in url:  # behind which kombu expects a second address
        raise SettingsInvalid(
            f"GPEN_BROKER_URL: not an address; give one of {', '.join(_SCHEMES)}, then ://"
        )
    if not (parts.password or "ssl_certfile" in parse_qs(parts.query) or _is_here(parts.hostname)):
        raise SettingsInvalid(
            "GPEN_BROKER_URL: whoever reaches a broker without a password commands the workers: "
            "on another machine it has to have one, as in redis://:PASSWORD@HOST"
        )


def _is_here(host: str | None) -> bool:
    """Tell whether only this machine can reach a host; None is that of a socket's file."""
    if host is None or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return False


@contextmanager
def _translating(app: Celery) -> Iterator[None]:
    try:
        yield
    except (KombuOperationalError, RedisError, OSError) as error:
        address = app.connection_for_write().as_uri()  # kombu leaves the password out
        raise BrokerUnavailable(f"the broker {address} can't be used: {error}") from error
