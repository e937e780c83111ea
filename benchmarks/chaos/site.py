"""A whole site whose parts may die: real services behind gates, `dispatch`, workers, a supervisor.

Everything runs on this machine, as `make services` runs it. What ends is started again, as systemd
or Compose would, by `look_after`, which has to be called again and again: a child belongs to the
thread that started it.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Self

from benchmarks.chaos.gate import Gate
from benchmarks.chaos.places import Bucket, Folder, Place
from deploy.postgres import Postgres
from deploy.processes import Process, ServiceFailed
from deploy.seaweedfs import SeaweedFS
from deploy.server import Program, Server
from deploy.services import addresses, program
from deploy.valkey import Valkey
from jobs.migrate import migrate

STORE, FOLDER = "store", "folder"
"""The names of the two jobs."""
LANES = 2
LEASE_S = 5.0
VISIBILITY_S = 5.0
SLOW_S = 25.0  # the broker looks for messages to send again every ten seconds
MAX_ATTEMPTS = 3
DISK_MIB = 256
MASTERS, DERIVATIVES = "masters", "derivatives"
_SERVICES = ("broker", "database", "store")
_RESTART_S = 0.5
_READY_S = 120.0
_ROOT = Path(__file__).resolve().parents[2]
_SLEEP_S = 0.1


@dataclass
class Part:
    """A program that is started again when it ends."""

    server: Server
    may_start_at: float | None = None
    """By `time.monotonic`, once its end was noticed."""
    ends: Counter[int] = field(default_factory=Counter)
    """How often it ended, by exit code."""
    kills: int = 0
    """How often it was killed here."""

    @property
    def runs(self) -> bool:
        """Whether it runs."""
        try:
            return self.server.process.exit_code is None
        except ServiceFailed:  # it couldn't be started
            return False

    def kill(self, *, down_s: float) -> None:
        """End it as a power cut would, and leave it so for a while."""
        if self.runs:
            self.server.process.stop(signal.SIGKILL)
            self.kills += 1
            self._note_end(down_s)

    def stop(self) -> None:
        """End it as it wants to be ended, for good."""
        if self.runs:
            self.ends[self.server.process.stop(self.server.stop_signal)] += 1

    def send(self, what: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self.runs:
            os.kill(self.server.process.pid, what)

    def look_after(self) -> None:
        """Start it again if it ended."""
        if self.runs:
            return
        if self.may_start_at is None:
            self._note_end(_RESTART_S)
        elif time.monotonic() >= self.may_start_at:
            self._start()

    def _start(self) -> None:
        self.may_start_at = None
        try:
            self.server.start()
        except ServiceFailed:  # a killed database may be in the way of its successor for a moment
            self.may_start_at = time.monotonic() + _RESTART_S

    def _note_end(self, down_s: float) -> None:
        code = self.server.process.exit_code
        if code is not None:
            self.ends[code] += 1
        self.may_start_at = time.monotonic() + down_s


class Site:
    """Everything that a job needs, and the handles by which it is hurt.

    Args:
        folder: for data and logs.
        workers: so many.
        stub_s: how long the engine of each works on one photo.
    """

    def __init__(self, folder: Path, *, workers: int, stub_s: float) -> None:
        self.folder = folder
        self.disk = folder / "disk"
        """Where the object store's data and the folder of results are: a small disk."""
        self._results = self.disk / "results"
        self._stub_s = stub_s
        self.postgres = Postgres(folder / "postgres")
        self.valkey = Valkey(folder / "valkey")
        self.names = [f"worker-{number}" for number in range(1, workers + 1)]
        self.gates: dict[str, Gate] = {}
        self.parts: dict[str, Part] = {}
        self._services, self._programs = ExitStack(), ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(mounted(self.disk, DISK_MIB))
            self.store = SeaweedFS(self.disk / "store")
            services = {"broker": self.valkey, "database": self.postgres, "store": self.store}
            for name, server in services.items():
                self.parts[name] = Part(stack.enter_context(server))
                self.gates[name] = stack.enter_context(Gate(server.port))
            self.direct = addresses(self.valkey, self.postgres, self.store)
            migrate(self.direct["GPEN_DATABASE_URL"])
            for bucket in (MASTERS, DERIVATIVES):
                self.store.make_bucket(bucket)
            self._services = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._services, self._programs:
            pass

    @property
    def destinations(self) -> dict[str, str]:
        """Where each job delivers, by its name."""
        return {STORE: f"s3://{DERIVATIVES}", FOLDER: str(self._results)}

    def place(self, job_name: str) -> Place:
        """Return a destination as it is."""
        if job_name == FOLDER:
            return Folder(self._results)
        return Bucket(self.store.client(), DERIVATIVES)

    def start_programs(self) -> None:
        """Start `dispatch` and the workers, and wait until they work."""
        self._start("dispatch", ["producer", "dispatch"])
        for name in self.names:
            own = Gate(self.gates["database"].port)
            self.gates[name] = self._programs.enter_context(own)
            self._start(name, ["benchmarks.chaos.worker"])
        for name in self.names:
            process = self.parts[name].server.process
            process.wait_until(partial(_is_ready, process), deadline_s=_READY_S)

    def stop_programs(self) -> None:
        """Stop what was started with them; the services go on."""
        for name in ("dispatch", *self.names):
            self.parts[name].stop()
        self._programs.close()

    def is_whole(self) -> bool:
        """Tell whether everything runs."""
        return all(part.runs for part in self.parts.values())

    def look_after(self) -> None:
        """Start again whatever ended."""
        for part in self.parts.values():
            part.look_after()
        time.sleep(_SLEEP_S)

    def clock_file(self, name: str) -> Path:
        """Return the file that sets a program's clock."""
        return self.folder / f"{name}.clock"

    def log_of(self, name: str) -> str:
        """Return all that a program has logged."""
        return self.parts[name].server.log.read_text(errors="replace")

    def _start(self, name: str, module: Sequence[str]) -> None:
        clock = [sys.executable, "-m", "benchmarks.chaos.clock", str(self.clock_file(name))]
        settings = self._behind_gates(name) | {
            "GPEN_WORKER_NAME": name,
            "GPEN_LANES": str(LANES),
            "GPEN_LEASE_S": str(LEASE_S),
            "GPEN_VISIBILITY_TIMEOUT_S": str(VISIBILITY_S),
            "GPEN_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
            "GPEN_WINDOW": "40",
            "GPEN_LOG_LEVEL": "INFO",
            "GPEN_LOG_FORMAT": "text",
            "GPEN_STUB_S": str(self._stub_s),
            "GPEN_CHAOS_SLOW_S": str(SLOW_S),
            "OMP_NUM_THREADS": "1",
        }
        server: Program = program(self.folder / name, *clock, *module, settings=settings)
        server.directory = _ROOT
        self.parts[name] = Part(self._programs.enter_context(server))

    def _behind_gates(self, program_name: str) -> dict[str, str]:
        """Return the services' addresses as a program is told them."""
        ports = {self.parts[name].server.port: self.gates[name].port for name in _SERVICES}
        if program_name in self.gates:
            ports[self.postgres.port] = self.gates[program_name].port
        found = dict(self.direct)
        for port, gate_port in ports.items():
            found = {
                key: value.replace(f"127.0.0.1:{port}", f"127.0.0.1:{gate_port}")
                for key, value in found.items()
            }
        return found


@contextmanager
def mounted(folder: Path, size_mib: int) -> Iterator[None]:
    """Make the folder a disk of its own size, where that is allowed."""
    folder.mkdir(parents=True)
    if not can_mount():
        yield
        return
    options = ["-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
    subprocess.run(["mount", *options], check=True)  # noqa: S603, S607 - our own arguments
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607


def _is_ready(worker: Process) -> bool:
    return "worker.ready" in worker.output


@cache
def can_mount() -> bool:
    """Tell whether a small disk can be had: root may mount, if it isn't root of a container."""
    command = ["unshare", "--mount", "true"]
    return not subprocess.run(command, check=False, capture_output=True).returncode  # noqa: S603
