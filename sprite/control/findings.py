"""What a command did whose result nobody recorded: pure rules over what was there before it, and what is there now.

To be applied once no process of the command is left. The runtime's order of writing makes every point in between
decidable but few (superloop 0.6):

| command | writes, in this order | so |
|---|---|---|
| approve, reject | approval.json (moved in place), decisions.jsonl, decisions.md, event `approval_decision` | an untouched approval.json means nothing was done; a decision of ours in any of them means that it counts, because a run takes up what approval.json says |
| cancel | state.json deleted, TERM to the run, KILL after 10 s, active-run.json deleted | an untouched state.json means nothing was done; a run that lives has not been cancelled, and cancelling it, or clearing what it left, finishes what was begun |
"""  # noqa: E501 - a table

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from contract.chain import event_name
from contract.intents import Intent
from sprite.control.evidence import Baseline, end_of_run
from sprite.control.situation import Situation

DECIDED = {Intent.APPROVE_PENDING: "approved", Intent.REJECT_PENDING: "rejected"}
_TELLING = ("approval_decision", "approval_consumed")
_TAKING_UP = ("approval_consumed", "approval_rejected")


class Effect(StrEnum):
    """What became of the effect of a command."""

    SEEN = "seen"
    ABSENT = "absent"
    """Provably nothing was done: the command may be run again."""
    UNFINISHED = "unfinished"
    """A cancel whose run lives or can be cleared: running it again finishes it, and ends no other run."""
    UNKNOWN = "unknown"
    """Nobody can know; it is never run again."""


class Finding(BaseModel):
    """`reason` and `evidence` say what was seen, and where: paths, line numbers, times."""

    effect: Effect
    reason: str
    evidence: dict[str, Any] = Field(default_factory=dict)


class Decision(BaseModel):
    """One decision as some file tells of it. `line` is that of the event log."""

    source: str
    status: str
    by: str | None = None
    note: str | None = None
    at: str | None = None
    run_id: str | None = None
    line: int | None = None


class Request(BaseModel):
    """approval.json as it is: `digest` None when it is missing, `readable` False when it is damaged."""

    digest: str | None = None
    readable: bool = True
    status: str | None = None
    run_id: str | None = None
    iteration: int | None = None
    requested_at: str | None = None
    decision: Decision | None = None

    @classmethod
    def of(cls, content: dict[str, Any], digest: str | None) -> Request:
        """Read approval.json's content; `{}` counts as pending, as it does for the runtime."""
        status = _text(content.get("status")) or ("pending" if digest else None)
        iteration = content.get("iteration")
        return cls(
            digest=digest,
            status=status,
            run_id=_text(content.get("run_id")),
            iteration=iteration if isinstance(iteration, int) else None,
            requested_at=_text(content.get("requested_at")),
            decision=_decision("approval.json", content.get("decision"), content.get("run_id")),
        )

    def is_request_of(self, before: Baseline) -> bool:
        """Whether this is the request that was there at the baseline, decided or not."""
        return (self.run_id, self.iteration, self.requested_at) == (
            before.run_id,
            before.iteration,
            before.requested_at,
        )


def decisions_in_events(events: Iterable[tuple[int, dict[str, Any]]]) -> list[Decision]:
    """The decisions that event lines tell of."""
    told = (
        _decision(event_name(event) or "", event.get("data"), event.get("run_id"), line)
        for line, event in events
        if event_name(event) in _TELLING
    )
    return [decision for decision in told if decision is not None]


def decisions_in_record(lines: Iterable[dict[str, Any]]) -> list[Decision]:
    """The decisions that lines of decisions.jsonl tell of."""
    told = (
        _decision(
            "decisions.jsonl",
            {**line, "status": line.get("decision"), "at": line.get("timestamp")},
            line.get("run_id"),
        )
        for line in lines
    )
    return [decision for decision in told if decision is not None]


def was_taken_up(events: Iterable[tuple[int, dict[str, Any]]]) -> bool:
    """Whether event lines tell that a run took up a decision, and deleted approval.json."""
    return any(event_name(event) in _TAKING_UP for _, event in events)


def find_decision(
    intent: Intent,
    by: str,
    note: str | None,
    before: Baseline,
    now: Request,
    recorded: Sequence[Decision],
    *,
    taken_up: bool = False,
) -> Finding:
    """What became of an approve or reject.

    `recorded` holds what the files tell of that were written since; `taken_up`: a run has taken up a decision since.
    """
    standing = [now.decision] if now.decision is not None and now.digest != before.approval_sha256 else []
    # On whatever request: another one may have come between the baseline and the command.
    mine = [one for one in (*standing, *recorded) if _same(one, DECIDED[intent], by, note)]
    ours = [one for one in mine if before.at is None or (one.at is not None and one.at >= before.at)]
    if ours:
        return Finding(effect=Effect.SEEN, reason="decision_recorded", evidence={"decisions": _shown(ours)})
    as_it_is = {"approvalSha256": now.digest}
    # Without a time or a run id in it, or without a file at all, one request looks like the next.
    same_place = now.readable and not (taken_up and before.requested_at is None)
    if same_place and now.digest == before.approval_sha256:
        return Finding(effect=Effect.ABSENT, reason="approval_untouched", evidence=as_it_is)
    if same_place and not mine and now.is_request_of(before):
        # A decision can be neither changed nor taken back.
        if standing:
            return Finding(effect=Effect.ABSENT, reason="decided_otherwise", evidence={"decisions": _shown(standing)})
        if now.status == "pending":
            return Finding(effect=Effect.ABSENT, reason="approval_still_pending", evidence=as_it_is)
    return Finding(effect=Effect.UNKNOWN, reason="approval_unreadable" if not now.readable else "approval_replaced")


def find_cancel(
    loop_id: str,
    before: Baseline,
    after: Situation,
    state_sha256: str | None,
    events: Iterable[tuple[int, dict[str, Any]]] | None,
) -> Finding:
    """What became of a cancel; `state_sha256` is None when state.json is gone, `events` when they cannot be read."""
    addressed = {(run.pid, run.start_time) for run in before.runs}
    living = [run.pid for run in after.runs if (run.pid, run.start_time) in addressed]
    untouched = state_sha256 is not None and state_sha256 == before.state_sha256
    # Two runs of one second write the same bytes; where another run is at work, they may be that run's.
    if untouched and (living or not after.runs):
        return Finding(effect=Effect.ABSENT, reason="state_untouched", evidence={"stateSha256": state_sha256})
    if living:
        return Finding(effect=Effect.UNFINISHED, reason="run_still_alive", evidence={"pids": living})
    if before.runs and not after.scan_complete:
        return Finding(effect=Effect.UNKNOWN, reason="processes_not_visible")
    gone = {"pidsGone": [run.pid for run in before.runs]}
    if state_sha256 is None and before.state_sha256 is None:
        # A run that is just starting has none: it may have been ended by the signal, or have been refused.
        return Finding(effect=Effect.UNKNOWN, reason="no_state_before", evidence=gone)
    return _find_by_what_followed(loop_id, before, after, state_sha256, events, gone)


def _find_by_what_followed(
    loop_id: str,
    before: Baseline,
    after: Situation,
    state_sha256: str | None,
    events: Iterable[tuple[int, dict[str, Any]]] | None,
    gone: dict[str, Any],
) -> Finding:
    """The run is gone, and state.json has been deleted or written since."""
    removed = Finding(effect=Effect.SEEN, reason="state_removed", evidence=gone)
    if events is None:
        unreadable = Finding(effect=Effect.UNKNOWN, reason="log_unreadable", evidence=gone)
        return removed if state_sha256 is None else unreadable
    ended, later = end_of_run(before, events)
    if ended is not None:
        return Finding(effect=Effect.UNKNOWN, reason="ended_by_itself", evidence={**gone, "eventLine": ended})
    if later is not None:
        # The runtime refuses a run until what crashed is cleared; what was at work may have ended without a word.
        effect = Effect.UNKNOWN if before.runs else Effect.SEEN
        return Finding(effect=effect, reason="later_run_started", evidence={**gone, "eventLine": later})
    if state_sha256 is None:
        return removed
    if after.runs:
        pids = [run.pid for run in after.runs]
        return Finding(effect=Effect.UNKNOWN, reason="another_run_lives", evidence={**gone, "pids": pids})
    if after.active_loop_id == loop_id:
        # The run may have written it anew between the deletion and the signal that ended it.
        return Finding(effect=Effect.UNFINISHED, reason="state_still_active", evidence={"stateSha256": state_sha256})
    return Finding(effect=Effect.UNKNOWN, reason="state_replaced", evidence=gone)


def _same(decision: Decision, status: str, by: str, note: str | None) -> bool:
    return (decision.status, decision.by, (decision.note or "").strip()) == (status, by, (note or "").strip())


def _shown(decisions: Iterable[Decision]) -> list[dict[str, Any]]:
    return [one.model_dump(exclude_none=True, include={"source", "status", "by", "at", "line"}) for one in decisions]


def _decision(source: str, told: Any, run_id: Any, line: int | None = None) -> Decision | None:
    if not isinstance(told, dict) or _text(told.get("status")) is None:
        return None
    return Decision(
        source=source,
        status=told["status"],
        by=_text(told.get("by")),
        note=_text(told.get("note")),
        at=_text(told.get("at")),
        run_id=_text(run_id),
        line=line,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
