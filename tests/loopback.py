"""HTTP services as somebody else would write them: stopped and started again at the same loopback port."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.ports import free_port


class QuietHandler(BaseHTTPRequestHandler):
    """Says nothing; `self.server.owner` is the service whose request it is."""

    server: "_Server"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@dataclass(kw_only=True)
class LoopbackService:
    """What a service is besides its answers, which `handler` gives."""

    port: int = field(default_factory=free_port)
    _server: ThreadingHTTPServer | None = None
    _released: threading.Event = field(default_factory=threading.Event)

    @property
    def handler(self) -> type[QuietHandler]:
        """What answers a request."""
        raise NotImplementedError

    def start(self) -> None:
        """Listen, at the same port every time."""
        self._released = threading.Event()
        self._server = server = _Server(self)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections; requests that hang are let go."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def hang_up(self, seconds: float = 60.0) -> None:
        """Stay silent until the service is stopped."""
        self._released.wait(seconds)

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Started for the block."""
        self.start()
        try:
            yield self
        finally:
            self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: LoopbackService) -> None:
        self.owner: Any = owner
        super().__init__(("127.0.0.1", owner.port), owner.handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about clients that went away."""
