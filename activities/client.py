"""The HTTP client of a sprite service: one request, one honest answer.

`SpriteServiceClient` is shared by every loop of a worker. It sends the service token only as `X-Ops-Token`, because
the URL of a private sprite consumes `Authorization` for itself (the edge-auth reference fills that), follows no
redirect, so that neither ever reaches another host, and takes answers of bounded size in bounded time. Secrets are
read at each request and appear in no message, also when a service repeats them.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import tenacity

from activities.exchange import Answer, exchange, failure_of
from activities.failures import (
    InvalidAnswer,
    LogMoved,
    NoAnswer,
    NotConnected,
    TransportFailure,
    trouble_of,
    unauthorized,
)
from activities.targets import check_sprite_id, credentials, service_url, shown_url
from contract.envelopes import EventsPage, SnapshotEnvelope
from contract.errors import EnvelopeInvalid
from contract.observation import CursorPosition, LogReset, Target

CONNECT_TIMEOUT_S = 2.0
READ_MARGIN_S = 5.0
"""A read may stay silent for the requested wait plus this."""
BODY_TIMEOUT_S = 10.0
"""What a whole answer may take beyond that. With the rest it bounds a request by 18 s: three attempts at a service that
only drips, and the pauses between them, are over within the minute in which the local transport is to take over."""
POOL_TIMEOUT_S = 1.0
"""There are more connections than loops, so none is waited for unless something is wrong on this side."""
CONTROL_READ_TIMEOUT_S = 40.0
"""The sprite gives a command 30 s and writes its record before it answers."""
BLIP_BUDGET_S = 0.6
"""All retries inside one attempt together: enough for a hiccup, and short against the attempts that are counted."""
SERVER_WAIT_LIMIT_S = 25
"""The contract's cap of `waitSeconds`."""
_LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_BLIP_STATUSES = frozenset({429, 502, 503, 504})

_R = TypeVar("_R")


@dataclass(frozen=True)
class SeenSnapshot:
    """A snapshot envelope and the tag under which its service knows that state (None: it offers none)."""

    envelope: SnapshotEnvelope
    etag: str | None = None


class SpriteServiceClient:
    """Requests to sprite services, for up to `max_loops` observers at once.

    Reads (`snapshot`, `events`, `stored_control`) raise the classes of `activities.failures`; `control` too, but hands
    back every complete answer, because what an answer to a command means is decided in one place (control_answers).
    """

    def __init__(self, *, max_loops: int = 1_000, transport: httpx.AsyncBaseTransport | None = None) -> None:
        tls = httpx.create_ssl_context()
        self._reads = _http_client(httpx.Limits(max_connections=max_loops + 50), tls, transport)
        # A command never travels on a connection that was kept: one that its server has just closed would make
        # "refused" indistinguishable from "half sent".
        self._commands = _http_client(httpx.Limits(max_connections=200, max_keepalive_connections=0), tls, transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._reads.aclose()
        await self._commands.aclose()

    async def snapshot(self, target: Target, *, trace_id: str | None = None, patient: bool = True) -> SeenSnapshot:
        """`GET /ops/snapshot`, validated; once if not `patient`. Raises PeerTrouble's subclasses."""
        params = {"loopId": target.loop_id}
        answer = await self._get(target, "/ops/snapshot", params, verbatim=True, trace_id=trace_id, patient=patient)
        envelope = _valid(lambda: SnapshotEnvelope.read(_good(answer, target), loop_id=target.loop_id), target)
        return SeenSnapshot(envelope, answer.etag)

    async def events(
        self,
        target: Target,
        cursor: CursorPosition,
        *,
        max_events: int,
        wait_s: float = 0.0,
        snapshot_etag: str | None = None,
        rehash: bool = False,
        chain_at: Sequence[int] = (),
        trace_id: str | None = None,
    ) -> EventsPage:
        """`GET /ops/events` after `cursor`, validated; with `wait_s` a long poll. Raises PeerTrouble's subclasses.

        `rehash` and `chain_at` are additions: see `SpriteReader.events_page`. Another service ignores them.
        """
        params = {"loopId": target.loop_id, "cursor": str(cursor.line), "maxEvents": str(max_events)}
        if cursor.chain and cursor.line:
            params["chain"] = cursor.chain
        if rehash:
            params["rehash"] = "true"
        if chain_at:
            params["chainAt"] = ",".join(map(str, chain_at))
        wait = min(int(wait_s), SERVER_WAIT_LIMIT_S)
        if wait > 0:
            params["waitSeconds"] = str(wait)
            if snapshot_etag:
                params["snapshotEtag"] = snapshot_etag
        answer = await self._get(target, "/ops/events", params, verbatim=True, wait_s=wait, trace_id=trace_id)
        body = _good(answer, target, cursor_line=cursor.line)
        _check_not_shrunk(body, cursor)

        def read() -> EventsPage:
            return EventsPage.read(body, loop_id=target.loop_id, after_line=cursor.line)

        big = isinstance(body, dict) and isinstance(body.get("events"), list) and len(body["events"]) > 200
        return await asyncio.to_thread(_valid, read, target) if big else _valid(read, target)

    async def ask(self, target: Target, path: str, params: Mapping[str, str] | None = None) -> Answer:
        """`GET path`, once: any complete answer, whatever it says.

        Raises TransportFailure, LocalShortage and NoCredential.
        """
        return await self._send(
            self._reads,
            target,
            "GET",
            path,
            params=params,
            read_timeout_s=READ_MARGIN_S,
            body_timeout_s=BODY_TIMEOUT_S,
            trace_id=None,
        )

    async def stored_control(self, target: Target, key: str, *, trace_id: str | None = None) -> Answer:
        """`GET /ops/control/{key}`: any complete answer. Raises TransportFailure, LocalShortage or Condition."""
        # A key may be "..", which a path must not say plainly.
        path = "/ops/control/" + quote(key, safe="").replace(".", "%2E")
        return await self._get(target, path, {"loopId": target.loop_id}, trace_id=trace_id)

    async def control(self, target: Target, body: Mapping[str, Any], *, key: str, trace_id: str) -> Answer:
        """`POST /ops/control`, once, never retried: any complete answer. Raises TransportFailure or LocalShortage."""
        headers = {"X-Idempotency-Key": key, "Content-Type": "application/json"}
        return await self._send(
            self._commands,
            target,
            "POST",
            "/ops/control",
            content=json.dumps(body).encode(),
            headers=headers,
            read_timeout_s=CONTROL_READ_TIMEOUT_S,
            body_timeout_s=READ_MARGIN_S,
            trace_id=trace_id,
        )

    async def _get(
        self,
        target: Target,
        path: str,
        params: Mapping[str, str],
        *,
        verbatim: bool = False,
        wait_s: float = 0.0,
        trace_id: str | None = None,
        patient: bool = True,
    ) -> Answer:
        async def once() -> Answer:
            answer = await self._send(
                self._reads,
                target,
                "GET",
                path,
                params=params,
                verbatim=verbatim,
                read_timeout_s=wait_s + READ_MARGIN_S,
                body_timeout_s=BODY_TIMEOUT_S,
                trace_id=trace_id,
            )
            return _served(answer, target)

        return await (_over_blips(once) if patient else once())

    async def _send(
        self,
        client: httpx.AsyncClient,
        target: Target,
        method: str,
        path: str,
        *,
        read_timeout_s: float,
        body_timeout_s: float,
        trace_id: str | None,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        verbatim: bool = False,
    ) -> Answer:
        url = service_url(target) + path
        authorised = credentials(target)
        sent_headers = {**authorised.headers, "X-Trace-Id": trace_id or uuid.uuid4().hex, **(headers or {})}
        timeout = httpx.Timeout(
            connect=CONNECT_TIMEOUT_S, read=read_timeout_s, write=READ_MARGIN_S, pool=POOL_TIMEOUT_S
        )
        try:
            async with asyncio.timeout(POOL_TIMEOUT_S + CONNECT_TIMEOUT_S + read_timeout_s + body_timeout_s):
                request = client.build_request(
                    method, url, params=params, content=content, headers=sent_headers, timeout=timeout
                )
                return await exchange(client, request, hide=authorised.hide, verbatim=verbatim)
        except TimeoutError:
            raise NoAnswer(f"{shown_url(target)} did not finish its answer in time") from None
        except httpx.HTTPError as error:
            raise failure_of(error, shown_url(target), hide=authorised.hide) from None
        except (httpx.InvalidURL, ValueError) as error:  # a header or an address that cannot be encoded
            raise NotConnected(f"no request could be made for {shown_url(target)}: {type(error).__name__}") from None


def _http_client(
    limits: httpx.Limits, tls: ssl.SSLContext, transport: httpx.AsyncBaseTransport | None
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=tls,
        # A proxy of the environment is for the way out, never for this machine.
        mounts=dict.fromkeys(_LOOPBACK),
        follow_redirects=False,
        limits=limits,
        transport=transport,
        # The clients are shared by all sprites: what one of them sets must not reach another, nor grow.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        headers={"User-Agent": "superloop-ops-manager", "Accept": "application/json", "Accept-Encoding": "identity"},
    )


def _served(answer: Answer, target: Target) -> Answer:
    """The answer, unless it shows that not the sprite's service but something before it (or nothing) spoke."""
    status, where, refusal = answer.http_status, shown_url(target), answer.refusal
    if status in (401, 403):
        raise unauthorized(where, status, refusal)
    if status == 429:
        raise InvalidAnswer(f"{where} answered 429 (too many requests)", blip=True)
    if 300 <= status < 400:
        raise InvalidAnswer(
            f"{where} answered with a redirect ({status} to {answer.redirect_host}), which is not followed: "
            "the token is for this address only. Check the service URL and --edge-auth"
        )
    if answer.problem and status < 300:
        raise InvalidAnswer(f"{where} answered {status} with a body that is {answer.problem}")
    if status >= 300 and refusal is None:
        raise InvalidAnswer(
            f"{where} answered {status} without the contract's error body", blip=status in _BLIP_STATUSES
        )
    return answer


def _good(answer: Answer, target: Target, *, cursor_line: int | None = None) -> object:
    refusal = answer.refusal
    if refusal:
        check_sprite_id(target, refusal.sprite_id)
        raise trouble_of(refusal, cursor_line=cursor_line)
    return answer.body


def _check_not_shrunk(body: object, cursor: CursorPosition) -> None:
    """A lenient service answers a cursor beyond the end with an empty page instead of an error."""
    shown = body.get("cursor") if isinstance(body, dict) else None
    line_count = shown.get("eventLineCount") if isinstance(shown, dict) else None
    if isinstance(line_count, int) and line_count < cursor.line:
        detail = f"the log has {line_count} lines, the cursor stands at line {cursor.line}"
        raise LogMoved(LogReset(reason="cursor_ahead", at_line=cursor.line, line_count=line_count, detail=detail))


def _valid(read: Callable[[], _R], target: Target) -> _R:
    try:
        return read()
    except EnvelopeInvalid as error:
        raise InvalidAnswer(f"{shown_url(target)}: {error}") from None


async def _over_blips(once: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
    async for attempt in tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, TransportFailure) and error.blip),
        stop=tenacity.stop_before_delay(BLIP_BUDGET_S),
        wait=tenacity.wait_exponential(multiplier=0.1, max=0.5) + tenacity.wait_random(0, 0.05),
        reraise=True,
    ):
        with attempt:
            return await once()
    raise AssertionError("tenacity always returns or raises")  # pragma: no cover
