"""How a worker ends once it is told to: photos in hand get a grace, then they are given back.

In: a word to end, with an exit code, from a signal or from a lane that can't go on. Out: nothing,
where all is finished within the grace and the process ends by itself; else the photos are pending
again at once, as if they had never been tried, and the process is gone. A lane can't be ended from
outside: it may be in a library's call for minutes.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue

from jobs.errors import ClaimLost, JobError
from jobs.logs import get_logger
from worker.exits import ENVIRONMENT
from worker.patience import insist
from worker.stages import Stages

_STORING = "store"
_STORING_S = 5.0
_ASKING_S = 1.0
_POLL_S = 0.05

_log = get_logger(__name__)


class Ending:
    """Shared by a process's lanes; nothing happens before somebody says `end`.

    Args:
        grace_s: how long photos in hand have.
    """

    def __init__(self, *, grace_s: float) -> None:
        self._grace_s = grace_s
        self._words: SimpleQueue[tuple[int, bool]] = SimpleQueue()  # which a signal may interrupt
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._in_hand: set[Stages] = set()

    def end(self, exit_code: int, *, now: bool = False) -> None:
        """Let the worker end after its grace, or without one; from any thread or signal handler."""
        self._words.put((exit_code, now))

    def check(self) -> None:
        """Make sure that another stage may begin.

        Raises:
            ClaimLost: the photo is being given back.
        """
        if self._over.is_set():
            raise ClaimLost("the worker ends, and gives back what it has in hand")

    @contextmanager
    def in_hand(self, stages: Stages) -> Iterator[None]:
        """Know where a photo is while a lane works on it."""
        with self._lock:
            self._in_hand.add(stages)
        try:
            yield
        finally:
            with self._lock:
                self._in_hand.remove(stages)

    def watch(
        self, give_back: Callable[[], int], *, leave: Callable[[int], None] = os._exit
    ) -> None:
        """Wait, in a thread of its own, for the word and then for the end of the grace.

        Args:
            give_back: takes all photos from this worker in the ledger; returns how many.
            leave: ends the process at once, with an exit code.
        """
        work = threading.Thread(target=self._end, args=(give_back, leave), daemon=True)
        work.start()

    def _end(self, give_back: Callable[[], int], leave: Callable[[int], None]) -> None:
        code = self._wait()
        self._over.set()
        self._let_stores_end()
        try:
            end = time.monotonic() + _ASKING_S  # a connection may have been dead for long
            photos = insist(give_back, give_up=lambda: time.monotonic() > end)
            _log.warning("worker.gives_back", photos=photos)
        except JobError as error:  # their leases run out
            _log.error("worker.cannot_give_back", code=error.code, error=str(error))
            code = ENVIRONMENT
        leave(code)

    def _wait(self) -> int:
        """Return the exit code when the grace is over."""
        code, now = self._words.get()
        end = time.monotonic() + self._grace_s
        while not now and (left_s := end - time.monotonic()) > 0:
            with suppress(Empty):
                another, now = self._words.get(timeout=left_s)
                code = max(code, another)
        return code

    def _let_stores_end(self) -> None:
        """Wait a moment for what is being stored, or the store would keep a part of it."""
        end = time.monotonic() + _STORING_S
        while self._is_storing() and time.monotonic() < end:
            time.sleep(_POLL_S)

    def _is_storing(self) -> bool:
        with self._lock:
            return any(stages.current == _STORING for stages in self._in_hand)
