"""The program of the child process: files come in, photographs or errors go out, until the end.

`python -m worker.decoding.child PARENT SOCKET MEMORY FUNCTION`. It holds no secret, no store and no
engine. It ends when its parent does, however that goes.
"""

import ctypes
import errno
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

import numpy as np

from jobs.errors import JobError, PhotoTooLarge
from worker.codec.limits import Limits
from worker.codec.photograph import Photograph
from worker.decoding import wire
from worker.decoding.channel import Channel, ChannelError

CRASHED = "crashed"
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
_MOST_FILES = 64
_PIECE_BYTES = 8 << 20
_FULL = {errno.EFBIG, errno.ENOMEM, errno.ENOSPC}

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
        source, target = fds
        answer = _answer(decode, message, source, target)
        os.close(source)
        os.close(target)
        channel.send(answer)


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


def _answer(decode: Function, message: object, source: int, target: int) -> object:
    """Decode a file; return the photograph's structure, or why there is none."""
    try:
        request: Any = message  # our parent's
        limits = Limits(**request["limits"])
        _limit_cpu(request["seconds"])
        photograph = decode(_read(source), limits=limits)
        structure, packing = wire.pack(photograph)
        _write(packing, target)
    except JobError as error:
        return {"error": error.code, "message": str(error)}
    except MemoryError:
        return _too_large()
    except OSError as error:
        return _too_large() if error.errno in _FULL else _crashed(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to know
        return _crashed(error)
    return {"photograph": structure, "bytes": packing.size_bytes}


def _too_large() -> object:
    text = "decoding takes more memory than it may (GPEN_DECODE_MEMORY)"
    return {"error": PhotoTooLarge.code, "message": text}


def _crashed(error: Exception) -> object:
    return {"error": CRASHED, "message": f"{type(error).__name__}: {error}"}


def _read(source: int) -> bytes:
    with open(source, "rb", buffering=0, closefd=False) as file:
        return file.readall()


def _write(packing: wire.Packing, target: int) -> None:
    """Write all parts to their places, a few rows at a time where they aren't in one piece."""
    os.ftruncate(target, packing.size_bytes)
    for at, part in packing.parts:
        os.lseek(target, at, os.SEEK_SET)
        if isinstance(part, bytes):
            _write_all(target, memoryview(part))
            continue
        rows = max(1, _PIECE_BYTES * len(part) // max(1, part.nbytes))
        for top in range(0, len(part), rows):
            band = np.ascontiguousarray(part[top : top + rows])
            _write_all(target, band.reshape(-1).view(np.uint8).data)


def _write_all(target: int, data: memoryview) -> None:
    while data:
        data = data[os.write(target, data) :]


if __name__ == "__main__":
    main(sys.argv[1:])
