"""The Celery worker process around one runtime: threads as lanes, one engine between them."""

import socket

from celery import Celery

from jobs import broker
from worker.runtime import Runtime
from worker.tasks import register


def build_app(runtime: Runtime) -> Celery:
    """Return the Celery application with the task registered.

    Raises:
        BrokerUnavailable: the broker doesn't answer.
    """
    app = broker.make_app(runtime.settings)
    broker.check(app)
    register(app, runtime)
    return app


def serve(runtime: Runtime) -> int:
    """Take photos until told to stop; return the exit code.

    SIGTERM finishes the photos in hand. Threads and not processes: the lanes decode, encode and
    store while one of them has the engine, and weights that don't load stop the process instead of
    one child after the other (docs/adr/0004).
    """
    worker = build_app(runtime).Worker(
        pool="threads",
        concurrency=runtime.worker.lanes,
        hostname=f"{runtime.worker.worker_name}@{socket.gethostname()}",
        loglevel=runtime.settings.log_level,
        without_mingle=True,
        without_gossip=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
