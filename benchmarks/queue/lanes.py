"""Threads around one engine against processes around one engine's process: docs/adr/0014.

Both do with a photo what a worker does with its message, ledger and stores included, but Celery.
The processes are what prefork with a pipeline inside would come to: each fetches, decodes, encodes
and stores photos, and asks a process of its own for restorations, which has the engine's weights
once. `python -m benchmarks.queue.lanes` runs one of them, for ourselves.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.queue.album import candidates, portraits
from benchmarks.queue.site import Site, middle_rate
from benchmarks.stub import StubEngine
from gpen_engine import EngineIdentity, Restoration, Treatment
from gpen_engine.colour import ColourSpace
from gpen_engine.devices import use_threads
from gpen_engine.faces import Mask, Pixels
from jobs.ledger import Ledger
from jobs.logs import configure
from jobs.settings import JobSettings
from worker.decoding import Decoder
from worker.pipeline import Engine
from worker.runtime import Runtime, load_engine
from worker.settings import WorkerSettings
from worker.tasks import handle

_PHOTOS = {"cores": 200, "balanced": 200, "compact": 60}
_LANES = 4
_FORK = multiprocessing.get_context("fork")


def measure(site: Site) -> dict[str, float]:
    """Return photos a second and memory of both, and what processes gain."""
    numbers: dict[str, float] = {}
    for name in _PHOTOS:
        engine_s = 1 / numbers["cores_threads_per_s"] if name == "balanced" else 0.0
        for way in ("threads", "processes"):
            found = _run(site, way, name, engine_s)
            numbers |= {f"{name}_{way}_{key}": value for key, value in found.items()}
        rates = [numbers[f"{name}_{way}_per_s"] for way in ("processes", "threads")]
        numbers[f"{name}_gain"] = rates[0] / rates[1]
    return numbers


def _run(site: Site, way: str, name: str, engine_s: float) -> dict[str, float]:
    """Run one of them in a process of its own; return what it printed."""
    photos = portraits(_PHOTOS[name])
    job = site.make_job(photos)
    ledger = site.ledger()
    ledger.add_job(job)
    ledger.add_photos(job.id, candidates(photos))
    ids = [ref.id for ref in ledger.publish_next(len(photos))]
    ledger.close()
    engine = "compact" if name == "compact" else str(engine_s)
    command = [sys.executable, "-m", "benchmarks.queue.lanes", way, engine, *map(str, ids)]
    environment = os.environ | site.environment | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)  # noqa: S603 - ours
    found: dict[str, float] = json.loads(done.stdout)
    print(f"{name}, {way}: {found}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Take photos in one of the ways; print photos a second and MiB."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=("threads", "processes"))
    parser.add_argument("engine", help="seconds of a stub, or `compact`")
    parser.add_argument("ids", nargs="+", type=int)
    asked = parser.parse_args()
    use_threads(1)
    configure(level="ERROR")
    seen = _Seen(len(asked.ids))
    run = _with_threads if asked.way == "threads" else _with_processes
    ends = run(asked.ids, lambda: _engine(asked.engine), seen)
    print(json.dumps({"per_s": middle_rate(sorted(ends)), "pss_mib": seen.pss_mib}))


def _engine(wish: str) -> Engine:
    return load_engine(WorkerSettings()) if wish == "compact" else StubEngine(float(wish))


def _runtime(engine: Engine, lanes: int) -> Runtime:
    settings, worker = JobSettings(), WorkerSettings(lanes=lanes)
    scratch = worker.make_scratch()
    decode = Decoder(worker.decode_budget, scratch=scratch, ready=lanes)
    ledger = Ledger(settings.database_url.get_secret_value())
    return Runtime(settings, worker, ledger, engine, decode, scratch)


def _work(photo_id: int, runtime: Runtime) -> float:
    """Do a photo; return when it was done."""
    outcome = handle({"version": 1, "photo_id": photo_id}, runtime)
    if outcome != "done":
        raise SystemExit(f"photo {photo_id} is {outcome}")
    return time.time()


class _Seen:
    """Looks at the memory of this process and all below it when most photos are done."""

    def __init__(self, photos: int) -> None:
        self.pss_mib = 0.0
        self._left = photos * 3 // 4

    def one(self) -> None:
        """A photo is done."""
        self._left -= 1
        if self._left == 0:
            self.pss_mib = _pss_bytes(os.getpid()) / (1 << 20)


def _pss_bytes(pid: int) -> int:
    """Return the share of memory of a process and all that it started (proc(5))."""
    place = Path(f"/proc/{pid}")
    lines = (place / "smaps_rollup").read_text().splitlines()
    own = next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    children = [child for task in place.glob("task/*/children") for child in _words(task)]
    return own + sum(_pss_bytes(int(child)) for child in children)


def _words(path: Path) -> list[str]:
    return path.read_text().split()


def _with_threads(ids: Sequence[int], make: Callable[[], Engine], seen: _Seen) -> list[float]:
    runtime = _runtime(make(), _LANES)
    ends = []
    with ThreadPoolExecutor(_LANES) as lanes:
        for end in lanes.map(lambda photo_id: _work(photo_id, runtime), ids):
            ends.append(end)
            seen.one()
    runtime.decode.close()  # type: ignore[attr-defined]
    return ends


def _with_processes(ids: Sequence[int], make: Callable[[], Engine], seen: _Seen) -> list[float]:
    """Fork the lanes before there is an engine, then serve all of them until they are done."""
    waiting, ended = _FORK.SimpleQueue(), _FORK.SimpleQueue()
    for photo_id in (*ids, *[None] * _LANES):
        waiting.put(photo_id)
    lanes, ends_of_lanes = [], []
    for _ in range(_LANES):
        ours, theirs = _FORK.Pipe()
        lane = _FORK.Process(target=_lane, args=(theirs, waiting, ended), daemon=True)
        lane.start()
        theirs.close()
        lanes.append(lane)
        ends_of_lanes.append(ours)
    engine = make()
    servers = [threading.Thread(target=_serve, args=(engine, ours)) for ours in ends_of_lanes]
    for server in servers:
        server.start()
    ends = []
    for _ in ids:
        ends.append(ended.get())
        seen.one()
    for lane in lanes:
        lane.join()
    for server in servers:
        server.join()
    return ends


def _serve(engine: Engine, lane: Connection) -> None:
    """Restore what one lane sends, until it goes; its picture needn't come back."""
    lane.send(engine.identity)
    while True:
        try:
            image, treatment, protected, colour = lane.recv()
        except EOFError:
            return
        restoration = engine.restore(image, treatment, protected=protected, colour=colour)
        if restoration.canvas is image:
            restoration = replace(restoration, canvas=np.empty((0, 0, 3), image.dtype))
        lane.send(restoration)


def _lane(engine: Connection, waiting: Any, ended: Any) -> None:  # noqa: ANN401 - queues
    far = _FarEngine(engine)
    runtime = _runtime(far, 1)
    while (photo_id := waiting.get()) is not None:
        ended.put(_work(photo_id, runtime))
    runtime.decode.close()  # type: ignore[attr-defined]


class _FarEngine:
    """An engine in another process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.identity: EngineIdentity = connection.recv()

    def restore(
        self,
        image: Pixels,
        treatment: Treatment | None = None,
        *,
        protected: Mask | None = None,
        colour: ColourSpace | None = None,
    ) -> Restoration:
        """Restore the faces of one picture."""
        self._connection.send((np.asarray(image), treatment, protected, colour))
        found: Restoration = self._connection.recv()
        return found if found.canvas.size else replace(found, canvas=image)


if __name__ == "__main__":
    main()
