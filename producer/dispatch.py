"""Keeps a bounded window of photos with the broker: rows go in, messages come out.

The ledger stays the truth. A photo is marked as published, the mark is committed, and only then is
its message sent: a message that is lost in between comes back by its age. So does a photo whose
worker vanished, by its lease. Any number of dispatchers may run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobs.errors import BrokerUnavailable, Transient
from jobs.ledger import Ledger
from jobs.logs import get_logger
from jobs.schema import PhotoRef
from producer.stop import StopRequest

PUBLISHED_TIMEOUT_S = 900.0  # a message that waited so long is sent again; two do no harm
POLL_S = 1.0
_LONGEST_WAIT_S = 30.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pass:
    """What one look at the ledger led to."""

    published: int
    requeued: int
    crashed: int


class Dispatcher:
    """Publishes what is due, and brings back what stalled.

    Args:
        ledger: the rows.
        publish: sends one message a photo, raising `BrokerUnavailable`.
        window: at most so many photos are published or claimed at a time.
        max_attempts: a photo whose workers vanished so often is given up.
        job_id: publishes photos of this job only; of all where it is None.
        published_timeout_s: age at which a message counts as lost.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        publish: Callable[[Sequence[PhotoRef]], None],
        window: int,
        max_attempts: int,
        job_id: str | None = None,
        published_timeout_s: float = PUBLISHED_TIMEOUT_S,
    ) -> None:
        self._ledger = ledger
        self._publish = publish
        self._window = window
        self._max_attempts = max_attempts
        self._job_id = job_id
        self._published_timeout_s = published_timeout_s
        self._outage = False

    def step(self) -> Pass:
        """Do one pass.

        Raises:
            BrokerUnavailable: the messages of this pass weren't all sent; the next pass sends every
                waiting one again, for the broker may have come back empty.
            DatabaseUnavailable: the ledger can't be reached.
        """
        if self._outage:
            self._ledger.unpublish()
            self._outage = False
        stalled = self._ledger.requeue_stalled(
            published_timeout_s=self._published_timeout_s, max_attempts=self._max_attempts
        )
        published = self._fill_window()
        if published or stalled.requeued or stalled.crashed:
            log.info(
                "dispatch.pass",
                published=published,
                requeued=stalled.requeued,
                crashed=stalled.crashed,
            )
        return Pass(published, stalled.requeued, stalled.crashed)

    def _fill_window(self) -> int:
        room = self._window - self._ledger.in_flight(self._job_id)
        refs = self._ledger.publish_next(room, job_id=self._job_id) if room > 0 else []
        if refs:
            try:
                self._publish(refs)
            except BrokerUnavailable:
                self._outage = True
                raise
        return len(refs)


def serve(dispatcher: Dispatcher, *, stop: StopRequest, poll_s: float = POLL_S) -> None:
    """Dispatch until asked to stop; wait, longer each time, while a service doesn't answer."""
    wait_s = poll_s
    while not stop.count:
        try:
            dispatcher.step()
            wait_s = poll_s
        except Transient as error:
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            log.warning("dispatch.waiting", code=error.code, error=str(error), wait_s=wait_s)
        stop.wait(wait_s)
