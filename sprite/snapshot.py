"""The envelope `loop_run_snapshot`: the contract's derivation from the artifacts, warts and all.

Where the reference uses jq's `//`, null and false fall through to the next source; so does, here, a value of another
type than the contract's, which no reader could use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from contract.chain import event_name
from contract.envelopes import SCHEMA_VERSION, SEQUENCE_SOURCE, SNAPSHOT
from sprite.artifacts import JsonArtifact
from sprite.eventlog import LogFacts
from sprite.events import integer_or_none, text_or_none

STOP_EVENTS = frozenset({"loop_stop", "rate_limit_stop", "no_progress_stop"})
FAILED_EVENT_STATUSES = frozenset({"error", "timeout", "blocked", "rate_limited"})

STATE_FILE = ".superloop/state.json"
ACTIVE_RUN_FILE = ".superloop/active-run.json"
CONFIG_FILE = ".superloop/config.json"
LOOPS_FOLDER = ".superloop/loops"

_T = TypeVar("_T")


@dataclass(frozen=True)
class ArtifactPaths:
    """The repo-relative paths of one loop's artifacts."""

    folder: str
    events: str
    summary: str
    approval: str
    heartbeat: str

    @classmethod
    def of(cls, loop_id: str) -> ArtifactPaths:
        """The paths of `loop_id`, which must have been checked (D11)."""
        folder = f"{LOOPS_FOLDER}/{loop_id}"
        return cls(
            folder,
            f"{folder}/events.jsonl",
            f"{folder}/run-summary.json",
            f"{folder}/approval.json",
            f"{folder}/heartbeat.v1.json",
        )


@dataclass(frozen=True)
class Readings:
    """Everything a snapshot is derived from, read in this order: process, state and the other files, then the log.

    So a process that was seen dead has its last writes in what was read after. `summary` keeps `updated_at` and the
    last `entry` only.
    """

    process: dict[str, Any]
    state: JsonArtifact
    active_run: JsonArtifact
    approval: JsonArtifact
    heartbeat: JsonArtifact
    summary: JsonArtifact
    log: LogFacts


def snapshot_envelope(
    readings: Readings, *, repo_path: str, loop_id: str, emitted_at: str, trace_id: str | None, sprite_id: str
) -> dict[str, Any]:
    """The snapshot of a loop, with the additions `runtime.process` and `spriteId`."""
    state, approval = readings.state.value, readings.approval.value
    summary = readings.summary.value or {}
    entry = summary.get("entry")
    log = readings.log
    last = log.last_event or {}
    return {
        "schemaVersion": SCHEMA_VERSION,
        "envelopeType": SNAPSHOT,
        "emittedAt": emitted_at,
        "traceId": trace_id,
        "source": {"repoPath": repo_path, "loopId": loop_id},
        "run": {
            "runId": _first(map(text_or_none, _values("run_id", entry, last)), "unknown"),
            "iteration": _first(map(integer_or_none, _values("iteration", entry, last, state)), 0),
            "status": run_status(loop_id, state=state, approval=approval, entry=entry, last_event=last),
            "summary": entry,
        },
        "runtime": {
            "superloopState": state,
            "activeRun": readings.active_run.value,
            "approval": approval,
            "heartbeat": readings.heartbeat.value,
            "process": readings.process,
        },
        "artifacts": _artifacts(readings, ArtifactPaths.of(loop_id)),
        "sequence": {"source": SEQUENCE_SOURCE, "value": log.line_count},
        "cursor": {"eventLineOffset": log.line_count, "eventLineCount": log.line_count},
        "health": {
            "eventCount": log.line_count,
            "lastEventAt": text_or_none(last.get("timestamp")),
            "lastEventName": event_name(last),
            "lastSummaryAt": _first(map(text_or_none, [summary.get("updated_at"), *_values("ended_at", entry)]), None),
            "hasPendingApproval": _is_pending(approval),
            "gates": _object_or_none((entry or {}).get("gates")),
            "stuck": _object_or_none((entry or {}).get("stuck")),
        },
        "spriteId": sprite_id,
    }


def run_status(
    loop_id: str,
    *,
    state: dict[str, Any] | None,
    approval: dict[str, Any] | None,
    entry: dict[str, Any] | None,
    last_event: dict[str, Any],
) -> str:
    """`run.status`: the contract's truth table, first match wins. `entry` is the last of the summary."""
    state = state or {}
    rows = (
        ("awaiting_approval", _is_pending(approval)),
        ("complete", entry is not None and entry.get("completion_ok") is True),
        ("running", state.get("active") is True and state.get("current_loop_id") == loop_id),
        ("stopped", event_name(last_event) in STOP_EVENTS),
        ("failed", text_or_none(last_event.get("status")) in FAILED_EVENT_STATUSES),
        ("idle", state.get("active") is False and entry is not None),
    )
    return next((status for status, matches in rows if matches), "unknown")


def etag_of(snapshot: dict[str, Any]) -> str:
    """A hash of what a snapshot says, leaving out when it was said: emittedAt, traceId and modification times."""
    told = {key: value for key, value in snapshot.items() if key not in ("emittedAt", "traceId", "artifacts")}
    told["artifacts"] = {
        name: {key: value for key, value in artifact.items() if key != "mtimeEpoch"}
        for name, artifact in snapshot["artifacts"].items()
    }
    return _digest(told)


def etag_of_absence(code: str) -> str:
    """The tag of "there is no snapshot, because `code`"."""
    return _digest({"noSnapshot": code})


def _digest(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _artifacts(readings: Readings, paths: ArtifactPaths) -> dict[str, Any]:
    log = readings.log
    return {
        "events": {
            "path": paths.events,
            "exists": True,
            "sizeBytes": log.size_bytes,
            "lineCount": log.line_count,
            "sha256": log.sha256,
            "mtimeEpoch": log.mtime_epoch,
        },
        "runSummary": readings.summary.stat.as_json(),
        "state": readings.state.stat.as_json(),
        "activeRun": readings.active_run.stat.as_json(),
        "approval": readings.approval.stat.as_json(),
        "heartbeat": readings.heartbeat.stat.as_json(),
    }


def _is_pending(approval: dict[str, Any] | None) -> bool:
    return approval is not None and approval.get("status") == "pending"


def _values(key: str, *sources: dict[str, Any] | None) -> list[Any]:
    return [(source or {}).get(key) for source in sources]


def _first(candidates: Iterable[_T | None], default: _T) -> _T:
    return next((candidate for candidate in candidates if candidate is not None), default)


def _object_or_none(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None
