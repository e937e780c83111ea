"""Messages between a worker and its child: JSON with its length in front, over a stream socket.

What comes from the other side is believed to be nothing: JSON that is short enough, or an error.
"""

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LENGTH = struct.Struct("!I")
_LONGEST_BYTES = 64 << 20
_MAX_FDS = 3


class ChannelError(Exception):
    """The other side is gone, or doesn't speak as it should."""


class Channel:
    """One end of a pair of sockets."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, message: object, fds: tuple[int, ...] = ()) -> None:
        """Send a message, with files.

        Raises:
            ChannelError: the other side is gone.
        """
        data = json.dumps(message).encode()
        self._end.settimeout(None)
        try:
            socket.send_fds(self._end, [_LENGTH.pack(len(data))], list(fds))
            self._end.sendall(data)
        except OSError as error:
            raise ChannelError(f"nothing can be sent: {error}") from error

    def receive(self, within_s: float | None = None) -> object:
        """Return the next message; of files that came with it nothing is kept.

        Raises:
            ChannelError: the other side is gone, or what it sends isn't a message.
            TimeoutError: it isn't there in time.
        """
        deadline = None if within_s is None else time.monotonic() + within_s
        with _translated():
            return self._read_message(b"", deadline)

    def receive_with_fds(self) -> tuple[object, list[int]]:
        """Return the next message and the files that came with it, which are the caller's to close.

        Only for who believes the other side. Raises as `receive`.
        """
        with _translated():
            self._wait_until(None)
            start, fds, _, _ = socket.recv_fds(self._end, _LENGTH.size, _MAX_FDS)
            try:
                return self._read_message(start, None), fds
            except BaseException:
                for fd in fds:
                    os.close(fd)
                raise

    def close(self) -> None:
        """Close this end; the other one notices."""
        self._end.close()

    def _read_message(self, start: bytes, deadline: float | None) -> object:
        """Return a message of which the start may have been read."""
        start += self._read(_LENGTH.size - len(start), deadline)
        (length,) = _LENGTH.unpack(start)
        if length > _LONGEST_BYTES:
            raise ChannelError(f"a message of {length} bytes")
        return json.loads(self._read(length, deadline))

    def _read(self, size: int, deadline: float | None) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait_until(deadline)
            part = self._end.recv(min(size - len(data), 1 << 20))
            if not part:
                raise ChannelError("the other side is gone")
            data += part
        return bytes(data)

    def _wait_until(self, deadline: float | None) -> None:
        if deadline is None:
            self._end.settimeout(None)
            return
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._end.settimeout(left_s)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ChannelError(f"no message came: {error}") from error
