"""Turns SIGINT, SIGTERM and SIGHUP into a request that loops look at: signals in, a count out.

A handler may run between any two instructions, so it takes no lock: it counts, and writes one byte
into a pipe that `wait` watches.
"""

import os
import select
import signal
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """A context in which those signals end nothing by themselves. For the main thread.

    A signal that was ignored when we started (`nohup`) stays ignored.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reading)
        os.close(self._writing)

    def wait(self, timeout_s: float) -> bool:
        """Pause; return at once when a signal comes. True when one has ever come."""
        if select.select([self._reading], [], [], timeout_s)[0]:
            os.read(self._reading, 64)
        return self.count > 0

    def _remember(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature is given
        self.count += 1
        os.write(self._writing, b".")
