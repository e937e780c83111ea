"""Messages between a worker and its child: JSON with its length in front, over a stream socket.

What comes from the other side is believed to be nothing: JSON that is short enough, or an error.
"""

import json
import socket
import struct
import time

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
        """Return the next message.

        Raises:
            ChannelError: the other side is gone, or what it sends isn't a message.
            TimeoutError: it isn't there in time.
        """
        return self.receive_with_fds(within_s)[0]

    def receive_with_fds(self, within_s: float | None = None) -> tuple[object, list[int]]:
        """Return the next message and the files that came with it; raises as `receive`."""
        deadline = None if within_s is None else time.monotonic() + within_s
        try:
            self._wait_until(deadline)
            start, fds, _, _ = socket.recv_fds(self._end, _LENGTH.size, _MAX_FDS)
            start += self._read(_LENGTH.size - len(start), deadline) if start else b""
            if not start:
                raise ChannelError("the other side is gone")
            (length,) = _LENGTH.unpack(start)
            if length > _LONGEST_BYTES:
                raise ChannelError(f"a message of {length} bytes")
            return json.loads(self._read(length, deadline)), fds
        except TimeoutError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise ChannelError(f"no message came: {error}") from error

    def close(self) -> None:
        """Close this end; the other one notices."""
        self._end.close()

    def _read(self, size: int, deadline: float | None) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait_until(deadline)
            part = self._end.recv(min(size - len(data), 1 << 20))
            if not part:
                raise ChannelError("the other side went in the middle of a message")
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
