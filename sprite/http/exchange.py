"""What every exchange goes through: authentication, trace id, one log line, and an orderly end.

An answer may be due before the whole request was read (401, 413, an unexpected body). The connection is then closed
after it, but not at once: what the client still sends is read and thrown away for a moment, because a connection that
is closed on unread bytes is reset, and the client would never see the answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.errors import ErrorCode
from sprite.http.auth import Authenticator
from sprite.http.metrics import Metrics
from sprite.http.requests import RequestProblem, trace_id_of
from sprite.http.responses import error_response
from sprite.http.settings import ServiceSettings

CONNECTION_KEY = "sprite.connection"
"""Where the server puts the connection into the scope, see `sprite.http.protocol`."""

TRACE_KEY = "sprite.trace_id"

_CLIENT_CLOSED_REQUEST = 499
_log = logging.getLogger("sprite.http")


class Connection(Protocol):
    """What the server's connection offers to the application."""

    def hold(self) -> None:
        """Keep the connection even when the server runs short: an authorised request is in progress."""
        ...

    def open_connections(self) -> int:
        """How many connections the server has."""
        ...


class Exchanges:
    """The outermost ASGI layer around the endpoints."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticator: Authenticator,
        sprite_id: str,
        settings: ServiceSettings,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._sprite_id = sprite_id
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope; other than http it goes straight to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        exchange = _Exchange(scope, receive, send, self._sprite_id, self._settings)
        try:
            with self._metrics.request():
                await self._answer(scope, exchange)
        except ClientDisconnect:
            exchange.status = exchange.status or _CLIENT_CLOSED_REQUEST
        except Exception:  # noqa: BLE001  (logged with its traceback)
            # Whatever it is, the client gets the contract's body and the log the traceback.
            _log.exception("unexpected error", extra={"path": scope["path"]})
            await self._answer_unexpected(scope, exchange)
        finally:
            self._metrics.answered(route_of(scope), exchange.status)
            _log_exchange(scope, exchange, started)

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        headers = Headers(scope=scope)
        if not self._authenticator.accepts(scope["headers"]):
            await self._refuse(scope, exchange, ErrorCode.UNAUTHORIZED, "missing or invalid token")
            return
        if "content-length" in headers and "transfer-encoding" in headers:
            # Whoever stands between may end the request elsewhere than we do (RFC 9112, 6.1).
            message = "the request has both Content-Length and Transfer-Encoding, so where it ends is not certain"
            await self._refuse(scope, exchange, ErrorCode.INVALID_REQUEST, message)
            return
        connection: Connection | None = scope.get(CONNECTION_KEY)
        if connection is not None:
            connection.hold()
        try:
            scope[TRACE_KEY] = trace_id_of(headers)
        except RequestProblem as problem:
            await self._refuse(scope, exchange, problem.code, problem.message)
            return
        await self._app(scope, exchange.receive, exchange.send)

    async def _answer_unexpected(self, scope: Scope, exchange: _Exchange) -> None:
        if exchange.status is not None:
            return  # half an answer is out: the server ends the connection, nothing else can say so
        message = "unexpected error in the sprite service; its log has the details"
        await self._refuse(scope, exchange, ErrorCode.RUNTIME_ERROR, message)

    async def _refuse(self, scope: Scope, exchange: _Exchange, code: ErrorCode, message: str) -> None:
        response = error_response(code, message, sprite_id=self._sprite_id)
        await response(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request and its answer on the way through."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, sprite_id: str, settings: ServiceSettings) -> None:
        headers = Headers(scope=scope)
        self.status: int | None = None
        self.request_complete = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self._disconnected = False
        self._receive = receive
        self._send = send
        self._sprite_id = sprite_id
        self._settings = settings

    async def receive(self) -> Message:
        """The application's receive; notes when the request is complete."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._disconnected = True
        elif not message.get("more_body", False):
            self.request_complete = True
        return message

    async def send(self, message: Message) -> None:
        """The application's send; adds the headers every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            await self._send({**message, "headers": [*message.get("headers", []), *self._headers()]})
        elif message.get("more_body", False) or self.request_complete:
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-sprite-id", self._sprite_id.encode()), (b"cache-control", b"private, no-cache")]
        if not self.request_complete:
            headers.append((b"connection", b"close"))
        return headers

    async def _linger(self) -> None:
        left = self._settings.linger_bytes
        try:
            async with asyncio.timeout(self._settings.linger_s):
                while left > 0 and not self.request_complete and not self._disconnected:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


def route_of(scope: Scope) -> str:
    """The path of the request as the documents name it, "none" for one that leads nowhere or was not let in."""
    route = scope.get("route")
    return route.path.replace(":path", "") if isinstance(route, Route) else "none"


def _log_exchange(scope: Scope, exchange: _Exchange, started: float) -> None:
    """One line a request: never the query, a header or a body, because these may hold a secret (D22)."""
    _log.info(
        "request",
        extra={
            "method": scope["method"],
            "path": scope["path"],
            "status": exchange.status,
            "ms": round((time.monotonic() - started) * 1000, 1),
            "traceId": scope.get(TRACE_KEY),
        },
    )
