"""The proxy itself: raw sockets towards the client, because no HTTP library answers as badly as is wanted here.

One exchange a connection. What is sent on is what came; what comes back is what the service said, unless a fault says
otherwise at that moment. It listens on loopback only and keeps nothing of what passes through, least of all the token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import h11
import httpx

from sprite.drill.altered import altered_events, altered_snapshot
from sprite.drill.faults import Fault, Setting, garbled

HOST = "127.0.0.1"
_CHUNK = 65_536
_DRIP_BYTES = 16
_BACKLOG = 100
_HOP_BY_HOP = frozenset({"connection", "content-length", "expect", "host", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True)
class _Request:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def of(cls, status: int, body: Mapping[str, Any]) -> _Answer:
        return cls(status, [("Content-Type", "application/json")], json.dumps(body).encode())


class ChaosProxy:
    """Stands before the service at `to` (an http URL). `struck` counts the exchanges that each fault has hit."""

    def __init__(self, to: str) -> None:
        self.struck: Counter[Fault] = Counter()
        self._to = to.rstrip("/")
        self._setting = Setting()
        self._changed = asyncio.Event()
        self._port = 0
        self._held: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._client = httpx.AsyncClient(
            timeout=None,  # noqa: S113 - the client at the other end has limits; this side only passes on
            trust_env=False,
            headers={"Accept-Encoding": "identity"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, to: str, *, port: int = 0, setting: Setting | None = None) -> AsyncIterator[Self]:
        """A proxy that listens on `port` of loopback (0: any free one) until the block ends.

        Raises OSError when the port is taken.
        """
        proxy = cls(to)
        proxy._port = port
        try:
            proxy._listen()
            await proxy.set(setting or Setting())
            yield proxy
        finally:
            await proxy._hush()
            if proxy._held:
                proxy._held.close()
            await proxy._client.aclose()

    @property
    def url(self) -> str:
        """Where it listens, or did before it refused."""
        return f"http://{HOST}:{self._port}"

    @property
    def setting(self) -> Setting:
        """What it does now."""
        return self._setting

    async def set(self, setting: Setting) -> None:
        """Do this from now on, also to answers that are on their way.

        Raises OSError when it refused and somebody else has taken the port meanwhile.
        """
        self._setting = setting
        self._changed.set()
        self._changed = asyncio.Event()
        if setting.fault is Fault.REFUSE:
            await self._hush()
        elif self._listener is None:
            self._listen()

    def _hold(self) -> None:
        """Keep the port while the proxy stands: when it refuses, any connection could get it as its source."""
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind((HOST, self._port))
        except OSError:
            held.close()
            raise
        self._port = held.getsockname()[1]
        if sys.platform == "linux":
            self._held = held
        else:  # elsewhere nobody could listen beside it
            held.close()

    def _listen(self) -> None:
        if self._held is None:
            self._hold()
        listener = socket.create_server((HOST, self._port), backlog=_BACKLOG)
        listener.setblocking(False)
        # Not asyncio's server: one that is closed between accepting a connection and serving it leaves it open.
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self._listener = listener

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # gone again
            return
        connection.setblocking(False)
        task = asyncio.create_task(self._connected(connection))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        task.add_done_callback(lambda _: connection.close())

    async def _hush(self) -> None:
        """Close the listening socket and break every connection."""
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        open_now = list(self._connections)
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)

    async def _connected(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            with contextlib.suppress(OSError, h11.RemoteProtocolError):
                request = await _read_request(reader)
                if request is not None:
                    await self._while_connected(reader, self._serve(request, writer))
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _while_connected(self, reader: asyncio.StreamReader, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end, or until the client goes away, which the service shall learn as well."""
        working, gone = asyncio.ensure_future(work), asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, gone):
                task.cancel()
            ended = await asyncio.gather(working, gone, return_exceptions=True)
        if isinstance(ended[0], Exception) and not isinstance(ended[0], OSError | httpx.HTTPError):
            raise ended[0]

    async def _serve(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        setting = self._struck_by(request, only=(Fault.BLACK_HOLE, Fault.DELAY, *_STATUSES))
        if setting.fault is Fault.BLACK_HOLE:
            await self._silence()
            return
        if setting.fault is not None and setting.fault.http_status is not None:
            page = b"<html><body>something before the service</body></html>"
            _write(writer, _Answer(setting.fault.http_status, [("Content-Type", "text/html")], page))
            await writer.drain()
            return
        if setting.fault is Fault.DELAY:
            await asyncio.sleep(setting.delay_s)
        answer = await self._answer(request)
        await self._hand_back(request, answer, writer)

    def _struck_by(self, request: _Request, *, only: tuple[Fault, ...]) -> Setting:
        """The setting as of now if it has a fault of these for this request; it is counted then."""
        setting = self._setting
        if setting.fault not in only or not setting.strikes(request.path):
            return Setting()
        self.struck[setting.fault] += 1
        return setting

    async def _silence(self) -> None:
        """Until something else is set; then the connection ends without a word."""
        await self._changed.wait()

    async def _answer(self, request: _Request) -> _Answer:
        setting = self._struck_by(request, only=(Fault.EDIT_LINE, Fault.DROP_LINE))
        if setting.fault is None or request.path not in ("/ops/events", "/ops/snapshot"):
            return await self._ask(request)
        if request.path == "/ops/snapshot":
            answer = await self._ask(request)
            whole = answer.status == 200
            return _Answer(200, answer.headers, altered_snapshot(answer.body, setting)) if whole else answer

        async def get(query: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
            asked = _Request("GET", f"{request.path}?{httpx.QueryParams(dict(query))}", request.headers, b"")
            answered = await self._ask(asked)
            return answered.status, json.loads(answered.body)

        return _Answer.of(*await altered_events(request.query, get, setting))

    async def _ask(self, request: _Request) -> _Answer:
        headers = [(name, value) for name, value in request.headers if name.lower() not in _HOP_BY_HOP]
        response = await self._client.request(
            request.method, self._to + request.target, headers=headers, content=request.body
        )
        kept = [(name, value) for name, value in response.headers.items() if name not in _HOP_BY_HOP]
        return _Answer(response.status_code, kept, response.content)

    async def _hand_back(self, request: _Request, answer: _Answer, writer: asyncio.StreamWriter) -> None:
        setting = self._struck_by(request, only=_ON_THE_WAY_BACK)
        if setting.fault is Fault.BLACK_HOLE:
            await self._silence()
            return
        answer = _Answer(answer.status, answer.headers, garbled(answer.body, setting))
        if setting.fault is Fault.CUT:
            _write(writer, answer, until=len(answer.body) // 2)
        elif setting.fault is Fault.SLOW_DRIP:
            _write(writer, answer, until=0)
            for begin in range(0, len(answer.body), _DRIP_BYTES):
                await asyncio.sleep(setting.drip_s)
                writer.write(answer.body[begin : begin + _DRIP_BYTES])
                await writer.drain()
        else:
            _write(writer, answer)
        await writer.drain()


_STATUSES = tuple(fault for fault in Fault if fault.http_status is not None)
_ON_THE_WAY_BACK = tuple(
    fault for fault in Fault if not fault.alters_content and fault not in (*_STATUSES, Fault.REFUSE, Fault.DELAY)
)


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    """The request on a new connection; None when the client went away before it was whole."""
    wire, head, body = h11.Connection(h11.SERVER), None, b""
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]
            return _Request(head.method.decode("ascii"), head.target.decode("latin-1"), headers, body)
        else:
            return None


def _write(writer: asyncio.StreamWriter, answer: _Answer, *, until: int | None = None) -> None:
    """Write the head, which announces the whole body, and the body as far as `until`."""
    headers = [*answer.headers, ("Content-Length", str(len(answer.body))), ("Connection", "close")]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    writer.write(f"HTTP/1.1 {answer.status} \r\n{head}\r\n".encode("latin-1") + answer.body[:until])
