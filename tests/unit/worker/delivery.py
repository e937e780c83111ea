"""One file through the whole pipeline, with an engine that inverts a box of it."""

import json
from dataclasses import dataclass

from jobs.recipe import Recipe
from jobs.schema import Claim, Job
from jobs.testing import MemoryStore
from tests.unit.worker.conftest import REGION, StubEngine
from worker.codec import Limits, decode
from worker.pipeline import run
from worker.stages import Stages

MAX_PIXELS = 100_000_000
LEFT, TOP, RIGHT, BOTTOM = REGION
BOX = slice(TOP, BOTTOM), slice(LEFT, RIGHT)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of a master."""

    master: bytes
    derivative: bytes
    key: str
    notes: tuple[str, ...]


def deliver(key: str, master: bytes) -> Delivered:
    """Have a worker's pipeline restore a master; what it refuses is raised."""
    masters, derivatives = MemoryStore({key: master}), MemoryStore()
    job = Job("corpus", masters.url, derivatives.url, Recipe())
    outcome = run(
        Claim(photo_id=1, key=key, token="t", attempt=1, worker="w1", job=job),
        masters=masters,
        derivatives=derivatives,
        engine=StubEngine(),
        decode=decode,
        limits=Limits(MAX_PIXELS),
        stages=Stages(),
    )
    assert masters.objects == {key: master}
    sidecar = json.loads(derivatives.objects[outcome.sidecar_key])
    derivative = derivatives.objects[outcome.derivative_key]
    return Delivered(master, derivative, outcome.derivative_key, tuple(sidecar["notes"]))
