"""Several photos in hand at once: their faces share a pass of the network, from end to end."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from gpen_engine.batch import Answer, FaceBatcher
from gpen_engine.precision import Precision
from worker.tasks import handle

LANES = 4
DEADLINE_S = 20.0


class Door:
    """A lock that counts who came to it: their faces wait by then."""

    def __init__(self):
        self.came = 0
        self._lock = threading.Lock()
        self._counting = threading.Lock()

    def __enter__(self):
        with self._counting:
            self.came += 1
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


class Together:
    """An engine that hands one face of each photo to a real batcher."""

    def __init__(self, engine, *, limit):
        self.identity = engine.identity
        self.passes = []
        self._engine = engine
        self._door = Door()
        self._batcher = FaceBatcher(
            self._forward, limit=lambda: limit, shrink=lambda _: False, device=self._door
        )

    def restore(self, image, treatment, *, protected, colour):
        face = torch.full((3, 8, 8), float(image[0, 0, 0]))
        (answer,) = self._batcher.restore([face])
        assert torch.equal(answer.face, face)
        return self._engine.restore(image, treatment, protected=protected, colour=colour)

    def _forward(self, faces):
        """Keep the device until all other lanes want it too."""
        end = time.monotonic() + DEADLINE_S
        while not self.passes and self._door.came < LANES:
            assert time.monotonic() < end, "the lanes don't work at the same time"
            time.sleep(0.01)
        self.passes.append({float(face[0, 0, 0]) for face in faces})
        return [Answer(face, Precision.FP32) for face in faces]


def flat(level):
    file = io.BytesIO()
    Image.fromarray(np.full((40, 40, 3), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def deliver(bench, *, limit):
    """Deliver as many photos as there are lanes; return the photos of each pass, by their gray."""
    engine = Together(bench.engine, limit=limit)
    bench.runtime.engine = engine
    ids = bench.submit({f"{level}.png": flat(level) for level in range(LANES)})
    with ThreadPoolExecutor(LANES) as lanes:
        messages = ({"version": 1, "photo_id": photo_id} for photo_id in ids.values())
        ends = list(lanes.map(lambda message: handle(message, bench.runtime), messages))
    assert ends == ["done"] * LANES
    return engine.passes


def test_faces_of_several_photos_share_a_pass_of_the_network(bench):
    first, second = deliver(bench, limit=16)
    assert len(first) == 1
    assert len(second) == LANES - 1


def test_no_pass_has_more_faces_than_fit(bench):
    assert all(len(one) <= 2 for one in deliver(bench, limit=2))
