"""The endpoints: each parses its request, asks the reader or the controller in a thread, and answers."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from contract.control import CommandAnswer, ControlRequest, http_status
from contract.envelopes import SCHEMA_VERSION
from contract.errors import ErrorCode
from contract.identifiers import check_loop_id
from sprite.control import SpriteController
from sprite.errors import NotReady, SpriteError
from sprite.http.exchange import CONNECTION_KEY, TRACE_KEY, Connection
from sprite.http.metrics import MEDIA_TYPE as METRICS_TYPE
from sprite.http.metrics import Metrics
from sprite.http.openapi import openapi_document
from sprite.http.requests import (
    EventsQuery,
    check_trace_id,
    etag_matches,
    etag_value,
    parse_json,
    read_body,
)
from sprite.http.responses import JsonResponse, PageResponse, encode, error_response
from sprite.http.settings import ServiceSettings
from sprite.reader import SpriteReader

_T = TypeVar("_T")


class Endpoints:
    """The service's endpoints over one reader and one controller.

    `stopping` ends every wait at once, so that a shutdown never waits for a long poll.
    """

    def __init__(
        self,
        reader: SpriteReader,
        controller: SpriteController,
        settings: ServiceSettings,
        stopping: asyncio.Event,
        metrics: Metrics,
    ) -> None:
        self._reader = reader
        self._controller = controller
        self._settings = settings
        self._stopping = stopping
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(settings.read_threads, thread_name_prefix="sprite-read")
        self._building = asyncio.Semaphore(settings.page_builders)
        self._bytes_out = 0

    def close(self) -> None:
        """Wait for the readings in progress; no endpoint may be called afterwards."""
        self._threads.shutdown(wait=True)

    async def healthz(self, request: Request) -> Response:
        """`GET /healthz`: the service answers."""
        return self._ok({"ok": True})

    async def readyz(self, request: Request) -> Response:
        """`GET /readyz`: the repo can be read, the runtime's program be started, and what it did be recorded."""
        await self._in_thread(self._check_ready)
        return self._ok({"ok": True})

    def _check_ready(self) -> None:
        if not os.access(self._reader.repo, os.R_OK | os.X_OK):
            raise NotReady(f"repo {self._reader.repo} cannot be read")
        self._controller.check_ready()

    async def metrics(self, request: Request) -> Response:
        """`GET /metrics`: counts for Prometheus."""
        connection: Connection | None = request.scope.get(CONNECTION_KEY)
        open_connections = connection.open_connections() if connection else 0
        return Response(self._metrics.text(open_connections), media_type=METRICS_TYPE)

    async def openapi(self, request: Request) -> Response:
        """`GET /openapi.json`: what can be asked and what is answered."""
        return JsonResponse(openapi_document())

    async def loops(self, request: Request) -> Response:
        """`GET /ops/loops`: the loops of this sprite and their status."""
        found = await self._in_thread(self._reader.loops)
        repo_path = str(self._reader.repo)
        return self._ok({"ok": True, "schemaVersion": SCHEMA_VERSION, "repoPath": repo_path, "loops": found})

    async def snapshot(self, request: Request) -> Response:
        """`GET /ops/snapshot`: the envelope, or 304 when nothing of substance changed."""
        loop_id = check_loop_id(request.query_params.get("loopId"))
        trace_id = request.scope[TRACE_KEY]
        envelope = await self._in_thread(lambda: self._reader.snapshot(loop_id, trace_id=trace_id))
        etag = etag_value(self._reader.etag_of(envelope))
        # Weak, because the envelope's time and trace id differ between answers with one tag.
        headers = {"etag": f'W/"{etag}"'}
        if etag_matches(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
        body = await self._in_thread(lambda: encode(envelope))
        return JsonResponse(body, headers=headers)

    async def events(self, request: Request) -> Response:
        """`GET /ops/events`: a bounded page after the cursor; with `waitSeconds` it waits for news first."""
        query = EventsQuery.read(request.query_params, self._settings)
        trace_id = request.scope[TRACE_KEY]
        if query.wait_s > 0:
            await self._wait_for_news(request, query)
        max_bytes = self._grant_page()
        try:
            async with self._building:
                body = await self._in_thread(lambda: self._page(query, trace_id, max_bytes))
        except BaseException:
            self._release_page(max_bytes)
            raise
        return PageResponse(body, when_sent=lambda: self._release_page(max_bytes))

    async def _wait_for_news(self, request: Request, query: EventsQuery) -> None:
        # Read first: a cursor that does not belong to the log is an error now, not after the wait.
        await self._in_thread(
            lambda: self._reader.events_page(query.loop_id, cursor=query.cursor, max_events=1, chain=query.chain)
        )
        news = self._reader.wait_for_news(
            query.loop_id, cursor=query.cursor, snapshot_etag=query.snapshot_etag, timeout_s=query.wait_s
        )
        with self._metrics.long_poll():
            await _first_of(news, self._stopping.wait(), _until_disconnected(request.receive))

    def _page(self, query: EventsQuery, trace_id: str | None, max_bytes: int) -> bytes:
        # The tag before the page: a change in between then only makes the next long poll return at once.
        etag = etag_value(self._reader.snapshot_etag(query.loop_id))
        page = self._reader.events_page(
            query.loop_id,
            cursor=query.cursor,
            max_events=query.max_events,
            max_bytes=max_bytes,
            chain=query.chain,
            rehash=query.rehash,
            chain_at=query.chain_at,
            trace_id=trace_id,
        )
        return encode({**page, "snapshotEtag": etag})

    def _grant_page(self) -> int:
        """The size a page may have: the full one, or less while others are still being sent."""
        settings = self._settings
        room = (settings.pages_in_memory_bytes - self._bytes_out) // 4
        granted = max(settings.page_min_bytes, min(settings.page_max_bytes, room))
        self._bytes_out += granted
        return granted

    def _release_page(self, granted: int) -> None:
        self._bytes_out -= granted

    async def control(self, request: Request) -> Response:
        """`POST /ops/control`: one command, once per idempotency key."""
        body = parse_json(await read_body(request.headers, request.receive, self._settings))
        asked = ControlRequest.read(_with_headers(body, request))
        try:
            answer = await self._controller.execute(asked, give_up=self._stopping)
        except SpriteError as error:
            self._metrics.controlled(asked.intent.wire, error.code.value)
            raise
        self._metrics.controlled(asked.intent.wire, answer.result.status.value, replayed=answer.replayed)
        return _control_response(answer, http_status(answer.result.status))

    async def lookup(self, request: Request) -> Response:
        """`GET /ops/control/{key}?loopId=`: what was answered under a key."""
        loop_id = check_loop_id(request.query_params.get("loopId"))
        key = str(request.path_params["key"])
        answer = await self._in_thread(lambda: self._controller.lookup(loop_id, key))
        if answer is None:
            return error_response(
                ErrorCode.NOT_FOUND,
                f"nothing stands under this idempotency key for loop {loop_id!r}: it was never used, or what "
                "was begun under it had no effect or can be finished; it may be sent again",
                sprite_id=self._reader.sprite_id,
                key=key,
                loopId=loop_id,
            )
        return _control_response(answer, 200)

    def _ok(self, body: dict[str, Any]) -> JsonResponse:
        return JsonResponse({**body, "spriteId": self._reader.sprite_id})

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _control_response(answer: CommandAnswer, status: int) -> JsonResponse:
    return JsonResponse(answer.model_dump(mode="json", by_alias=True, exclude_none=True), status_code=status)


def _with_headers(body: Any, request: Request) -> Any:
    """The body with the trace id and idempotency key of the headers where it names none itself."""
    if not isinstance(body, dict):
        return body
    headers = request.headers
    key = headers.get("x-idempotency-key") or headers.get("idempotency-key")
    merged = dict(body)
    if merged.get("idempotencyKey") is None and key:
        merged["idempotencyKey"] = key
    if isinstance(merged.get("traceId"), str):
        check_trace_id(merged["traceId"], where="traceId")
    elif merged.get("traceId") is None:
        merged["traceId"] = request.scope[TRACE_KEY] or str(uuid.uuid4())
    return merged


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when the first of `waits` is done, with its exception if it has one; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect
