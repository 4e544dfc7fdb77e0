"""Answers: JSON bodies, exact error bodies, and the headers that go with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from contract.errors import HTTP_STATUS, ErrorCode, error_body
from sprite.errors import RETRY_AFTER_S
from sprite.jsonvalue import compact

CHUNK_BYTES = 256 * 1024
"""A large body is handed to the server in pieces, so that a slow reader holds the page once, not twice."""

_RETRY_LATER = (ErrorCode.NOT_READY, ErrorCode.IN_FLIGHT)


class JsonResponse(Response):
    """A JSON answer; what JSON cannot carry is mended (see sprite.jsonvalue)."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body: bytes as they are, anything else as compact JSON."""
        return content if isinstance(content, bytes) else encode(content)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer in pieces; each waits until the client took the one before."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = memoryview(bytes(self.body))
        start, more = 0, True
        while more:
            end = start + CHUNK_BYTES
            more = end < len(body)
            await send({"type": "http.response.body", "body": bytes(body[start:end]), "more_body": more})
            start = end


class PageResponse(JsonResponse):
    """A JSON answer that tells when the client has taken it, or is gone."""

    def __init__(self, content: bytes, *, when_sent: Callable[[], None]) -> None:
        super().__init__(content)
        self._when_sent = when_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the page, then call `when_sent`, however it went."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._when_sent()


def encode(value: Any) -> bytes:
    """The bytes of a JSON body. For large values call it in a thread."""
    return compact(value).encode()


def error_response(code: ErrorCode, message: str, *, sprite_id: str, **fields: Any) -> JsonResponse:
    """The contract's error body for `code`, with its status and, where a repetition helps, `Retry-After`."""
    headers: dict[str, str] = {}
    if code in _RETRY_LATER:
        headers["retry-after"] = str(fields.get("retryAfterSeconds", RETRY_AFTER_S))
    if code is ErrorCode.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    body = {**error_body(code, message, **fields), "spriteId": sprite_id}
    return JsonResponse(body, status_code=HTTP_STATUS[code], headers=headers)
