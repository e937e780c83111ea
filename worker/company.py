"""Whether a photo has its worker to itself: a lane joins, claims its photo, and leaves at its end.

A photo that kills its worker takes along whatever the other lanes have in hand, again and again if
they come back together. So a photo's last attempt is made alone, and none is given up for what
another did: a lane joins before it claims, and has no photo in hand while it waits.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

_PATIENCE_S = 30.0  # of who wants to be alone; the other lanes begin nothing meanwhile
_LOOK_S = 0.5


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Place:
    """What a lane has while it works; to leave it twice does nothing."""

    is_alone: bool
    leave: Callable[[], None]


class Company:
    """Shared by a process's lanes: many photos at a time, or one alone.

    Args:
        patience_s: so long somebody waits to be alone.
    """

    def __init__(self, *, patience_s: float = _PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._together: set[object] = set()
        self._alone: object | None = None

    @contextmanager
    def join(self, *, give_up: Callable[[], bool] = _never) -> Iterator[Place]:
        """Wait until nobody is alone, or wants to be, any more.

        Args:
            give_up: says that there is nothing to wait for any more.
        """
        who = object()
        with self._changed:
            self._wait(self._is_open, give_up)
            self._together.add(who)
        with self._left(who):
            yield Place(is_alone=False, leave=partial(self._leave, who))

    @contextmanager
    def join_alone(self, *, give_up: Callable[[], bool] = _never) -> Iterator[Place]:
        """Keep others from joining, and wait until those who have are gone; maybe in vain."""
        who = object()
        end = time.monotonic() + self._patience_s
        with self._changed:
            is_alone = self._wait(self._is_open, give_up, until=end)
            if is_alone:
                self._alone = who
                is_alone = self._wait(lambda: not self._together, give_up, until=end)
            if not is_alone:
                self._leave(who)
        with self._left(who):
            yield Place(is_alone=is_alone, leave=partial(self._leave, who))

    def _is_open(self) -> bool:
        return self._alone is None

    def _wait(
        self, ready: Callable[[], bool], give_up: Callable[[], bool], *, until: float = math.inf
    ) -> bool:
        """Wait for a change that makes it ready; False where that was in vain."""
        while not ready():
            left_s = until - time.monotonic()
            if left_s <= 0 or give_up():
                return False
            self._changed.wait(min(left_s, _LOOK_S))
        return True

    @contextmanager
    def _left(self, who: object) -> Iterator[None]:
        try:
            yield
        finally:
            self._leave(who)

    def _leave(self, who: object) -> None:
        with self._changed:
            self._together.discard(who)
            if self._alone is who:
                self._alone = None
            self._changed.notify_all()
