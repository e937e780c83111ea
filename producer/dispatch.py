"""Keeps a bounded window of photos with the broker: rows go in, messages come out.

The ledger stays the truth. A photo is marked as published, the mark is committed, and only then is
its message sent. Whatever the broker may have lost is sent again: all that is published, when it
was emptied, started anew or didn't answer, and when a dispatcher starts, for the one before may
have ended in between; a single message, by its age. A photo whose worker vanished comes back by its
lease. What is published of a job that rests is taken back. Any number of dispatchers may run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jobs.errors import Transient
from jobs.ledger import Ledger
from jobs.logs import get_logger
from jobs.memory import MemoryClass
from jobs.schema import PhotoRef
from producer.stop import StopRequest

PUBLISHED_TIMEOUT_S = 900.0  # a message that waited so long is sent again; two do no harm
POLL_S = 1.0
_LONGEST_WAIT_S = 5.0  # what is said about jobs meanwhile, and their hours, wait as long
_SHARE = 10  # this part of the window

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
        waiting: tells how many messages of each class no worker has taken, raising the same.
        recognize: tells whether the broker has kept all since it was asked last, raising the same.
        window: at most so many photos are published or claimed at a time, and a tenth more of jobs
            of a high priority.
        max_attempts: a photo whose workers vanished so often is given up.
        job_id: publishes photos of this job only; of all where it is None.
        published_timeout_s: age at which a message counts as lost.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        publish: Callable[[Sequence[PhotoRef]], None],
        waiting: Callable[[], Mapping[MemoryClass, int]] = dict,
        recognize: Callable[[], bool] = lambda: True,
        window: int,
        max_attempts: int,
        job_id: str | None = None,
        published_timeout_s: float = PUBLISHED_TIMEOUT_S,
    ) -> None:
        self._ledger = ledger
        self._publish = publish
        self._waiting = waiting
        self._recognize = recognize
        self._window = window
        self._reserved = max(1, window // _SHARE) if window >= len(MemoryClass) else 0
        self._max_attempts = max_attempts
        self._job_id = job_id
        self._published_timeout_s = published_timeout_s
        self._lost = True  # some message that was sent, as far as we know

    def step(self) -> Pass:
        """Do one pass.

        Raises:
            BrokerUnavailable: the messages of this pass weren't all sent; the next pass sends every
                waiting one again.
            DatabaseUnavailable: the ledger can't be reached; likewise, for what workers claimed
                last may not have been on its disk.
        """
        try:
            return self._step()
        except Transient:
            self._lost = True
            raise

    def _step(self) -> Pass:
        stalled = self._ledger.requeue_stalled(
            published_timeout_s=self._published_timeout_s, max_attempts=self._max_attempts
        )
        if stalled.requeued or stalled.crashed:
            self._lost = True  # a worker that died may have fetched messages, too
        self._ledger.keep_hours()
        withdrawn = self._ledger.withdraw()
        published = self._fill_window()
        if published or withdrawn or stalled.requeued or stalled.crashed:
            log.info(
                "dispatch.pass",
                published=published,
                withdrawn=withdrawn,
                requeued=stalled.requeued,
                crashed=stalled.crashed,
            )
        return Pass(published, stalled.requeued, stalled.crashed)

    def _fill_window(self) -> int:
        """Publish what there is room for; return how many photos.

        A message that no worker has taken needs room even if its photo is pending again, so that
        the broker never holds more than the window and what is urgent beyond it.
        """
        self._take_back_lost()
        waiting = self._waiting()
        flying = self._ledger.in_flight_by_class(self._job_id)
        taken = {each: max(flying[each], waiting.get(each, 0)) for each in MemoryClass}
        before = sum(taken.values())
        for each in MemoryClass:
            taken[each] += self._send(self._room(each, taken), memory_class=each)
        kept = sum(max(count, self._reserved) for count in taken.values())
        urgent = self._send(self._window + self._window // _SHARE - kept, urgent=True)
        return sum(taken.values()) - before + urgent

    def _room(self, memory_class: MemoryClass, taken: Mapping[MemoryClass, int]) -> int:
        """Return how many photos of a class there is room for.

        A tenth of the window is kept for each of the others, used or not, for their workers would
        have nothing to do; what one has beyond the window, for it is urgent, takes none of that.
        """
        most = self._window - (len(MemoryClass) - 1) * self._reserved
        others = (count for each, count in taken.items() if each is not memory_class)
        kept = sum(min(max(count, self._reserved), most) for count in others)
        return self._window - taken[memory_class] - kept

    def _take_back_lost(self) -> None:
        """Make pending again what was published to a broker that may not have it any more."""
        self._lost = not self._recognize() or self._lost
        if self._lost:
            self._ledger.unpublish()
            self._lost = False

    def _send(
        self, room: int, *, memory_class: MemoryClass | None = None, urgent: bool = False
    ) -> int:
        if room <= 0:
            return 0
        refs = self._ledger.publish_next(
            room, job_id=self._job_id, memory_class=memory_class, urgent=urgent
        )
        if refs:
            self._publish(refs)
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
