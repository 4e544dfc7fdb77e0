"""The envelope `loop_run_event` and the events page, made of log lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contract.chain import event_name
from contract.envelopes import EVENT, SCHEMA_VERSION, SEQUENCE_SOURCE
from sprite.eventlog import LogPage, Position
from sprite.jsonvalue import sendable
from sprite.loglines import LogLine

_EXACT_INTEGERS = 2**53
"""Beyond this a JSON number is not the same integer for every reader."""


def text_or_none(value: Any) -> str | None:
    """A string as it is; None for anything else, because readers rely on the contract's type."""
    return value if isinstance(value, str) else None


def integer_or_none(value: Any) -> int | None:
    """A JSON number that is an integer (3, 3.0), else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not -_EXACT_INTEGERS < value < _EXACT_INTEGERS or value != int(value):
        return None
    return int(value)


def event_envelope(
    line: LogLine, *, source: Mapping[str, str], line_count: int, emitted_at: str, trace_id: str | None
) -> dict[str, Any]:
    """The envelope of a line that is an event; `line_count` is that of the log when the line was read.

    A field of another type than the contract's is null (`run_id` "unknown", `iteration` 0); `raw` shows the line whole.
    """
    raw = sendable(line.event)
    return {
        "schemaVersion": SCHEMA_VERSION,
        "envelopeType": EVENT,
        "emittedAt": emitted_at,
        "traceId": trace_id,
        "source": dict(source),
        "sequence": {"source": SEQUENCE_SOURCE, "value": line.number},
        "cursor": {"eventLineOffset": line.number, "eventLineCount": line_count},
        "run": {
            "runId": _or_default(text_or_none(raw.get("run_id")), "unknown"),
            "iteration": integer_or_none(raw.get("iteration")) or 0,
        },
        "event": {
            "timestamp": raw["timestamp"],
            "name": event_name(raw),
            "role": text_or_none(raw.get("role")),
            "status": text_or_none(raw.get("status")),
            "message": text_or_none(raw.get("message")),
            # As jq's `.data // null`: false is no payload either.
            "payload": None if raw.get("data") is False else raw.get("data"),
            "raw": raw,
        },
    }


def _or_default(text: str | None, default: str) -> str:
    return default if text is None else text


def events_page(
    page: LogPage,
    *,
    source: Mapping[str, str],
    emitted_at: str,
    trace_id: str | None,
    sprite_id: str,
    chains: Sequence[Position] | None = None,
) -> dict[str, Any]:
    """The body of `GET /ops/events`: the events, the cursor behind the last line, and the lines that are no events.

    `chains` are positions whose chain was asked for.
    """
    shown = {} if chains is None else {"chains": [{"line": at.line, "chain": at.chain.hex()} for at in chains]}
    events = [
        event_envelope(line, source=source, line_count=page.line_count, emitted_at=emitted_at, trace_id=trace_id)
        for line in page.lines
        if line.event is not None
    ]
    quarantined = [
        {"line": line.number, "reason": line.reason, "h": line.h.hex()} for line in page.lines if line.event is None
    ]
    return {
        "ok": True,
        "schemaVersion": SCHEMA_VERSION,
        **({} if trace_id is None else {"traceId": trace_id}),
        "source": dict(source),
        "events": events,
        "cursor": {
            "eventLineOffset": page.end.line,
            "eventLineCount": page.line_count,
            "updatedAt": emitted_at,
            "chain": page.end.chain.hex(),
            "byteOffset": page.end.offset,
        },
        "quarantined": quarantined,
        **shown,
        "spriteId": sprite_id,
    }
