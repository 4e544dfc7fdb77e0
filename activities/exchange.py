"""One HTTP exchange: the answer as it came, in bounded size, or the reason why there is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from activities.failures import (
    AnswerTooLarge,
    LocalShortage,
    NoAnswer,
    NotConnected,
    Refusal,
    TransportFailure,
    clipped,
    read_refusal,
    shown_sprite_id,
)

Hide = Callable[[Any], Any]
"""Takes secrets out of a text or of parsed JSON; leaves anything else as it is."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_PARSE_IN_THREAD_BYTES = 256 * 1024


@dataclass(frozen=True)
class Answer:
    """An HTTP answer that was read completely. `body` is the parsed JSON; `problem` says why there is none.

    `date` is the service's own clock as it shows it, `elapsed_s` the round trip.
    """

    http_status: int
    body: object = None
    problem: str | None = None
    etag: str | None = None
    location: str | None = None
    date: str | None = None
    elapsed_s: float = 0.0

    @property
    def refusal(self) -> Refusal | None:
        """The contract's error body, if that is what came."""
        return read_refusal(self.http_status, self.body)

    @property
    def sprite_id(self) -> str | None:
        """The spriteId shown in the body; None from a service of the base contract."""
        return shown_sprite_id(self.body)

    @property
    def redirect_host(self) -> str:
        """Where a redirect points to, as it may appear in messages."""
        try:
            return clipped(httpx.URL(self.location or "").host, 80) or "another path"
        except httpx.InvalidURL:
            return "an invalid address"


async def exchange(client: httpx.AsyncClient, request: httpx.Request, *, hide: Hide, verbatim: bool = False) -> Answer:
    """Send `request` and read its answer, at most `MAX_ANSWER_BYTES` of it.

    What `hide` knows is taken out of the answer; with `verbatim` a good one (200) is left as it is, to be hashed.
    Raises httpx.HTTPError for what went wrong on the way, and AnswerTooLarge.
    """
    # The library closes its idle connections on the way, and shields that from anyio's cancellation only: cancelled by
    # asyncio in that moment it would leave them open. So a cancellation is handed on as anyio's.
    scope = anyio.CancelScope()
    exchanging = asyncio.create_task(_exchange(scope, client, request, hide, verbatim))
    try:
        answer = await asyncio.shield(exchanging)
    except asyncio.CancelledError:
        scope.cancel()
        await asyncio.wait({exchanging})
        # Should it have failed in that very moment, nobody is left to hear of it.
        _ = exchanging.cancelled() or exchanging.exception()
        raise
    assert answer is not None  # noqa: S101 - only a cancelled scope gives none
    return answer


async def _exchange(
    scope: anyio.CancelScope, client: httpx.AsyncClient, request: httpx.Request, hide: Hide, verbatim: bool
) -> Answer | None:
    with scope:
        response = await client.send(request, stream=True)
        try:
            untouched = verbatim and response.status_code == 200
            body, problem = await _read(response, _as_it_is if untouched else hide)
        finally:
            await response.aclose()
        return Answer(
            http_status=response.status_code,
            body=body,
            problem=hide(problem),
            etag=_bare_etag(response.headers.get("ETag")),
            location=hide(response.headers.get("Location")),
            date=response.headers.get("Date"),
            elapsed_s=response.elapsed.total_seconds(),
        )
    return None


def _as_it_is(said: Any) -> Any:
    return said


async def _read(response: httpx.Response, hide: Hide) -> tuple[object, str | None]:
    encoding = response.headers.get("Content-Encoding", "")
    if encoding.strip().lower() not in ("", "identity"):
        # Decoding has no bound: a few kilobytes may unfold to more than there is memory.
        return None, f"encoded as {clipped(encoding, 40)!r}, which was not asked for"
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise AnswerTooLarge(f"the answer exceeds {MAX_ANSWER_BYTES // 1024 // 1024} MiB")
    # A large page would hold up the heartbeats of every other observer while it is parsed.
    large = len(content) > _PARSE_IN_THREAD_BYTES
    return await asyncio.to_thread(_parse, content, hide) if large else _parse(content, hide)


def _parse(content: bytearray, hide: Hide) -> tuple[object, str | None]:
    try:
        return hide(json.loads(content.decode("utf-8", "replace"))), None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        return None, f"not JSON ({clipped(reason, 80)})"


def _bare_etag(header: str | None) -> str | None:
    return header.removeprefix("W/").strip('"') or None if header else None


def failure_of(error: httpx.HTTPError, where: str, *, hide: Hide) -> TransportFailure | LocalShortage:
    """What an error of the HTTP library means: never connected, no answer, or a shortage on this side."""
    # Its text may quote what the service sent in place of an answer.
    reason = clipped(hide(str(error))) or type(error).__name__
    match error:
        case httpx.PoolTimeout():
            return LocalShortage(f"no free connection for {where} on this worker")
        case httpx.ConnectTimeout():
            return NotConnected(f"{where} did not accept a connection in time")
        case httpx.ConnectError() | httpx.ProxyError():
            return NotConnected(f"cannot connect to {where}: {reason}", blip=True)
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            # Without the library's text: it would show an illegal header, value and all.
            return NotConnected(f"no request could be made for {where}: {type(error).__name__}")
        case httpx.ReadTimeout() | httpx.WriteTimeout():
            return NoAnswer(f"{where} accepted the connection and did not answer in time")
        case _:
            return NoAnswer(f"the connection to {where} broke: {reason}", blip=True)
