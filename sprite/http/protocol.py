"""Connections with limits: uvicorn's h11 protocol, and what it leaves unbounded (D21).

uvicorn never times out a request head that does not come to its end, nor a client that does not read its answer, and
answers too many connections by refusing new ones. Here a flood of idle or slow connections pushes out its own: when
the limit is reached, the oldest connection without an authorised request in progress has to go.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from contract.errors import HTTP_STATUS, ErrorCode, error_body
from sprite.errors import RETRY_AFTER_S
from sprite.http.exchange import CONNECTION_KEY
from sprite.http.settings import ServiceSettings

_REASONS = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}
_ABORT_AFTER_S = 2.0
"""How long a connection being closed may take to take its last bytes and say goodbye."""

_log = logging.getLogger("sprite.http")


def bounded_protocol(settings: ServiceSettings) -> type[H11Protocol]:
    """A protocol class whose connections share the limits of `settings`."""
    shared = {"limits": settings, "served": set(), "evictable": OrderedDict(), "closing": OrderedDict()}
    return type("BoundedProtocol", (_BoundedProtocol,), shared)


class _BoundedProtocol(H11Protocol):
    limits: ClassVar[ServiceSettings]
    served: ClassVar[set[_BoundedProtocol]]
    """Connections that were not refused."""
    evictable: ClassVar[OrderedDict[_BoundedProtocol, None]]
    """Those without an authorised request in progress, the one that has waited longest first."""
    closing: ClassVar[OrderedDict[_BoundedProtocol, None]]
    """Refused connections that may still take their last bytes, the oldest first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._refused = False
        application = self.app

        async def with_connection(scope: Any, receive: Any, send: Any) -> None:
            scope[CONNECTION_KEY] = self
            await application(scope, receive, send)

        self.app = with_connection

    # What the application may ask of its connection (sprite.http.exchange.Connection)

    def hold(self) -> None:
        """Keep this connection: an authorised request is in progress."""
        self.evictable.pop(self, None)

    def open_connections(self) -> int:
        """How many connections the server has."""
        return len(self.connections)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.served.add(self)
        if len(self.served) > self.limits.max_connections and not self._make_room():
            _log.warning("connection refused: all are busy", extra={"connections": len(self.connections)})
            self._refuse(ErrorCode.NOT_READY, "too many connections; try again")
            return
        self.evictable[self] = None
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return  # thrown away until the client has seen the refusal
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.served.discard(self)
        self.evictable.pop(self, None)
        self.closing.pop(self, None)
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self.loop.call_later(self.limits.write_window_s, self.transport.abort)
        if self._waits_for_head() and not self._refused and not self.transport.is_closing():
            self.evictable[self] = None
            self.evictable.move_to_end(self)

    # Too many connections

    def _make_room(self) -> bool:
        if not self.evictable:
            return False
        oldest, _ = self.evictable.popitem(last=False)
        oldest._refuse(ErrorCode.NOT_READY, "too many connections; this one waited longest without a request")
        return True

    # Slow heads

    def _waits_for_head(self) -> bool:
        return not self._has_cycle() or self.cycle.response_complete

    def _has_cycle(self) -> bool:
        return self.__dict__.get("cycle") is not None  # uvicorn declares it otherwise, but starts with None

    def _watch_head(self) -> None:
        """A timer runs from the first byte of a request (or the connection) until its head is complete."""
        if not self._waits_for_head() or self._refused:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_timeout_s, self._head_timed_out)

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if self.conn.trailing_data[0]:
            message = f"the request head was not complete within {self.limits.head_timeout_s:g} s"
            self._refuse(ErrorCode.REQUEST_TIMEOUT, message)
        else:
            self._close()

    # Answers without the application

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or break off when an answer is already on its way."""
        self._refuse(ErrorCode.INVALID_REQUEST, f"not a valid HTTP request ({msg})")

    def _refuse(self, code: ErrorCode, message: str) -> None:
        """Send an error body outside of h11, whatever state that is in, and close."""
        self._refused = True
        self.served.discard(self)
        self.evictable.pop(self, None)
        self._watch_head()
        if self._has_cycle():
            # The application must not answer as well.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(_raw_answer(code, message))
        self._close()
        self.closing[self] = None
        if len(self.closing) > self.limits.max_closing:
            oldest, _ = self.closing.popitem(last=False)
            oldest.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that stayed idle after an answer."""
        self._close()

    def _close(self) -> None:
        """Close after what is buffered, and for certain: a peer that does not read would keep it open for ever."""
        if self.transport.is_closing():
            return
        unread = self._has_cycle() or bool(self.conn.trailing_data[0])
        if self._refused and unread and self.transport.can_write_eof():
            self._close_our_side()
        else:
            self.transport.close()
        self.loop.call_later(_ABORT_AFTER_S, self.transport.abort)

    def _close_our_side(self) -> None:
        """Only that for now: closing on unread bytes resets the connection, and the answer is lost."""
        try:
            self.transport.write_eof()
        except OSError:
            # The other side has gone already, and the event loop does not know yet.
            self.transport.abort()
        else:
            self.loop.call_later(_ABORT_AFTER_S / 2, self.transport.close)

    # Slow readers

    def pause_writing(self) -> None:
        """The client does not keep up: from now on it has to take a minimum per window."""
        super().pause_writing()
        self._watch_write(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client caught up."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _watch_write(self, waiting: int) -> None:
        self._write_timer = self.loop.call_later(self.limits.write_window_s, self._check_write, waiting)

    def _check_write(self, waited: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waited - waiting < min(self.limits.min_write_bytes, waited):
            _log.warning("connection dropped: the client does not read its answer", extra={"waiting": waiting})
            self.transport.abort()
        else:
            self._watch_write(waiting)


def _raw_answer(code: ErrorCode, message: str) -> bytes:
    status = HTTP_STATUS[code]
    body = json.dumps(error_body(code, message)).encode()
    retry = f"Retry-After: {RETRY_AFTER_S}\r\n" if status == HTTP_STATUS[ErrorCode.NOT_READY] else ""
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"{retry}Connection: close\r\n\r\n"
    )
    return head.encode() + body
