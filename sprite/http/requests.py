"""Reading requests: query parameters, trace ids and bodies, each problem an exact 400, 408 or 413."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from contract.envelopes import MAX_CHAINS
from contract.errors import ErrorCode
from contract.identifiers import check_loop_id
from sprite.http.settings import ServiceSettings

MAX_TRACE_ID_CHARS = 128

_INTEGER = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,9}(\.[0-9]{0,9})?", re.ASCII)
_LINE = re.compile(r"[0-9]{1,15}", re.ASCII)
_CHAIN = re.compile(r"[0-9a-f]{64}")
_TRACE_ID = re.compile(rf"[\x21-\x7e]{{1,{MAX_TRACE_ID_CHARS}}}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class RequestProblem(Exception):
    """A request that is refused before anything is read or done."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> RequestProblem:
    """A 400 `invalid_request`."""
    return RequestProblem(ErrorCode.INVALID_REQUEST, message)


def integer_parameter(query: QueryParams, name: str, default: int) -> int:
    """A non-negative integer of the query; raises RequestProblem in the words recorded from peers."""
    text = query.get(name)
    if text is None:
        return default
    if not _INTEGER.fullmatch(text):
        raise invalid(f"query parameter '{name}' must be an integer")
    if int(text) < 0:
        raise invalid(f"query parameter '{name}' must be >= 0")
    return int(text)


def flag_parameter(query: QueryParams, name: str) -> bool:
    """`true` or `false` (the default); raises RequestProblem for anything else."""
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise invalid(f"query parameter '{name}' must be true or false")
    return text == "true"


def lines_parameter(query: QueryParams, name: str) -> tuple[int, ...]:
    """Line numbers, separated by commas; raises RequestProblem for anything else, and for more than MAX_CHAINS."""
    text = query.get(name)
    if not text:
        return ()
    numbers = text.split(",", MAX_CHAINS)
    if len(numbers) > MAX_CHAINS or not all(_LINE.fullmatch(number) for number in numbers):
        raise invalid(f"query parameter '{name}' must be at most {MAX_CHAINS} line numbers, separated by commas")
    return tuple(map(int, numbers))


def wait_parameter(query: QueryParams, settings: ServiceSettings) -> float:
    """`waitSeconds`, capped; raises RequestProblem for anything but a non-negative number."""
    text = query.get("waitSeconds")
    if text is None:
        return 0.0
    if not _NUMBER.fullmatch(text):
        raise invalid("query parameter 'waitSeconds' must be a number of seconds")
    if float(text) < 0:
        raise invalid("query parameter 'waitSeconds' must be >= 0")
    return min(float(text), settings.max_wait_s)


def etag_value(text: str) -> str:
    """The opaque value of an entity tag, however a client wrote it: `W/"x"`, `"x"` or `x`."""
    return text.strip().removeprefix("W/").strip('"')


def etag_matches(if_none_match: str | None, etag: str) -> bool:
    """Whether an `If-None-Match` header names `etag` (weak comparison, as RFC 9110 wants it there)."""
    if if_none_match is None:
        return False
    return any(tag.strip() == "*" or etag_value(tag) == etag for tag in if_none_match.split(","))


@dataclass(frozen=True)
class EventsQuery:
    """The parameters of `GET /ops/events`; unknown ones are ignored, as peers do."""

    loop_id: str
    cursor: int
    max_events: int
    wait_s: float
    chain: str | None
    snapshot_etag: str | None
    rehash: bool
    chain_at: tuple[int, ...]

    @classmethod
    def read(cls, query: QueryParams, settings: ServiceSettings) -> EventsQuery:
        """Parse and check; raises RequestProblem or IdentifierInvalid."""
        loop_id = check_loop_id(query.get("loopId"))
        cursor = integer_parameter(query, "cursor", 0)
        max_events = integer_parameter(query, "maxEvents", 0)
        chain = query.get("chain")
        if chain is not None and not _CHAIN.fullmatch(chain):
            raise invalid("query parameter 'chain' must be 64 lower-case hex digits")
        etag = query.get("snapshotEtag")
        return cls(
            loop_id=loop_id,
            cursor=cursor,
            max_events=min(max_events or settings.page_max_events, settings.page_max_events),
            wait_s=wait_parameter(query, settings),
            chain=chain,
            snapshot_etag=etag_value(etag) if etag else None,
            rehash=flag_parameter(query, "rehash"),
            chain_at=lines_parameter(query, "chainAt"),
        )


def trace_id_of(headers: Headers) -> str | None:
    """The trace id of a request: `X-Trace-Id`, else that of a W3C `traceparent`, else None.

    Raises RequestProblem for an `X-Trace-Id` that is too long or holds anything but visible ASCII; a malformed
    `traceparent` is ignored, as its specification asks.
    """
    given = headers.get("x-trace-id")
    if given:
        return check_trace_id(given, where="header X-Trace-Id")
    match = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return match.group(1) if match else None


def check_trace_id(text: str, *, where: str) -> str:
    """Return a trace id that may go into answers and logs; raises RequestProblem."""
    if not _TRACE_ID.fullmatch(text):
        raise invalid(f"{where} must be 1 to {MAX_TRACE_ID_CHARS} visible ASCII characters")
    return text


async def read_body(headers: Headers, receive: Receive, settings: ServiceSettings) -> bytes:
    """The whole body, read under a size and a time limit.

    Raises:
        RequestProblem: `payload_too_large`, as soon as it is known; `request_timeout`.
        ClientDisconnect: The client left before the body was complete.
    """
    limit = settings.max_body_bytes
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            return await _receive_up_to(receive, limit)
    except TimeoutError:
        raise RequestProblem(
            ErrorCode.REQUEST_TIMEOUT,
            f"the request body was not complete within {settings.body_timeout_s:g} s; nothing was done",
        ) from None


async def _receive_up_to(receive: Receive, limit: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(limit: int) -> RequestProblem:
    return RequestProblem(ErrorCode.PAYLOAD_TOO_LARGE, f"the request body is larger than {limit} bytes")


def parse_json(body: bytes) -> Any:
    """The JSON of a body, an empty one counts as `{}`.

    Raises RequestProblem: `invalid_json`; `invalid_request` for an object that names a field twice, because it could
    mean two things.
    """
    if not body.strip():
        return {}
    try:
        return json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise RequestProblem(ErrorCode.INVALID_JSON, "request body must be valid JSON") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise invalid("request body must not name a field twice")
    return fields


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
