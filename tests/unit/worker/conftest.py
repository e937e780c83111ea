"""A stub engine, and everything else a worker holds, in memory and in a temporary folder."""

import io
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from gpen_engine import EngineIdentity, Face, FaceOutcome, Restoration, Treatment
from gpen_engine.colour import ColourSpace
from gpen_engine.faces import Detail, Mask, ModelIdentity
from gpen_engine.memory import Plan
from gpen_engine.precision import Precision
from jobs.recipe import Recipe
from jobs.schema import Candidate, Job
from jobs.settings import JobSettings
from jobs.testing import FakeClock, MemoryStore, sqlite_ledger
from worker.codec import decode
from worker.runtime import Runtime
from worker.settings import WorkerSettings

REGION = (4, 6, 20, 24)


@dataclass
class StubEngine:
    """Inverts the pixels of one region, or raises what it was told to."""

    errors: list[Exception] = field(default_factory=list)
    calls: int = 0
    protected: Mask | None = None
    treatments: list[Treatment | None] = field(default_factory=list)
    colours: list[ColourSpace | None] = field(default_factory=list)
    identity: EngineIdentity = EngineIdentity(
        weights="compact",
        weights_sha256="a" * 64,
        size=128,
        detector=ModelIdentity("stub", "b" * 64),
        device="cpu",
        precision=Precision.FP32,
        threads=4,
        instructions="AVX2",
    )
    plan: Plan = Plan(Precision.FP32, batch=4, tile_px=512)

    def restore(
        self,
        image: np.ndarray,
        treatment: Treatment | None = None,
        *,
        protected: Mask | None = None,
        colour: ColourSpace | None = None,
    ) -> Restoration:
        self.calls += 1
        self.colours.append(colour)
        self.treatments.append(treatment)
        self.protected = protected
        if self.errors:
            raise self.errors.pop(0)
        x0, y0, x1, y1 = REGION
        result = image.copy()
        result[y0:y1, x0:x1] = np.iinfo(image.dtype).max - result[y0:y1, x0:x1]
        marks = ((8.0, 10.0), (14.0, 10.0), (11.0, 14.0), (9.0, 18.0), (13.0, 18.0))
        face = Face((5.0, 7.0, 19.0, 23.0), marks, 0.97)
        outcome = FaceOutcome(face, restored=True, region=REGION, detail=Detail.NETWORK)
        return Restoration(result, (outcome,), {"detect": 0.25, "forward": 0.5})


def png(height: int = 40, width: int = 30) -> bytes:
    """A colour picture as PNG bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Bench:
    """A worker without Celery: its runtime, both stores, and a way to submit photos."""

    runtime: Runtime
    engine: StubEngine
    clock: FakeClock
    masters: MemoryStore
    derivatives: MemoryStore
    job: Job

    def submit(self, files: dict[str, bytes]) -> dict[str, int]:
        """Add photos; return their ids by key."""
        self.masters.objects |= files
        ledger = self.runtime.ledger
        ledger.add_job(self.job)
        ledger.add_photos(self.job.id, [Candidate(key, len(data)) for key, data in files.items()])
        return {photo.key: photo.id for photo in ledger.photos(self.job.id)}


@pytest.fixture
def bench(tmp_path):
    clock = FakeClock()
    masters, derivatives = MemoryStore(), MemoryStore()
    job = Job("album", masters.url, derivatives.url, Recipe())
    engine = StubEngine()
    runtime = Runtime(
        settings=JobSettings(lease_s=60.0, max_attempts=3),
        worker=WorkerSettings(worker_name="w1"),
        ledger=sqlite_ledger(tmp_path / "ledger.sqlite3", clock),
        engine=engine,
        decode=decode,
        stores={masters.url: masters, derivatives.url: derivatives},
    )
    yield Bench(runtime, engine, clock, masters, derivatives, job)
    runtime.ledger.close()


@pytest.fixture
def picture():
    return png()
