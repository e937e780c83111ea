"""A real worker around a stub engine that some photos are the end of.

`python -m benchmarks.chaos.worker`. In: a worker's environment, GPEN_STUB_S for usual photos and
GPEN_CHAOS_SLOW_S for slow ones. Every call of the engine is logged before it begins: the log tells
what was restored how often, however the process ended.
"""

import os
import signal
import sys
import time

from benchmarks.chaos.photos import Nature, read_marks
from benchmarks.stub import StubEngine, work
from gpen_engine import Restoration, Treatment
from gpen_engine.colour import ColourSpace
from gpen_engine.faces import Mask, Pixels
from jobs.errors import JobError
from jobs.logs import get_logger
from worker.exits import ENVIRONMENT

_log = get_logger(__name__)


class PerilousEngine(StubEngine):
    """Dies of killers, and takes its time for slow photos.

    Args:
        seconds: how long each usual photo holds the device.
        slow_s: how long a slow one takes, during which the device is free for others.
    """

    def __init__(self, seconds: float, *, slow_s: float) -> None:
        super().__init__(seconds)
        self._slow_s = slow_s

    def restore(
        self,
        image: Pixels,
        treatment: Treatment | None = None,
        *,
        protected: Mask | None = None,
        colour: ColourSpace | None = None,
    ) -> Restoration:
        """Return the picture with one face, if the photo lets us."""
        number, nature = read_marks(image)
        _log.info("engine.began", photo=number)
        if nature is Nature.KILLER:
            os.kill(os.getpid(), signal.SIGKILL)
        if nature is Nature.SLOW:
            time.sleep(self._slow_s)
        return super().restore(image, treatment, protected=protected, colour=colour)


def main() -> int:
    """Work; return the exit code, which is a real worker's where a service is away at the start."""
    stub_s, slow_s = (float(os.environ[name]) for name in ("GPEN_STUB_S", "GPEN_CHAOS_SLOW_S"))
    try:
        return work(PerilousEngine(stub_s, slow_s=slow_s))
    except JobError as error:
        _log.error("worker.unfit", code=error.code, error=str(error))
        return ENVIRONMENT


if __name__ == "__main__":
    sys.exit(main())
