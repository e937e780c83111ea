"""What one worker process holds: the ledger, the stores, and ONE engine, built first."""

import threading
from dataclasses import dataclass, field

import gpen_engine
from gpen_engine.cache import CacheFolder
from gpen_engine.devices import pick_device
from gpen_engine.memory import measure_budget
from gpen_engine.weights import GPEN_TERMS
from jobs.ledger import Ledger
from jobs.memory import MemoryClass, classes_for
from jobs.settings import JobSettings
from jobs.storage import ObjectStore, open_store
from worker.codec import Decode
from worker.company import Company
from worker.decoding import Decoder
from worker.ending import Ending
from worker.heap import Heap
from worker.lease import Leases
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
    queues: tuple[MemoryClass, ...] = tuple(MemoryClass)
    heap: Heap = field(default_factory=Heap)
    stores: dict[str, ObjectStore] = field(default_factory=dict)
    ending: Ending = field(init=False)
    leases: Leases = field(init=False)
    company: Company = field(default_factory=Company)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.ending = Ending(grace_s=self.worker.grace_s)
        self.leases = Leases(
            self.ledger, lease_s=self.settings.lease_s, longest_s=self.settings.max_photo_s
        )

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


def _room_bytes(worker: WorkerSettings) -> int:
    """Return the memory of the device, as far as it may be used, or the machine's if that's less.

    Raises:
        DeviceError: the device can't be used.
    """
    rooms = [measure_budget(pick_device(name)).total_bytes for name in (worker.device, "cpu")]
    return min(*rooms, worker.vram_limit or rooms[0])


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
        queues=settings.queues or classes_for(_room_bytes(worker)),
        decode=Decoder(worker.decode_budget, scratch=scratch, ready=worker.lanes),
        scratch=scratch,
    )
