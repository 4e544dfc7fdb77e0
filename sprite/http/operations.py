"""The requests that the service answers, as a table: its routes are made of it, and so is its OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from contract.control import CommandAnswer, ControlRequest
from contract.envelopes import EventsPage, LoopsPage, SnapshotEnvelope, Wire
from contract.errors import ErrorCode
from sprite.http.metrics import MEDIA_TYPE as METRICS_TYPE

ALWAYS_POSSIBLE = (
    ErrorCode.INVALID_REQUEST,
    ErrorCode.UNAUTHORIZED,
    ErrorCode.REQUEST_TIMEOUT,
    ErrorCode.RUNTIME_ERROR,
    ErrorCode.NOT_READY,
)
"""Refusals that any request may meet."""


_TRACED = ("X-Trace-Id", "traceparent")


class Ok(Wire):
    """The answer that says no more than that all is well."""

    ok: Literal[True]
    sprite_id: str


@dataclass(frozen=True)
class Operation:
    """One request. `endpoint` names the method of `Endpoints` that answers it.

    `answers` has the model of the JSON body by status, a media type where it is no JSON, or None where there is none;
    `refusals` are the error codes beyond `ALWAYS_POSSIBLE`. Parameters are described in `sprite.http.openapi`.
    """

    method: Literal["GET", "POST"]
    path: str
    endpoint: str
    summary: str
    answers: Mapping[int, type[BaseModel] | str | None]
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = _TRACED
    body: type[BaseModel] | None = None
    refusals: tuple[ErrorCode, ...] = ()

    @property
    def route(self) -> str:
        """The path as the router takes it: a key may hold a slash."""
        return self.path.replace("{key}", "{key:path}")


OPERATIONS = (
    Operation("GET", "/healthz", "healthz", "The service answers.", {200: Ok}),
    Operation(
        "GET",
        "/readyz",
        "readyz",
        "The repo can be read, the runtime's program be started, and what it did be recorded.",
        {200: Ok},
    ),
    Operation("GET", "/metrics", "metrics", "Counts for Prometheus.", {200: METRICS_TYPE}),
    Operation("GET", "/openapi.json", "openapi", "This document.", {200: "application/json"}),
    Operation("GET", "/ops/loops", "loops", "The loops of this sprite and their status.", {200: LoopsPage}),
    Operation(
        "GET",
        "/ops/snapshot",
        "snapshot",
        "The snapshot envelope of a loop.",
        {200: SnapshotEnvelope, 304: None},
        query=("loopId",),
        headers=(*_TRACED, "If-None-Match"),
        refusals=(ErrorCode.LOOP_NOT_FOUND,),
    ),
    Operation(
        "GET",
        "/ops/events",
        "events",
        "The events after a cursor, in bounded pages; with waitSeconds a long poll.",
        {200: EventsPage},
        query=("loopId", "cursor", "maxEvents", "chain", "snapshotEtag", "waitSeconds", "rehash", "chainAt"),
        refusals=(ErrorCode.LOOP_NOT_FOUND, ErrorCode.CURSOR_AHEAD, ErrorCode.EVENTS_REWRITTEN),
    ),
    Operation(
        "POST",
        "/ops/control",
        "control",
        "Run cancel, approve or reject, once per idempotency key: 200 done, 409 with a result done but not confirmed, "
        "500 the command failed.",
        {200: CommandAnswer, 409: CommandAnswer, 500: CommandAnswer},
        headers=(*_TRACED, "X-Idempotency-Key", "Idempotency-Key"),
        body=ControlRequest,
        refusals=(
            ErrorCode.INVALID_JSON,
            ErrorCode.IN_FLIGHT,
            ErrorCode.PRECONDITION_FAILED,
            ErrorCode.NOTHING_TO_CANCEL,
            ErrorCode.OTHER_LOOP_ACTIVE,
            ErrorCode.PAYLOAD_TOO_LARGE,
            ErrorCode.KEY_REUSED,
        ),
    ),
    Operation(
        "GET",
        "/ops/control/{key}",
        "lookup",
        "What was answered under an idempotency key.",
        {200: CommandAnswer},
        query=("loopId",),
        refusals=(ErrorCode.NOT_FOUND, ErrorCode.IN_FLIGHT),
    ),
)
