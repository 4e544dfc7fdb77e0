"""What confirms an intent: pure rules over event lines after the baseline, and over what is on disk after a cancel.

| intent | confirmed by |
|---|---|
| approve | `approval_consumed` or `loop_complete` of the run that asked for approval |
| reject | `approval_rejected`, of any run id, then `iteration_start` of that run: the work goes on |
| cancel | the run's process gone, state gone or inactive, active-run.json gone or its process dead; or a later run |

Only lines after the baseline are ever looked at (D18); that the decision was recorded is known from the command,
which the runtime lets succeed only while an approval is pending.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, Field

from contract.chain import event_name
from contract.intents import Intent
from sprite.control.situation import ActivePid, Situation

TERMINAL_EVENTS = frozenset({"loop_complete", "loop_stop", "no_progress_stop", "rate_limit_stop", "role_timeout"})
"""Events with which a run ends by itself."""


class RunRef(BaseModel):
    """A process, named by pid and start time, so that a reused pid is another one."""

    pid: int
    start_time: str | None = None


class Baseline(BaseModel):
    """What was there right before the command: lines in the log, the run addressed, the processes running it.

    `line` is None when the log could not be read: then no line of it is evidence; `chain` (hex) is the log's chain
    there, so that another log is known by it. `run_id` is None when no run has said its name: the run addressed may
    have started too recently to have logged anything. The rest tells a command that was lost from one that did
    nothing: `at` is the time, `iteration` and `requested_at` those of the approval request, `decisions_bytes` the size
    of decisions.jsonl; a digest is None where there is no such file.
    """

    line: int | None = 0
    run_id: str | None = None
    runs: list[RunRef] = Field(default_factory=list)
    at: str | None = None
    approval_sha256: str | None = None
    iteration: int | None = None
    requested_at: str | None = None
    decisions_bytes: int = 0
    state_sha256: str | None = None
    chain: str | None = None


class Verdict(BaseModel):
    """`line` is the event line that confirms; `reason` says what was, or was not yet, seen."""

    confirmed: bool
    reason: str
    line: int | None = None


def judge_decision(intent: Intent, baseline: Baseline, events: Iterable[tuple[int, dict[str, Any]]]) -> Verdict:
    """Judge an approve or reject by `(line number, raw event)` after the baseline, in order."""
    rejected_by_run: set[Any] = set()
    for line, event in events:
        name, run_id = event_name(event), event.get("run_id")
        if intent is Intent.APPROVE_PENDING:
            # A request without a run id (`{}` counts as pending, too) is consumed under whatever id the runtime gives.
            if name in ("approval_consumed", "loop_complete") and run_id in (baseline.run_id or run_id, None):
                return Verdict(confirmed=True, reason=f"{name}_observed", line=line)
        elif name == "approval_rejected":
            rejected_by_run.add(run_id)
        elif name == "iteration_start" and run_id in rejected_by_run:
            return Verdict(confirmed=True, reason="rejection_observed", line=line)
    if intent is Intent.APPROVE_PENDING:
        return Verdict(confirmed=False, reason="approved_not_consumed_yet")
    return Verdict(confirmed=False, reason="rejected_not_continued_yet")


def judge_cancel(baseline: Baseline, after: Situation, events: Iterable[tuple[int, dict[str, Any]]]) -> Verdict:
    """Judge a cancel by what is on disk and which processes live, now, and by the events after the baseline."""
    addressed = {(run.pid, run.start_time) for run in baseline.runs}
    if any((run.pid, run.start_time) in addressed for run in after.runs):
        return Verdict(confirmed=False, reason="run_process_still_alive")
    ended, later = end_of_run(baseline, events)
    # What is on disk once a later run has begun is that run's, and says nothing about this one.
    if later is None and after.active_loop_id is not None:
        return Verdict(confirmed=False, reason="state_still_active")
    if later is None and after.active_pid not in (ActivePid.NONE, ActivePid.DEAD):
        return Verdict(confirmed=False, reason="active_run_still_alive")
    if ended is not None:
        return Verdict(confirmed=True, reason="ended_by_itself", line=ended)
    if later is not None:
        return Verdict(confirmed=True, reason="later_run_started", line=later)
    return Verdict(confirmed=True, reason="inactive_not_running")


def end_of_run(baseline: Baseline, events: Iterable[tuple[int, dict[str, Any]]]) -> tuple[int | None, int | None]:
    """The lines of the terminal event of the run addressed, and of the start of a later run, each None without one.

    The runtime refuses a run while one is active, so a later start proves that the run addressed is over.
    """
    run_id, ended = baseline.run_id, None
    nameless = run_id is None and bool(baseline.runs)
    for line, event in events:
        name = event_name(event)
        if name == "loop_start" and nameless:
            run_id, nameless = event.get("run_id"), False
        elif name == "loop_start":
            return ended, line
        elif name in TERMINAL_EVENTS and event.get("run_id") == run_id and ended is None:
            ended = line
    return ended, None
