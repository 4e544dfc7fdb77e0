"""Contradictory signals: found, opened under a stable id, and closed (contract.md, "Divergence").

A contradiction between files that are read one after the other counts only when it persists: seen twice, at least
`crash_recheck_s` apart. It closes by itself when it is gone. What is about the log itself is closed by an operator,
because a human has to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from contract.divergence import DivergenceReport, Head
from contract.observation import SnapshotDigest
from contract.status import Lifecycle
from workflows.snapshots import MULTIPLE_RUNS
from workflows.state import SupervisorState, Suspicion

EVENTS_REWRITTEN = "events_rewritten"
TRANSPORT_DISAGREEMENT = "transport_disagreement"
ACTIVE_MISMATCH = "activeMismatch"
APPROVAL_COMPLETION_CONFLICT = "approvalCompletionConflict"
CURSOR_REGRESSION = "cursorRegression"

SELF_CLOSING = (MULTIPLE_RUNS, ACTIVE_MISMATCH, APPROVAL_COMPLETION_CONFLICT, CURSOR_REGRESSION)
GONE = "gone"
"""The resolution of a contradiction that went away by itself."""
INGESTED = "ingested"
"""Whose head is that of the log as it was read here."""
MAX_RESOLVED = 20
_MAX_HEADS = 8


def standing(state: SupervisorState, kind: str) -> DivergenceReport | None:
    """The open divergence of a kind: there is at most one, however often it happens (D10)."""
    return next((divergence for divergence in state.divergences if divergence.type == kind), None)


def open_divergence(
    state: SupervisorState,
    kind: str,
    detail: str,
    now: datetime,
    *,
    heads: Mapping[str, Head] | None = None,
    first_differing_line: int | None = None,
    last_same_line: int | None = None,
) -> DivergenceReport:
    """Open a divergence, or tell the open one of its kind what is new."""
    divergence = standing(state, kind)
    if divergence is None:
        state.divergence_count += 1
        name = f"d{state.divergence_count}"
        divergence = DivergenceReport(id=name, type=kind, detail=detail, since=now, opened_at=now)
        state.divergences.append(divergence)
    divergence.detail = detail
    divergence.first_differing_line, divergence.last_same_line = first_differing_line, last_same_line
    # Every log that was lost stays named; two that disagree are as they are now.
    kept = {**(divergence.heads if kind == EVENTS_REWRITTEN else {}), **(heads or {})}
    divergence.heads = dict(list(kept.items())[-_MAX_HEADS:])
    return divergence


def close(
    state: SupervisorState,
    divergence: DivergenceReport,
    now: datetime,
    *,
    resolution: str,
    by: str | None = None,
    note: str | None = None,
) -> None:
    """Close a divergence; the latest of those that were closed stay visible."""
    state.divergences = [other for other in state.divergences if other is not divergence]
    divergence.resolved_at, divergence.resolved_by = now, by
    divergence.resolution, divergence.note = resolution, note
    state.resolved_divergences = [*state.resolved_divergences[-MAX_RESOLVED + 1 :], divergence]


def first_doubt(first_differing: int | None, last_same: int | None, heads: Mapping[str, Head] | None) -> int:
    """The first line that differs or may differ; 0 without heads: no log was read, because another sprite answered."""
    if not heads:
        return 0
    return first_differing or (last_same or 0) + 1


def doubted_line(state: SupervisorState) -> int | None:
    """The first line at which the service was seen to differ from what was ingested in this epoch, accepted or not."""
    accepted, found = state.transport.accepted_line, standing(state, TRANSPORT_DISAGREEMENT)
    lines = [accepted] if accepted else []
    if found is not None and found.heads.get(INGESTED, Head()).epoch == state.cursor.epoch:
        lines.append(first_doubt(found.first_differing_line, found.last_same_line, found.heads))
    return min(lines, default=None)


def acceptable(divergence: DivergenceReport) -> tuple[str, ...]:
    """What an operator may accept to close it; nothing where it closes by itself."""
    if divergence.type == EVENTS_REWRITTEN:
        return ("current",)
    if divergence.type != TRANSPORT_DISAGREEMENT:
        return ()
    # Without heads no log was read: it is another sprite that answers, and nothing of that one is ever believed.
    return ("sprite_service", "local", "current") if divergence.heads else ("local", "current")


def watch(state: SupervisorState, snapshot: SnapshotDigest) -> None:
    """Remember from which line on state.json was seen inactive although the events tell of a running loop."""
    running = state.projection.lifecycle is Lifecycle.RUNNING
    if not running or snapshot.state_active:
        state.inactive_from = None
    elif state.inactive_from is None:
        state.inactive_from = state.cursor.line


def contradictions(state: SupervisorState, snapshot: SnapshotDigest, already: int) -> dict[str, str]:
    """What this snapshot and the events contradict each other in: kind -> what it is about.

    `already`: the lines that were ingested before the observation that brought the snapshot; those that came with it
    may be younger.
    """
    found: dict[str, str] = {}
    projection, approval = state.projection, snapshot.approval
    # Only events that came after it was seen inactive count, and only in a snapshot that was taken after them.
    arrived = state.inactive_from is not None and state.inactive_from < state.phase_line <= snapshot.event_count
    if arrived:
        found[ACTIVE_MISMATCH] = f"run {projection.run.run_id if projection.run else 'unknown'}"
    if (
        approval is not None
        and approval.status == "pending"
        and snapshot.completion_ok is True
        and approval.run_id is not None
        and approval.run_id == snapshot.summary_run_id
    ):
        found[APPROVAL_COMPLETION_CONFLICT] = f"run {approval.run_id}"
    if snapshot.event_count < already:
        found[CURSOR_REGRESSION] = f"epoch {state.cursor.epoch}"
    return found


def settle(
    state: SupervisorState,
    found: Mapping[str, str],
    settled: Mapping[str, Suspicion],
    snapshot: SnapshotDigest,
    now: datetime,
) -> None:
    """Open what was seen twice, and close what is gone; a process scan that could not look closes nothing."""
    looked = snapshot.process.state in ("alive", "dead")
    for kind in SELF_CLOSING:
        divergence = standing(state, kind)
        if kind in settled:
            open_divergence(state, kind, _told(kind, state, snapshot, found[kind]), now)
        elif divergence is not None and kind not in found and (kind != MULTIPLE_RUNS or looked):
            close(state, divergence, now, resolution=GONE)


def _told(kind: str, state: SupervisorState, snapshot: SnapshotDigest, subject: str) -> str:
    if kind == MULTIPLE_RUNS:
        return f"{len(snapshot.process.runs)} live runs share this sprite: {subject}"
    if kind == ACTIVE_MISMATCH:
        inactive = "says that nothing is active" if snapshot.state_present else "is missing"
        return f"state.json {inactive}, but {subject} goes on writing events (line {state.phase_line})"
    if kind == APPROVAL_COMPLETION_CONFLICT:
        return f"approval.json says that {subject} waits for approval, run-summary.json that it has completed"
    return f"the snapshot counts {snapshot.event_count} lines, {state.cursor.line} were read"
