"""Envelopes shrunk to what decisions need: pure functions, the only way into history for what a sprite says.

Raw bodies stay in the sprite. Every text that is kept is clipped and made encodable, because it was written by
agents and ends in a workflow's history.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from contract.chain import event_name
from contract.clock import age_seconds
from contract.envelopes import ProcessEvidence, QuarantinedLine, SnapshotEnvelope
from contract.observation import (
    ApprovalDigest,
    Contact,
    EventDigest,
    Freshness,
    History,
    ProcessDigest,
    ProcessRun,
    QuarantinedDigest,
    SnapshotDigest,
)

MAX_TEXT_CHARS = 200
MAX_NAME_CHARS = 128
MAX_GATES = 32
MAX_RUNS = 16
HASH_PREFIX_CHARS = 16
QUIET_RUN_S = 4 * 3600.0
"""Without process evidence, a run that wrote no event for so long is not worth keeping its machine awake."""

KEPT_DATA = frozenset(
    {
        "reason", "by", "note", "at", "status", "run_id", "iteration", "approval", "streak", "threshold", "triggered",
        "max_iterations", "promise", "role", "timeout_seconds", "expected", "matched", "ok", "exit_code",
    }
)  # fmt: skip
"""The fields of an event's `data` that rules read; only plain values of them are kept."""

_MAX_INT = 2**53


def clip(value: object, limit: int = MAX_TEXT_CHARS) -> str | None:
    """A text of at most `limit` characters that UTF-8 can hold; None for anything but a text."""
    if not isinstance(value, str):
        return None
    text = value if len(value) <= limit else value[: limit - 1] + "…"
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def is_well_formed(raw: dict[str, Any]) -> bool:
    """Whether a raw line is an event as the contract has it, so that its hash is that of its JSON (D4)."""
    timestamp = raw.get("timestamp")
    return event_name(raw) is not None and isinstance(timestamp, str) and bool(timestamp)


def event_digest(line: int, raw: dict[str, Any], line_hash: bytes) -> EventDigest:
    """What decisions need of a well-formed event, taken from its raw line, because that is what the chain covers."""
    return EventDigest(
        line=line,
        h=line_hash.hex()[:HASH_PREFIX_CHARS],
        name=clip(event_name(raw), MAX_NAME_CHARS) or "",
        timestamp=clip(raw.get("timestamp"), MAX_NAME_CHARS) or "",
        run_id=clip(raw.get("run_id"), MAX_NAME_CHARS) or "unknown",
        iteration=_int(raw.get("iteration")) or 0,
        role=clip(raw.get("role"), MAX_NAME_CHARS),
        status=clip(raw.get("status"), MAX_NAME_CHARS),
        message=clip(raw.get("message")),
        data=_plain(_object(raw.get("data")), kept=KEPT_DATA),
    )


def quarantined_digest(line: QuarantinedLine) -> QuarantinedDigest:
    """What is kept of a line that is no event (D4)."""
    return QuarantinedDigest(
        line=line.line, reason=clip(line.reason) or "", h=line.h[:HASH_PREFIX_CHARS] if line.h else None
    )


def snapshot_digest(envelope: SnapshotEnvelope, *, stale_after_s: float) -> SnapshotDigest:
    """What decisions need of a snapshot; ages are seconds on the sprite's clock, as of `emitted_at`."""
    state, active_run = _object(envelope.runtime.superloop_state), _object(envelope.runtime.active_run)
    summary = envelope.run.summary or {}
    process = _process(envelope.runtime.process)
    heartbeat_age_s = _heartbeat_age_s(envelope)
    status = clip(envelope.run.status, MAX_NAME_CHARS) or "unknown"
    running = status == "running" and process.state != "dead"
    return SnapshotDigest(
        emitted_at=clip(envelope.emitted_at, MAX_NAME_CHARS) or "",
        status=status,
        run_id=clip(envelope.run.run_id, MAX_NAME_CHARS) or "unknown",
        iteration=_int(envelope.run.iteration) or 0,
        event_count=envelope.cursor.event_line_count,
        last_event_name=clip(envelope.health.last_event_name, MAX_NAME_CHARS),
        last_event_age_s=age_seconds(envelope.emitted_at, envelope.health.last_event_at),
        state_present=_present(envelope, "state", envelope.runtime.superloop_state),
        state_active=state.get("active") is True,
        state_loop_id=clip(state.get("current_loop_id"), MAX_NAME_CHARS),
        state_iteration=_int(state.get("iteration")),
        active_run_present=_present(envelope, "activeRun", envelope.runtime.active_run),
        active_run_pid=_int(active_run.get("pid")),
        active_run_loop_id=clip(active_run.get("loop_id"), MAX_NAME_CHARS),
        process=process,
        approval=_approval(envelope),
        gates=_gates(envelope.health.gates or summary.get("gates")),
        promise_matched=_bool(_object(summary.get("promise")).get("matched")),
        completion_ok=_bool(summary.get("completion_ok")),
        summary_run_id=clip(summary.get("run_id"), MAX_NAME_CHARS),
        freshness=_freshness(heartbeat_age_s, running=running, stale_after_s=stale_after_s),
        heartbeat_age_s=heartbeat_age_s,
    )


def decision_digest(contact: Contact, snapshot: SnapshotDigest | None) -> str:
    """The name of a decision-relevant state; equal digests mean that there is nothing to decide anew.

    It covers contact, statuses, state, gates, process, approval, completion and the freshness class, and leaves out
    everything that moves by itself: ages, `emitted_at`, the number of events, which are news in their own right.
    """
    told = snapshot.model_dump(mode="json", exclude=_MOVING) if snapshot else None
    return hashlib.sha256(json.dumps([contact.value, told], sort_keys=True).encode()).hexdigest()[:32]


_MOVING: dict[str, Any] = {
    **dict.fromkeys(("emitted_at", "event_count", "last_event_name", "last_event_age_s", "heartbeat_age_s"), True),
    "process": {"source"},  # how it was found out decides nothing
}


def is_awake(snapshot: SnapshotDigest, loop_id: str) -> bool:
    """Whether a run is under way, so that watching closely keeps no sleeping machine awake.

    With process evidence that alone decides: a crashed loop says `running` for ever (D14). Without it, a run is
    believed by status or by active-run.json, as long as it wrote an event within `QUIET_RUN_S`.
    """
    if snapshot.process.state in ("alive", "dead"):
        return snapshot.process.state == "alive"
    announced = snapshot.active_run_present and snapshot.active_run_loop_id in (None, loop_id)
    age_s = snapshot.last_event_age_s
    return (snapshot.status == "running" or announced) and (age_s is None or age_s < QUIET_RUN_S)


def _freshness(heartbeat_age_s: float | None, *, running: bool, stale_after_s: float) -> Freshness:
    if heartbeat_age_s is None:
        return Freshness.NO_HEARTBEAT
    return Freshness.STALE if running and heartbeat_age_s > stale_after_s else Freshness.FRESH


def _heartbeat_age_s(envelope: SnapshotEnvelope) -> float | None:
    heartbeat = _object(envelope.runtime.heartbeat)
    stamp = heartbeat.get("timestamp") or heartbeat.get("updatedAt")
    return age_seconds(envelope.emitted_at, stamp if isinstance(stamp, str) else None)


def _process(evidence: ProcessEvidence | None) -> ProcessDigest:
    if evidence is None:
        return ProcessDigest()
    return ProcessDigest(
        state=evidence.state,
        pid=evidence.pid,
        start_time=clip(evidence.start_time, MAX_NAME_CHARS),
        loop_id=clip(evidence.loop_id, MAX_NAME_CHARS),
        source=clip(evidence.source, MAX_NAME_CHARS),
        runs=[
            ProcessRun(
                pid=run.pid,
                start_time=clip(run.start_time, MAX_NAME_CHARS),
                loop_id=clip(run.loop_id, MAX_NAME_CHARS),
            )
            for run in sorted(evidence.runs, key=lambda run: run.pid)[:MAX_RUNS]
        ],
    )


def _approval(envelope: SnapshotEnvelope) -> ApprovalDigest | None:
    if not isinstance(envelope.runtime.approval, dict):
        return None
    approval = envelope.runtime.approval
    candidate, decision = _object(approval.get("candidate")), _object(approval.get("decision"))
    artifact = envelope.artifacts.get("approval")
    return ApprovalDigest(
        status=clip(approval.get("status"), MAX_NAME_CHARS),
        run_id=clip(approval.get("run_id"), MAX_NAME_CHARS),
        iteration=_int(approval.get("iteration")),
        requested_at=clip(approval.get("requested_at"), MAX_NAME_CHARS),
        sha256=clip(artifact.sha256, MAX_NAME_CHARS) if artifact else None,
        promise=_bool(_object(candidate.get("promise")).get("matched")),
        gates=_gates(candidate.get("gates")),
        decision_status=clip(decision.get("status"), MAX_NAME_CHARS),
        decision_by=clip(decision.get("by")),
        decision_at=clip(decision.get("at"), MAX_NAME_CHARS),
    )


def _present(envelope: SnapshotEnvelope, artifact: str, parsed: object) -> bool:
    """Whether the file is there; its absence is evidence of a cancel, so an unreadable file counts as there."""
    described = envelope.artifacts.get(artifact)
    return described.exists if described else parsed is not None


def _gates(gates: object) -> dict[str, Any]:
    return dict(list(_plain(_object(gates), kept=None).items())[:MAX_GATES])


def _plain(fields: dict[str, Any], *, kept: frozenset[str] | None) -> dict[str, Any]:
    """The fields in `kept` (None: all) whose values are plain: texts clipped, numbers and booleans as they are."""
    plain: dict[str, Any] = {}
    for name, value in fields.items():
        if kept is not None and name not in kept:
            continue
        value = clip(value) if isinstance(value, str) else value
        if isinstance(value, str | bool) or (isinstance(value, int | float) and _in_range(value)):
            plain[clip(name, MAX_NAME_CHARS) or ""] = value
    return plain


def _in_range(value: float) -> bool:
    return abs(value) <= _MAX_INT  # false for NaN and for infinities too


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _int(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_INT else None


def _bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def json_size(model: History) -> int:
    """Bytes that `model` takes in history."""
    return len(model.model_dump_json())
