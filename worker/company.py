"""Whether a photo has its worker to itself: a claim goes in, the photo goes on once it may.

A photo that kills its worker takes along whatever the other lanes have in hand, again and again if
they come back together. So a photo's last attempt is made alone, and none is given up for what
another did.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Company:
    """Shared by a process's lanes: many photos at a time, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._alone = False

    @contextmanager
    def join(self, *, alone: bool) -> Iterator[None]:
        """Wait until this photo may be worked on, and keep the others waiting if it is to be alone.

        Who wants to be alone comes before those who don't, so that it needn't wait for ever.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            if alone:
                self._alone = True
                self._changed.wait_for(lambda: not self._together)
            else:
                self._together += 1
        try:
            yield
        finally:
            with self._changed:
                if alone:
                    self._alone = False
                else:
                    self._together -= 1
                self._changed.notify_all()
