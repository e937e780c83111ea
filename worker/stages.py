"""Where a photo is on its way, and how long each stage took."""

import time
from collections.abc import Callable


class Stages:
    """Told of each stage as it begins; remembers the current one and the times of all.

    Args:
        on_begin: called as each stage begins; what it raises ends the work.
    """

    def __init__(self, on_begin: Callable[[], None] = lambda: None) -> None:
        self._on_begin = on_begin
        self._began_at: list[tuple[str, float]] = []
        self._start = time.perf_counter()

    @property
    def current(self) -> str:
        """The stage the work is in; "claim" before the first."""
        return self._began_at[-1][0] if self._began_at else "claim"

    @property
    def elapsed_s(self) -> float:
        """Seconds since the work began."""
        return time.perf_counter() - self._start

    def begin(self, stage: str) -> None:
        """Enter a stage."""
        self._on_begin()
        self._began_at.append((stage, time.perf_counter()))

    def timings_s(self) -> dict[str, float]:
        """Seconds by stage, the current one up to now, and "total"."""
        ends = [began for _, began in self._began_at[1:]] + [time.perf_counter()]
        timings = {
            stage: end - began for (stage, began), end in zip(self._began_at, ends, strict=True)
        }
        return timings | {"total": self.elapsed_s}
