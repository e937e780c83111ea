"""Children that decode, kept ready: a file in, a `Photograph` or an error of `jobs.errors` out.

What a child sends is checked like a file from outside: whoever made the master may speak for it.
"""

import contextlib
import fcntl
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from types import TracebackType
from typing import Self

from jobs.errors import (
    DecoderUnavailable,
    JobError,
    PhotoCorrupt,
    PhotoDecoderCrashed,
    PhotoDecoderTimeout,
    PhotoEmpty,
    PhotoTooLarge,
    PhotoTruncated,
    PhotoUnsupported,
    ScratchFull,
)
from jobs.logs import get_logger
from worker.codec import FileBytes, Limits, Photograph, Stored
from worker.decoding import wire
from worker.decoding.budget import Budget
from worker.decoding.channel import Channel, ChannelError
from worker.scratch import DEFAULT, Scratch, map_file

_log = get_logger(__name__)

_PROGRAM = "worker.decoding.child"
_START_S, _END_S = 60.0, 5.0
_PHOTOS_A_CHILD = 500
_LONGEST_MESSAGE = 1000
_LAST_WORDS_BYTES = 300
_OUT_OF_MEMORY = "bad_alloc"
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_KEPT_VARIABLES = ("LANG", "LC_ALL", "PATH", "TZ", "LD_LIBRARY_PATH")
_FEW_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""Each thread takes a part of the address space, which is limited."""
_ERRORS: dict[str, type[JobError]] = {
    kind.code: kind
    for kind in (
        PhotoEmpty,
        PhotoUnsupported,
        PhotoTruncated,
        PhotoCorrupt,
        PhotoTooLarge,
        ScratchFull,
    )
}


class Decoder:
    """Does what `worker.codec.decode` does, in child processes; threads may share it.

    There are as many children as photos are decoded at the same time. One that failed isn't used
    again, whatever the reason: a file that broke something may have broken more.

    Args:
        budget: what decoding one file may take.
        scratch: room for what is decoded.
        ready: so many children are started at once.
        function: what the children call, as `module:name`; tests have others than `decode`.
        photos_a_child: after so many a child is replaced, and what its libraries lost comes back.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        scratch: Scratch = DEFAULT,
        ready: int = 1,
        function: str = "worker.codec:decode",
        photos_a_child: int = _PHOTOS_A_CHILD,
    ) -> None:
        self._budget = budget
        self._scratch = scratch
        self._function = function
        self._photos_a_child = photos_a_child
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._closed = False
        # A child is killed when the *thread* that started it ends: this one stays to the end.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="decoder")
        for _ in range(ready):
            self._idle.append(self._start())

    def __call__(self, data: Stored, *, limits: Limits) -> Photograph:
        """Decode a file.

        Raises:
            PhotoEmpty, PhotoUnsupported, PhotoTruncated, PhotoCorrupt, PhotoTooLarge: as `decode`.
            PhotoTooLarge: decoding takes more memory than it may.
            PhotoDecoderTimeout: it takes longer than it may.
            PhotoDecoderCrashed: the child died of it.
            DecoderUnavailable: no child can be started.
            ScratchFull: there is no room for what is decoded.
        """
        limits = limits.of_file(len(data))
        child = self._take()
        try:
            photograph = child.decode(data, limits, self._budget)
        except BaseException:
            child.end()
            self._put(None)
            raise
        if child.photos < self._photos_a_child and child.is_alive:
            self._put(child)
        else:
            child.end()
            self._put(None)
        return photograph

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all children."""
        with self._lock:
            self._closed = True
            children, self._idle = self._idle, []
        for child in children:
            child.end()
        self._starter.shutdown()

    def _take(self) -> "_Child":
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None:
                return self._start()
            if child.is_alive:
                return child
            child.end()  # somebody killed it while it had nothing to do

    def _put(self, child: "_Child | None") -> None:
        """Put a child back, or a new one in its place, which gets ready meanwhile."""
        if child is None:
            # The next one will tell.
            with contextlib.suppress(DecoderUnavailable, ScratchFull, RuntimeError):
                child = self._start()
        with self._lock:
            if child is not None and not self._closed:
                self._idle.append(child)
                return
        if child is not None:
            child.end()

    def _start(self) -> "_Child":
        try:
            started = self._starter.submit(_Child, self._function, self._budget, self._scratch)
            return started.result()
        except OSError as error:
            raise DecoderUnavailable(f"no decoder can be started: {error}") from error


class _Child:
    """One child process and the socket to it."""

    def __init__(self, function: str, budget: Budget, scratch: Scratch) -> None:
        self._scratch = scratch
        self._disk = scratch.disk_file()
        ours, theirs = socket.socketpair()
        self.photos = 0
        self._is_ready = False
        self._stderr = os.memfd_create("stderr")
        self._channel = Channel(ours)
        command = [str(os.getpid()), str(theirs.fileno()), str(budget.memory_bytes), function]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                [sys.executable, "-P", "-m", _PROGRAM, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                env=_environment(),
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError:
            ours.close()
            os.close(self._stderr)
            self._disk.close()
            raise
        finally:
            theirs.close()
        _log.debug("decoder.started", pid=self._process.pid)

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def decode(self, data: Stored, limits: Limits, budget: Budget) -> Photograph:
        """Have a file decoded; after an error the child is of no use."""
        self._wait_until_ready()
        self.photos += 1
        with _file_of(data) as source, _memory("photograph") as memory:
            request = {
                "limits": asdict(limits),
                "seconds": budget.seconds,
                "memory_bytes": self._scratch.memory_bytes,
            }
            try:
                self._channel.send(request, (source, memory, self._disk.fileno()))
                answer = self._channel.receive(budget.seconds)
            except TimeoutError as error:
                raise PhotoDecoderTimeout(
                    f"decoding took longer than {budget.seconds:g} s (GPEN_DECODE_S)"
                ) from error
            except ChannelError as error:
                raise self._why_gone() from error
            os.ftruncate(self._stderr, 0)
            return self._photograph(answer, memory, limits)

    def _photograph(self, answer: object, memory: int, limits: Limits) -> Photograph:
        """Return what it answered, or raise it."""
        if not isinstance(answer, dict):
            raise PhotoDecoderCrashed("the decoder's answer makes no sense")
        if "error" in answer:
            kind = _ERRORS.get(str(answer["error"]), PhotoDecoderCrashed)
            raise kind(_plain(str(answer.get("message"))))
        try:
            block = _map_sealed(memory), self._map_disk()
            return wire.unpack(answer.get("photograph"), block, limits)
        except (wire.WireError, OSError) as error:
            raise PhotoDecoderCrashed(f"the decoder's answer makes no sense: {error}") from error

    def _map_disk(self) -> memoryview:
        """Return what it wrote on the disk; as that can't be sealed, it is ended first."""
        size = os.fstat(self._disk.fileno()).st_size
        if not size:
            return memoryview(b"")
        with os.fdopen(os.dup(self._disk.fileno()), "rb") as written:
            self.end()
            return memoryview(map_file(written.fileno(), 0, size))

    def end(self) -> None:
        """Kill it; nothing that it does has to be finished."""
        self._channel.close()
        self._process.kill()
        self._process.wait()
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1
            self._disk.close()

    def _wait_until_ready(self) -> None:
        if self._is_ready:
            return
        try:
            self._channel.receive(_START_S)
        except (ChannelError, TimeoutError) as error:
            raise DecoderUnavailable(f"the decoder didn't start: {self._last_words()}") from error
        self._is_ready = True

    def _why_gone(self) -> JobError:
        """Say what a child that is gone died of."""
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return PhotoDecoderCrashed("the decoder doesn't speak as it should")
        words = self._last_words()
        if status == -signal.SIGXCPU:
            return PhotoDecoderTimeout("decoding took more of the processor than it may")
        if status == -signal.SIGKILL or _OUT_OF_MEMORY in words:
            text = "the decoder was killed, most likely because memory ran out (GPEN_DECODE_MEMORY)"
            return PhotoTooLarge(text)
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return PhotoDecoderCrashed(f"the decoder ended with {how}: {words}")

    def _last_words(self) -> str:
        size = os.fstat(self._stderr).st_size
        tail = os.pread(self._stderr, _LAST_WORDS_BYTES, max(0, size - _LAST_WORDS_BYTES))
        return _plain(tail.decode(errors="replace").strip("\0\n ")) or "without a word"


def _map_sealed(memory: int) -> memoryview:
    """Return what a child wrote; from now on it can't be changed or cut, by nobody."""
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
    size = os.fstat(memory).st_size
    if not size:
        return memoryview(b"")
    # Private: whoever works on these samples in place has a copy of what they write to.
    mapped = mmap.mmap(memory, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return memoryview(mapped)


@contextlib.contextmanager
def _memory(name: str) -> Iterator[int]:
    """Yield a file that is nowhere but in memory."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _file_of(data: Stored) -> Iterator[int]:
    """Yield a file that holds some bytes, the one that they come from if there is one."""
    if isinstance(data, FileBytes):
        yield data.file.fileno()
        return
    with _memory("master") as source:
        left = memoryview(data[:])
        while left:
            left = left[os.write(source, left) :]
        yield source


def _environment() -> dict[str, str]:
    """Return what a child needs; the addresses and secrets of services aren't among it."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    path = os.pathsep.join(os.path.abspath(place) for place in sys.path)  # noqa: PTH100 - "" is here
    return kept | _FEW_THREADS | {"PYTHONPATH": path}


def _plain(text: str) -> str:
    """Return what a child says, without what could steer a terminal."""
    text = "".join(char if char.isprintable() else " " for char in text)
    return text[:_LONGEST_MESSAGE]
