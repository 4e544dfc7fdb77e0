"""A wire that can be plugged elsewhere: forwards connections to a port, and breaks those that are open at a change.

It can fall silent as well: connections stay and are accepted, and nothing comes through any more.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Wire:
    """Listens on a port and forwards to the one it is plugged into. `sent` is what went in that direction."""

    def __init__(self, server: asyncio.Server | None = None) -> None:
        self.sent = b""
        self._server = server
        self._target = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def plug(self, port: int) -> None:
        """Forward to `port` from now on."""
        self._target = port
        for writer in self._open:
            writer.close()

    def fall_silent(self) -> None:
        """Let nothing through any more."""
        self._flowing.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._open |= {writer, back}
        try:
            await asyncio.gather(self._copy(reader, back, forth=True), self._copy(there, writer))
        finally:
            self._open -= {writer, back}

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, forth: bool = False) -> None:
        try:
            while data := await source.read(65_536):
                await self._flowing.wait()
                self.sent += data if forth else b""
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
            with contextlib.suppress(OSError):
                await sink.wait_closed()

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator["Wire"]:
        """A wire into `port`."""
        wire = cls()
        wire._server = await asyncio.start_server(wire._connected, "127.0.0.1", 0)
        wire.plug(port)
        try:
            yield wire
        finally:
            wire._server.close()
            wire._flowing.set()
            wire.plug(0)
            await wire._server.wait_closed()
