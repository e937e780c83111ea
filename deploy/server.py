"""What all servers share: a folder with data, secret and log, a way to start and a way to stop.

In: a folder (data that lies there is used again) and, where wished, a port. Out: a server that
answers on loopback until it is stopped.
"""

import importlib.util
import os
import secrets
import signal
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from deploy.processes import Process, ServiceFailed, ServiceMissing, free_ports


def installed_file(package: str, pattern: str) -> Path:
    """Return a file of an installed package; the package isn't imported.

    Raises:
        ServiceMissing: there is none.
    """
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations or [] if spec else []
    for folder in folders:
        for path in Path(folder).glob(pattern):
            return path
    raise ServiceMissing(f"{package} isn't installed: pip install '.[dev]'")


def installed_script(name: str) -> Path:
    """Return a program from the environment's folder of programs.

    Raises:
        ServiceMissing: it isn't there.
    """
    path = Path(sysconfig.get_path("scripts"), name)
    if not path.exists():
        raise ServiceMissing(f"{name} isn't installed: pip install '.[dev]'")
    return path


def keep_secret(path: Path) -> str:
    """Return the secret in the file, which is made on first use."""
    if not path.exists():
        write_private(path, secrets.token_hex(16))
    return path.read_text()


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner may read: there are secrets in it."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return path


class Server(ABC):
    """Start, wait until it answers, stop; usable in a `with` statement, and startable again."""

    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL
    ready_s: ClassVar[float] = 60.0  # for a busy machine; what can't start says so at once

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_ports(1)[0]
        self.log = self.folder / "log"
        self.directory = self.folder
        self._process: Process | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the command line; files that it needs are written here."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether a client would be served."""

    def environment(self) -> dict[str, str]:
        """Return what the server gets besides the parent's environment."""
        return {}

    def privileges(self) -> list[str]:
        """Return options of `setpriv`."""
        return []

    @property
    def process(self) -> Process:
        """The running server.

        Raises:
            ServiceFailed: it isn't started.
        """
        if self._process is None:
            raise ServiceFailed(f"{type(self).__name__} isn't started")
        return self._process

    def start(self) -> Self:
        """Return when clients are served.

        Raises:
            ServiceMissing: it isn't installed.
            ServiceFailed: it can't be started; nothing of it runs then.
        """
        self._process = self.run(self.command(), on_parent_death=self.death_signal)
        try:
            self._process.wait_until(self.answers, deadline_s=self.ready_s)
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        return self

    def run(
        self, command: Sequence[str], *, on_parent_death: signal.Signals = signal.SIGKILL
    ) -> Process:
        """Start a program as the server itself is started."""
        return Process(
            command,
            log=self.log,
            directory=self.directory,
            environment=self.environment(),
            privileges=self.privileges(),
            on_parent_death=on_parent_death,
        )

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it; `how` replaces its own way of stopping, such as SIGKILL for an accident."""
        if self._process is not None:
            self._process.stop(how or self.stop_signal)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class Program(Server):
    """One of our own programs that listens nowhere, such as the dispatcher or a worker.

    Args:
        folder: where its log lies.
        command: program and arguments.
        environment: added to the parent's.
        ready_text: it is ready once it has logged this.
    """

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        ready_text: str = "",
    ) -> None:
        super().__init__(folder)
        self.directory = Path.cwd()  # its settings may hold relative paths
        self._command = command
        self._environment = environment
        self._ready_text = ready_text

    def command(self) -> Sequence[str]:
        """Return the command line."""
        return self._command

    def environment(self) -> dict[str, str]:
        """Return the services' addresses."""
        return dict(self._environment)

    def answers(self) -> bool:
        """Tell whether it said that it is ready."""
        return self._ready_text in self.process.output
