"""Child processes that never outlive their parent.

In: a command line and a log file. Out: a running process. Linux only: `setpriv`, a part of every
Debian's util-linux, gives the child a parent-death signal, so that not even `kill -9` of the parent
leaves one behind. The signal belongs to the thread that starts a child: that is the main one here.
"""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"
GRPC_OFFSET = 10_000  # SeaweedFS listens there too, counted from each of its ports
_PORTS = range(12_000, 22_000)  # with the offset still below the kernel's ephemeral ports (32768)
_POLL_S = 0.05
_STOP_S = 20.0
_LAST_WORDS_CHARS = 2_000
# The parent may be gone before the signal was asked for: its child has another parent then.
_ONLY_IF_PARENT_LIVES = '[ "$PPID" = "$0" ] && exec "$@"'


class ServiceFailed(Exception):
    """A service didn't start, or ended by itself; the message ends with its last words."""


class ServiceMissing(ServiceFailed):
    """A program isn't installed."""


def free_ports(count: int) -> list[int]:
    """Return different loopback ports that are free now, and so are their gRPC twins."""
    ports: list[int] = []
    candidates = iter(random.sample(_PORTS, len(_PORTS)))
    while len(ports) < count:
        port = next(candidates)
        if _is_free(port) and _is_free(port + GRPC_OFFSET):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def unprivileged_account() -> pwd.struct_passwd | None:
    """Return who a program runs as that refuses root; None where we aren't root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def as_account(account: pwd.struct_passwd) -> list[str]:
    """Return the `setpriv` options that make root this account, but keep root's access to files.

    The checkout and the data may lie in a folder that only root may enter, such as its home.
    """
    kept = "-all,+dac_override"
    identity = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    # Without the fix-up of a user's change, access(2) counts the capability too, as initdb needs.
    bits = "--securebits=+no_setuid_fixup"
    return [bits, *identity, f"--inh-caps={kept}", f"--ambient-caps={kept}"]


class Process:
    """One program: started, waited for, stopped.

    Args:
        command: program and arguments.
        log: file to which its output is appended.
        directory: where it runs.
        environment: added to the parent's.
        privileges: options of `setpriv`.
        on_parent_death: the signal that it gets when the parent ends, however it ends.

    Raises:
        ServiceMissing: there is no `setpriv`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        privileges: Sequence[str] = (),
        on_parent_death: signal.Signals = signal.SIGKILL,
    ) -> None:
        setpriv = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
        if setpriv is None:
            raise ServiceMissing("setpriv isn't installed: it is in Debian's package util-linux")
        leash = [setpriv, f"--pdeathsig={on_parent_death.name}", *privileges, "--"]
        guard = ["/bin/sh", "-c", _ONLY_IF_PARENT_LIVES, str(os.getpid())]
        self._name = Path(command[0]).name
        self._log = log
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._child = subprocess.Popen(  # noqa: S603 - the command lines are this package's own
                [*leash, *guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches only the parent, which stops all in order
            )

    @property
    def pid(self) -> int:
        """The program's own process id."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._child.poll()

    @property
    def output(self) -> str:
        """What it has written so far."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def wait_until(self, ready: Callable[[], bool], *, deadline_s: float) -> None:
        """Return once `ready()` is true.

        Raises:
            ServiceFailed: the program ended before, or the deadline passed; it is killed then.
        """
        end = time.monotonic() + deadline_s
        while not ready():
            if self.exit_code is not None:
                raise self._failure(f"ended with {self.exit_code}")
            if time.monotonic() > end:
                self.stop(signal.SIGKILL)
                raise self._failure(f"wasn't ready after {deadline_s:g} s")
            time.sleep(_POLL_S)

    def finish(self, *, deadline_s: float) -> None:
        """Wait for a program that ends by itself.

        Raises:
            ServiceFailed: it says that it failed, or the deadline passed; it is killed then.
        """
        try:
            code = self._child.wait(deadline_s)
        except subprocess.TimeoutExpired as error:
            self.stop(signal.SIGKILL)
            raise self._failure(f"wasn't ready after {deadline_s:g} s") from error
        if code:
            raise self._failure(f"ended with {code}")

    def stop(self, how: signal.Signals = signal.SIGTERM, *, deadline_s: float = _STOP_S) -> int:
        """Send the signal, wait, kill what is still there at the deadline; return the exit code."""
        self._child.send_signal(how)
        try:
            return self._child.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait()

    def _failure(self, what: str) -> ServiceFailed:
        return ServiceFailed(f"{self._name} {what}:\n{self.output[-_LAST_WORDS_CHARS:].strip()}")
