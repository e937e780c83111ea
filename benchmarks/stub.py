"""`python -m benchmarks.stub`: a real worker around a stub engine that takes as long as it is told.

In: the environment of a worker, and GPEN_STUB_S, the seconds that the engine is held for each
photo. Out: photos with one region inverted, delivered through the real queue, ledger and stores. Of
a real engine it has what the queue notices: one photo at a time is on the device, and meanwhile
Python is free.
"""

import os
import sys
import threading
import time

import numpy as np

from gpen_engine import EngineIdentity, Face, FaceOutcome, Restoration, Treatment
from gpen_engine.blend import Piece
from gpen_engine.colour import ColourSpace
from gpen_engine.faces import Detail, Mask, ModelIdentity, Pixels
from gpen_engine.precision import Precision
from jobs.ledger import Ledger
from jobs.logs import configure, get_logger
from jobs.memory import MemoryClass
from jobs.settings import JobSettings
from worker.app import serve
from worker.decoding import Decoder
from worker.pipeline import Engine
from worker.runtime import Runtime
from worker.settings import WorkerSettings

IDENTITY = EngineIdentity(
    weights="compact",
    weights_sha256="a" * 64,
    size=128,
    detector=ModelIdentity("stub", "b" * 64),
    device="cpu",
    precision=Precision.FP32,
    threads=1,
    instructions="none",
)
_REGION_PX = 8


class StubEngine:
    """Inverts the first pixels of a photo, and holds the device for a while.

    Args:
        seconds: how long for each photo.
    """

    identity = IDENTITY

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._device = threading.Lock()

    def restore(
        self,
        image: Pixels,
        treatment: Treatment | None = None,  # noqa: ARG002 - the real one's signature
        *,
        protected: Mask | None = None,  # noqa: ARG002
        colour: ColourSpace | None = None,  # noqa: ARG002
    ) -> Restoration:
        """Return the picture with one face."""
        with self._device:
            time.sleep(self._seconds)
        height, width = (min(_REGION_PX, side) for side in image.shape[:2])
        inverted = np.iinfo(image.dtype).max - image[:height, :width]
        region = (0, 0, width, height)
        face = Face((0.0, 0.0, float(width), float(height)), ((1.0, 1.0),) * 5, 0.97)
        outcome = FaceOutcome(face, restored=True, region=region, detail=Detail.NETWORK)
        return Restoration(image, (outcome,), {}, pieces=(Piece(region, inverted),))


def work(engine: Engine) -> int:
    """Take photos with this engine until told to stop; return the exit code."""
    settings, worker = JobSettings.from_environment(), WorkerSettings.from_environment()
    configure(log_format=settings.log_format, level=settings.log_level)
    ledger = Ledger(settings.database_url.get_secret_value())
    ledger.check()
    scratch = worker.make_scratch()
    decode = Decoder(worker.decode_budget, scratch=scratch, ready=worker.lanes)
    queues = settings.queues or tuple(MemoryClass)
    runtime = Runtime(settings, worker, ledger, engine, decode, scratch, queues)
    get_logger(__name__).info("worker.ready", weights="stub")
    return serve(runtime)


if __name__ == "__main__":
    sys.exit(work(StubEngine(float(os.environ.get("GPEN_STUB_S", "0")))))
