"""Serving the application: socket, uvicorn with our limits, and a shutdown that waits for nobody but a command.

Starlette and uvicorn, because the service is a handful of routes under asyncio: the smallest well-kept pair that
streams bodies and lets its connections be limited (sprite.http.protocol). h11, because it is strict about framing.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from sprite.control import SpriteController
from sprite.http.app import create_app
from sprite.http.protocol import bounded_protocol
from sprite.http.settings import ServiceSettings
from sprite.reader import SpriteReader

_HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SPARE_DESCRIPTORS = 256
"""For everything but connections: files being read, pipes and locks of commands, the event loop itself."""
_BURSTS_AT_ONCE = 4
"""Turns of the event loop from accepting a connection until the one it pushes out has given its descriptor back."""
_DATE_HEADER_S = 1.0
"""How often uvicorn's tick has to run: it keeps the Date header."""


class BindFailed(Exception):
    """The address cannot be listened on; the message says which and why."""


def bind(host: str, port: int, *, backlog: int = ServiceSettings.backlog) -> socket.socket:
    """A listening socket on `host` (a name or an IPv4 or IPv6 address) and `port` (0: any free one).

    Raises:
        BindFailed: The address is unknown, taken, or not ours.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BindFailed(f"cannot listen on {host}: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise BindFailed(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    return listener


def address_of(listener: socket.socket) -> tuple[str, int]:
    """Host and port a socket listens on, the host ready for a URL."""
    host, port = listener.getsockname()[:2]
    return (f"[{host}]" if ":" in host else str(host)), int(port)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


class SpriteServer(uvicorn.Server):
    """uvicorn's server, stopped by SIGTERM or SIGINT as a success: `stopping` is set, requests end, `serve` returns.

    `when_started` is called once connections are accepted and signals are handled.
    """

    def __init__(
        self,
        app: Starlette,
        settings: ServiceSettings,
        stopping: asyncio.Event,
        *,
        when_started: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=bounded_protocol(settings),
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                # asyncio accepts this many at a time as well, so `startup` sets the length of the queue.
                backlog=settings.accept_burst,
                timeout_keep_alive=int(settings.keep_alive_s),
                timeout_graceful_shutdown=int(settings.graceful_s),
            )
        )
        self._backlog = settings.backlog
        self._stopping = stopping
        self._when_started = when_started
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(self._backlog)
        self._when_started()

    async def main_loop(self) -> None:
        """Wait to be stopped. uvicorn's own loop wakes ten times a second; a sleeping sprite is to be left asleep."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _DATE_HEADER_S)

    def stop(self) -> None:
        """Stop accepting, end the waits, finish what runs. From the event loop's thread."""
        self._stopping.set()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: stop; a second SIGINT does not wait for anybody."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle the signals while serving; unlike uvicorn's, never raise them again: being stopped is no failure."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def fitting(settings: ServiceSettings, descriptor_limit: int) -> ServiceSettings:
    """`settings` for a process that may have `descriptor_limit` open files, whoever floods it with connections."""
    room = descriptor_limit - min(_SPARE_DESCRIPTORS, descriptor_limit // 4)
    burst = max(1, min(settings.accept_burst, room // (4 * _BURSTS_AT_ONCE)))
    closing = min(settings.max_closing, room // 4)
    connections = min(settings.max_connections, room - closing - _BURSTS_AT_ONCE * burst)
    return replace(settings, max_connections=connections, max_closing=closing, accept_burst=burst)


def serve(
    reader: SpriteReader,
    controller: SpriteController,
    token: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    settings: ServiceSettings | None = None,
    announce: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve a repo until SIGTERM or SIGINT; a command that runs then is brought to its end.

    Args:
        port: 0 takes a free one.
        announce: Called with the base URL once requests are answered.

    Raises:
        BindFailed: The address cannot be listened on.
        TokenInvalid: The token cannot be used.
    """
    limits = fitting(settings or ServiceSettings(), raise_descriptor_limit())
    stopping = asyncio.Event()
    app = create_app(reader, controller, token, settings=limits, stopping=stopping)
    listener = bind(host, port, backlog=limits.backlog)
    url = "http://{}:{}".format(*address_of(listener))
    server = SpriteServer(app, limits, stopping, when_started=lambda: announce(url))
    try:
        asyncio.run(server.serve([listener]))
    finally:
        listener.close()
        controller.close()
