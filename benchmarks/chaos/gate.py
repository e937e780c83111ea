"""A network that stalls: a TCP port before a server's own, which may hold back every byte.

Connections stay open while the gate is closed, and new ones are taken: as with a cable that was
pulled, nobody is told anything.
"""

import asyncio
import threading
from contextlib import closing, suppress
from typing import Self

from deploy.processes import LOOPBACK, free_ports

_PIECE_BYTES = 1 << 16


class Gate:
    """Hands bytes to and fro between its own `port` and a server's, in a thread of its own."""

    def __init__(self, server_port: int) -> None:
        (self.port,) = free_ports(1)
        self._server_port = server_port
        self._opened, self._ended = asyncio.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._listens = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="gate")

    def __enter__(self) -> Self:
        self._thread.start()
        self._listens.wait()
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def open(self) -> None:
        """Let everything through, first of all what was held back."""
        self._loop.call_soon_threadsafe(self._opened.set)

    def close(self) -> None:
        """Hold everything back."""
        self._loop.call_soon_threadsafe(self._opened.clear)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with await asyncio.start_server(self._connect, LOOPBACK, self.port):
            self._listens.set()
            await self._ended.wait()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError, asyncio.CancelledError):
            await self._opened.wait()
            there, thither = await asyncio.open_connection(LOOPBACK, self._server_port)
            with closing(thither):
                ways = self._hand_on(reader, thither), self._hand_on(there, writer)
                await asyncio.gather(*ways)

    async def _hand_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Hand bytes on until one side has no more; then the other is told so."""
        with closing(target), suppress(OSError):
            while piece := await source.read(_PIECE_BYTES):
                await self._opened.wait()
                target.write(piece)
                await target.drain()
