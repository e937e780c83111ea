"""The program of the child process: files come in, photographs or errors go out, until the end.

`python -m worker.decoding.child PARENT SOCKET MEMORY FUNCTION`. It holds no secret, no store and no
engine. It ends when its parent does, however that goes.
"""

import ctypes
import gc
import importlib
import logging
import math
import os
import resource
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.errors import JobError, PhotoTooLarge
from worker.codec.limits import Limits
from worker.codec.photograph import Photograph
from worker.codec.stored import FileBytes
from worker.decoding import wire
from worker.decoding.arena import Arena
from worker.decoding.channel import Channel, ChannelError

CRASHED = "crashed"
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
_MOST_FILES = 4096  # each map of a page's samples is one

Function = Callable[..., Photograph]


def main(arguments: list[str]) -> None:
    """Decode until the parent goes."""
    parent, end, memory_bytes, function = arguments
    _die_with(int(parent))
    channel = Channel(socket.socket(fileno=int(end)))
    decode = _find(function)
    logging.disable(logging.CRITICAL)  # what matters of a file is in its notes, or an error
    warnings.simplefilter("ignore")
    _limit(int(memory_bytes))
    channel.send("ready")
    while True:
        try:
            message, fds = channel.receive_with_fds()
        except ChannelError:
            return
        channel.send(_answer(decode, message, fds))
        for fd in fds:
            os.close(fd)


def _die_with(parent: int) -> None:
    """Have the kernel kill us when our parent is gone, and give us no more rights than we have."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, int(value), 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it was gone before
        sys.exit(1)


def _find(function: str) -> Function:
    module, _, name = function.partition(":")
    found: Function = getattr(importlib.import_module(module), name)
    return found


def _limit(memory_bytes: int) -> None:
    """Take away what decoding doesn't need; not even we get it back."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    space = pages * resource.getpagesize() + memory_bytes
    for what, most in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_FSIZE, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
    ):
        hard = resource.getrlimit(what)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (allowed, allowed))


def _limit_cpu(seconds: float) -> None:
    """Allow so many seconds of every core from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cores = os.cpu_count() or 1
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds * cores) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _answer(decode: Function, message: object, fds: list[int]) -> object:
    """Decode a file; return the photograph's structure, or why there is none."""
    try:
        request: Any = message  # our parent's
        source, memory, disk = fds
        arena = Arena(memory, disk, memory_bytes=request["memory_bytes"])
        _limit_cpu(request["seconds"])
        structure = _decode(decode, source, Limits(**request["limits"]), arena)
    except JobError as error:
        return {"error": error.code, "message": str(error)}
    except MemoryError:
        return _too_large()
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to know
        return _crashed(error)
    if arena.is_in_use:
        gc.collect()  # a file that is mapped here can't be sealed
    return {"photograph": structure}


def _decode(decode: Function, source: int, limits: Limits, arena: Arena) -> object:
    with open(source, "rb", closefd=False) as file:
        return wire.pack(decode(FileBytes(file), limits=limits, space=arena), arena)


def _too_large() -> object:
    text = "decoding takes more memory than it may (GPEN_DECODE_MEMORY)"
    return {"error": PhotoTooLarge.code, "message": text}


def _crashed(error: Exception) -> object:
    return {"error": CRASHED, "message": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main(sys.argv[1:])
