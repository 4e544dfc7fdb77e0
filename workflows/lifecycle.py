"""What each runtime event means for the lifecycle (architecture.md, "Runs and lifecycle"; D5, D9, D18).

Everything is bound to a run = (run_id, line of its `loop_start`). Events arrive once each, in line order.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from contract.clock import parse_utc
from contract.observation import EventDigest
from contract.status import Lifecycle, Transition
from workflows.state import MAX_TRANSITIONS, Decision, Projection, RunRef

STOP_REASONS = {
    "max_iterations": "max_iterations",
    "stuck": "stuck",
    "no_progress": "no_progress",
    "lifecycle_gate_failed": "lifecycle_gate",
}
"""`loop_stop` data.reason -> reason of the lifecycle `stopped`; an unknown reason is kept as it is."""

FAILURES = {"role_timeout": "role_timeout", "rate_limit_stop": "rate_limited"}
"""Events that end a run as `failed`, with the reason."""

TERMINAL_EVENTS = frozenset(
    {"loop_complete", "loop_stop", "no_progress_stop", "approval_requested", "approval_wait", *FAILURES}
)
"""Events after which their run does nothing more: its process exits, also when it asks for an approval."""

PHASE_PREFIXES = ("iteration_", "role_", "tests_", "validation_")
"""Events that only a run at work writes (contract.md, "Divergence")."""

AT_WORK = (Lifecycle.STARTING, Lifecycle.RUNNING)
"""While it is so there is a process, or its absence is a discovery."""

_PRESUMED_OVER = frozenset({"crashed", "state_removed", "cancelled"})


def move(
    projection: Projection,
    lifecycle: Lifecycle,
    reason: str,
    at: datetime | None,
    line: int | None = None,
    *,
    since: datetime | None = None,
    evidence: str = "",
) -> None:
    """Enter `lifecycle` for `reason`, `at` that time; `since` when it holds for longer than we noticed.

    Staying where it is is no transition, but every `loop_start` begins anew.
    """
    same = (projection.lifecycle, projection.reason) == (lifecycle, reason)
    if same and lifecycle is not Lifecycle.STARTING:
        return
    projection.lifecycle, projection.reason, projection.since = lifecycle, reason, since or at
    projection.evidence = evidence
    run = projection.run
    projection.transitions.append(
        Transition(
            lifecycle=lifecycle,
            reason=reason,
            at=at,
            run_id=run.run_id if run else None,
            iteration=run.iteration if run else None,
            line=line,
            evidence=evidence,
        )
    )
    del projection.transitions[:-MAX_TRANSITIONS]


def relabel(projection: Projection, reason: str) -> None:
    """The same lifecycle, better explained: who removed state.json is known only once the command has answered."""
    projection.reason = reason
    if projection.transitions:
        projection.transitions[-1].reason = reason


def return_to_waiting(
    projection: Projection, at: datetime | None, line: int | None = None, *, evidence: str = ""
) -> None:
    """Back to the run whose approval is waited for, as of when the waiting, or the decision's, began."""
    if projection.waiting_run:
        projection.run = projection.waiting_run.model_copy()
    decision, since = projection.decision, projection.waiting_since
    if decision:
        since = parse_utc(decision.at)
        move(projection, Lifecycle.DECIDED, decision.status, at, line, since=since, evidence=evidence)
    else:
        move(projection, Lifecycle.AWAITING_APPROVAL, "approval_requested", at, line, since=since, evidence=evidence)


def apply_event(projection: Projection, event: EventDigest) -> None:
    """Fold one event into what we believe."""
    if projection.run is None and event.name != "loop_start":
        # A log that begins in the middle of a run: bind to what its first line names.
        projection.run = RunRef(run_id=event.run_id, line=event.line, iteration=event.iteration)
    rule = _RULES.get(event.name, _other)
    rule(projection, event, parse_utc(event.timestamp))
    projection.last_event_name = event.name


def _belongs(projection: Projection, event: EventDigest) -> bool:
    return projection.run is not None and event.run_id in (projection.run.run_id, "unknown")


def _bind(projection: Projection, event: EventDigest) -> None:
    # The line that began this run was lost or quarantined: without this its end would belong to nobody.
    if not _belongs(projection, event):
        projection.run = RunRef(run_id=event.run_id, line=event.line, iteration=event.iteration)


def _loop_start(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    _end_silent_run(projection, event, at)
    projection.run = RunRef(run_id=event.run_id, line=event.line, iteration=event.iteration)
    projection.started = projection.run.model_copy()
    projection.state_seen = projection.usage_limited = False
    move(projection, Lifecycle.STARTING, "loop_start", at, event.line)


def _end_silent_run(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    # The runtime refuses a run while state.json is active, so a later `loop_start` proves that the run before it is
    # over, and that state.json was removed if it had begun to work.
    evidence = "a later run has begun, and no event told the end of this one"
    if projection.lifecycle is Lifecycle.RUNNING and projection.usage_limited:
        move(projection, Lifecycle.FAILED, "usage_limit", at, event.line, evidence=evidence)
    elif projection.lifecycle is Lifecycle.RUNNING:
        move(projection, Lifecycle.STOPPED, "state_removed", at, event.line, evidence=evidence)
    elif projection.lifecycle is Lifecycle.STARTING and projection.waiting_run is None:
        move(projection, Lifecycle.FAILED, "crashed", at, event.line, evidence=evidence)


def _iteration_start(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    _bind(projection, event)
    _take_iteration(projection, event)
    # From here on the run works, so whatever was waiting for a decision has been settled.
    projection.waiting_run = projection.waiting_since = projection.decision = None
    projection.usage_limited = False
    move(projection, Lifecycle.RUNNING, "iteration_start", at, event.line)


def _approval_requested(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    _bind(projection, event)
    _take_iteration(projection, event)
    projection.waiting_run = projection.run.model_copy() if projection.run else None
    projection.waiting_since, projection.decision = at, None
    move(projection, Lifecycle.AWAITING_APPROVAL, "approval_requested", at, event.line)


def _approval_wait(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    # The decision may have been written while this run was on its way to see the request still pending.
    return_to_waiting(projection, at, event.line)


def _approval_decision(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    status = event.status or str(event.data.get("status") or "unknown")
    projection.decision = Decision(
        status=status,
        by=str(event.data.get("by") or "unknown"),
        at=str(event.data.get("at") or event.timestamp),
        line=event.line,
    )
    waiting = projection.waiting_run
    if waiting is None and projection.lifecycle is Lifecycle.RUNNING:
        return  # somebody decided beside a run at work, which goes on: nothing waited for it
    if waiting is not None and waiting.run_id == event.run_id:
        projection.run = waiting.model_copy()
    move(projection, Lifecycle.DECIDED, status, at, event.line)


def _approval_consumed(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    origin = projection.waiting_run
    line = origin.line if origin and origin.run_id == event.run_id else event.line
    projection.run = RunRef(run_id=event.run_id, line=line, iteration=event.iteration)
    projection.waiting_run = projection.waiting_since = projection.decision = None
    if projection.lifecycle is Lifecycle.STARTING:
        projection.reason = "approval_consumed"  # the same start, on the way to another end
    else:
        move(projection, Lifecycle.STARTING, "approval_consumed", at, event.line)


def _approval_rejected(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    projection.waiting_run = projection.waiting_since = projection.decision = None


def _loop_complete(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    waiting = projection.waiting_run
    if waiting is not None and waiting.run_id == event.run_id:
        projection.run = waiting.model_copy()  # its approval was consumed, though no readable line told so
    if _belongs(projection, event):
        _take_iteration(projection, event)
        projection.waiting_run = projection.waiting_since = projection.decision = None
        move(projection, Lifecycle.COMPLETE, "loop_complete", at, event.line)


def _loop_stop(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    # Its iteration is not taken: at max_iterations it names one that never ran.
    if _belongs(projection, event):
        told = str(event.data.get("reason") or "unknown")
        move(projection, Lifecycle.STOPPED, STOP_REASONS.get(told, told), at, event.line)


def _no_progress_stop(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    if _belongs(projection, event):
        move(projection, Lifecycle.STOPPED, "no_progress", at, event.line)


def _failure(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    if _belongs(projection, event):
        _take_iteration(projection, event)
        move(projection, Lifecycle.FAILED, FAILURES[event.name], at, event.line)


def _usage_limit(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    # The runtime either waits on (with no further event) or stops; only the process tells which.
    _other(projection, event, at)
    projection.usage_limited = _belongs(projection, event)


def _other(projection: Projection, event: EventDigest, at: datetime | None) -> None:
    if not _belongs(projection, event):
        return
    _take_iteration(projection, event)
    projection.usage_limited = False
    if projection.reason in _PRESUMED_OVER and projection.lifecycle in (Lifecycle.FAILED, Lifecycle.STOPPED):
        # We had concluded from missing evidence that the run was over; it speaks, so it is not.
        move(projection, Lifecycle.RUNNING, "events_resumed", at, event.line)
    elif projection.lifecycle in (Lifecycle.UNKNOWN, Lifecycle.STARTING) and event.name.startswith(PHASE_PREFIXES):
        # Its `iteration_start` was not among the lines that could be read.
        move(projection, Lifecycle.RUNNING, "phase_events", at, event.line)


def _take_iteration(projection: Projection, event: EventDigest) -> None:
    if projection.run and event.iteration > 0:
        projection.run.iteration = event.iteration


_RULES: dict[str, Callable[[Projection, EventDigest, datetime | None], None]] = {
    "loop_start": _loop_start,
    "iteration_start": _iteration_start,
    "approval_requested": _approval_requested,
    "approval_wait": _approval_wait,
    "approval_decision": _approval_decision,
    "approval_consumed": _approval_consumed,
    "approval_rejected": _approval_rejected,
    "loop_complete": _loop_complete,
    "loop_stop": _loop_stop,
    "no_progress_stop": _no_progress_stop,
    "role_timeout": _failure,
    "rate_limit_stop": _failure,
    "usage_limit_blocked": _usage_limit,
}
