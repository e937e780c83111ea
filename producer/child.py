"""A child process that dies with us: a command and a log file go in, an exit status comes out."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from producer import leash
from producer.stop import StopRequest

_POLL_S = 0.1
_ERROR = " ERROR "
_TAIL_BYTES = 16_384
_URGENT = 2  # the second Ctrl-C means now


class Child:
    """One running program in a session of its own, so that Ctrl-C reaches only us.

    Its standard output and error are appended to `log`. Where we die, it is killed.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative where a signal ended it."""
        return self._process.poll()

    @property
    def last_lines(self) -> list[str]:
        """What this process wrote last, without empty lines."""
        with self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
        return [line.strip() for line in lines if line.strip()]

    @property
    def last_words(self) -> str:
        """The last error that this process logged, or else the last line that it wrote."""
        lines = self.last_lines
        errors = [line.partition(_ERROR)[2] for line in lines if _ERROR in line]
        return (errors or lines or ["no word"])[-1]

    def stop(self, *, grace_s: float, request: StopRequest | None = None) -> None:
        """End it: ask with SIGTERM, and kill it after `grace_s` or at a second request to stop."""
        self._process.terminate()
        deadline = time.monotonic() + grace_s
        while self.exit_status is None and time.monotonic() < deadline:
            if request is None:
                time.sleep(_POLL_S)
            elif request.wait(_POLL_S) and request.count >= _URGENT:
                break
        self._process.kill()
        self._process.wait()
