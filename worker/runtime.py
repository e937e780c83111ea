"""What one worker process holds: the ledger, the stores, and ONE engine, built first."""

import threading
from dataclasses import dataclass, field

import gpen_engine
from gpen_engine.cache import CacheFolder
from gpen_engine.weights import GPEN_TERMS
from jobs.ledger import Ledger
from jobs.settings import JobSettings
from jobs.storage import ObjectStore, open_store
from worker.codec import Decode
from worker.decoding import Decoder
from worker.pipeline import Engine
from worker.scratch import DEFAULT, Scratch
from worker.settings import WorkerSettings


@dataclass(slots=True)
class Runtime:
    """Shared by the process's lanes."""

    settings: JobSettings
    worker: WorkerSettings
    ledger: Ledger
    engine: Engine
    decode: Decode
    scratch: Scratch = DEFAULT
    stores: dict[str, ObjectStore] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def store(self, url: str) -> ObjectStore:
        """Return the store at an address, the same one each time."""
        with self._lock:
            if url not in self.stores:
                self.stores[url] = open_store(url, self.settings)
            return self.stores[url]


def load_engine(settings: WorkerSettings) -> gpen_engine.Restorer:
    """Build the engine that the settings ask for.

    Raises:
        GpenError: weights or device can't be used.
    """
    return gpen_engine.load(
        settings.weights,
        device=settings.device,
        precision=settings.precision,
        folder=settings.weights_dir,
        accept_terms=GPEN_TERMS if settings.accept_gpen_terms else False,
        vram_limit_bytes=settings.vram_limit,
        background=settings.background,
        cache=CacheFolder(settings.face_cache, settings.face_cache_limit)
        if settings.face_cache
        else None,
    )


def build_runtime(settings: JobSettings, worker: WorkerSettings) -> Runtime:
    """Build everything a worker needs, and make sure that the ledger can be reached.

    Raises:
        GpenError: weights or device can't be used.
        DatabaseUnavailable: the ledger can't be reached or isn't migrated.
    """
    ledger = Ledger(settings.database_url.get_secret_value())
    ledger.check()
    scratch = worker.make_scratch()
    return Runtime(
        settings=settings,
        worker=worker,
        ledger=ledger,
        engine=load_engine(worker),
        decode=Decoder(worker.decode_budget, scratch=scratch, ready=worker.lanes),
        scratch=scratch,
    )
