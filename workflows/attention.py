"""Which loops need a human, and why: one code and one sentence per reason, silence otherwise (D1, D10).

The most urgent reason is what a loop is listed with; every one of them is a condition that opens and closes.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from contract.clock import parse_utc
from contract.intents import Expect, Intent
from contract.observation import Contact, Freshness
from contract.status import Attention, AttentionReport, IntentRecord, IntentStage, Lifecycle, OpenCondition
from workflows.judgement import SHA_PREFIX
from workflows.lifecycle import AT_WORK
from workflows.state import RunRef, SupervisorState
from workflows.wording import (
    cancel_command,
    loop_name,
    moment,
    next_resolution,
    run_command,
    signal_command,
    status_command,
)

_CONTACT = {
    Contact.WRONG_SPRITE: Attention.WRONG_SPRITE,
    Contact.UNAUTHORIZED: Attention.UNAUTHORIZED,
    Contact.RUNTIME_ERROR: Attention.SPRITE_ERROR,
    Contact.LOOP_NOT_FOUND: Attention.LOOP_MISSING,
}
_CONTACT_SENTENCES = {
    Attention.WRONG_SPRITE: "Another sprite answers here: {detail}. Check the URL and the queue; nothing is applied.",
    Attention.UNAUTHORIZED: "The service refuses our token: {detail}. Mend the token; it is read anew at every try.",
    Attention.SPRITE_ERROR: "The sprite answers, but cannot read the loop: {detail}",
    Attention.LOOP_MISSING: "The loop's folder is gone from the sprite: {detail}",
}


@dataclass(frozen=True)
class Reason:
    """Why a human is needed. `kind` and `subject` together name it: with another subject it is another reason."""

    kind: Attention
    subject: str
    sentence: str
    since: datetime | None
    next_command: str | None = None
    run_id: str | None = None
    iteration: int | None = None


def assess(state: SupervisorState) -> AttentionReport:
    """The most urgent reason that this loop needs a human; code NONE and no words when none does."""
    found = reasons(state)
    if not found:
        return AttentionReport()
    first = found[0]
    others = sum(reason.kind is first.kind for reason in found) - 1
    return AttentionReport(
        code=first.kind,
        sentence=first.sentence + (f" (and {others} more)" if others else ""),
        since=first.since,
        next_command=first.next_command,
    )


def reasons(state: SupervisorState) -> list[Reason]:
    """Every reason that holds, the most urgent first.

    What the log tells is judged at its head only. On the way there, after an outage or through a log that was replaced,
    what held before is held on to: half a story is no news, and neither is the same story told again.
    """
    found = [reason for rule in (_diverged, _contact, _blind, _service_down) for reason in rule(state)]
    # A replaced log has to be read once more before it says which run left a question behind.
    found += _ambiguous(state) if state.announced else _held(state, {Attention.AMBIGUOUS})
    if state.announced and state.at_head:
        found += [reason for rule in (_ended_badly, _stale, _pending) for reason in rule(state)]
    else:
        found += _held(state, _TOLD_BY_THE_LOG)
    return sorted(found, key=lambda reason: _URGENCY[reason.kind])


def _held(state: SupervisorState, kinds: Set[Attention]) -> list[Reason]:
    return [_as_it_was(condition) for condition in state.conditions if condition.kind in kinds]


def _as_it_was(condition: OpenCondition) -> Reason:
    return Reason(
        condition.kind,
        condition.subject,
        condition.sentence,
        condition.since,
        condition.next_command,
        condition.run_id,
        condition.iteration,
    )


def _status(state: SupervisorState) -> str:
    return status_command(state.target)


def _doctor(state: SupervisorState) -> str:
    return f"ops-manager doctor {loop_name(state.target)}"


def _diverged(state: SupervisorState) -> Iterator[Reason]:
    for divergence in state.divergences:
        subject = f"{divergence.id} {divergence.type}"
        sentence = f"Contradictory signals, {subject}: {divergence.detail}"
        command = next_resolution(state.target, divergence) or _status(state)
        yield Reason(Attention.DIVERGED, subject, sentence, divergence.since, command)


def _ambiguous(state: SupervisorState) -> Iterator[Reason]:
    for record in reversed(state.intents):
        if not is_open_question(state, record):
            continue
        since = record.stages[-1].at if record.stages else record.received_at
        yield Reason(
            Attention.AMBIGUOUS,
            f"intent {record.key}",
            record.sentence,
            since,
            _status(state),
            record.run_id,
            record.iteration,
        )


def is_open_question(state: SupervisorState, record: IntentRecord) -> bool:
    """Whether nobody can know what became of an intent, and the answer still matters."""
    if record.stage is not IntentStage.AMBIGUOUS:
        return False
    started = state.projection.started
    # A run that began later has left the question behind.
    settled = started is not None and record.baseline_line is not None and started.line > record.baseline_line
    # A cancel of which nothing came is of interest as long as its run is at work.
    pointless = record.final and state.projection.lifecycle not in AT_WORK
    return not (settled or pointless)


def _contact(state: SupervisorState) -> Iterator[Reason]:
    condition = state.condition
    kind = _CONTACT.get(condition.contact) if condition else None
    if condition is None or kind is None:
        return
    if kind is Attention.LOOP_MISSING and state.projection.run is None:
        return
    sentence = _CONTACT_SENTENCES[kind].format(detail=condition.detail or condition.contact.value)
    if "state.json" in condition.detail:
        # A run killed between truncating the file and writing it leaves it so for good.
        sentence += ". If a killed run left it so, clear it in the sprite: "
        sentence += cancel_command(state.target)
    yield Reason(kind, "the sprite", sentence, condition.since, _doctor(state))


def _blind(state: SupervisorState) -> Iterator[Reason]:
    transport = state.transport
    if transport.blind:
        seen = f"last seen {moment(state.observed_at)} as {_state_words(state)}" if state.observed_at else "never seen"
        sentence = f"Cannot see the loop ({seen}): {transport.reason}"
        down = transport.service_down
        if down is not None and down.answers and down.reason not in transport.reason:
            sentence += f". The sprite service could not be compared yet: {down.reason}"
        yield Reason(Attention.BLIND, "the loop", sentence, transport.blind_since, _doctor(state))


def _service_down(state: SupervisorState) -> Iterator[Reason]:
    down = state.transport.service_down
    # Without a local transport that answers nothing goes on: then the loop is blind, or about to be.
    if down is not None and down.bridged and not state.transport.blind:
        what = "could not be compared yet" if down.answers else "does not answer"
        sentence = f"The sprite service {what}, supervision goes on through the local transport: {down.reason}"
        yield Reason(Attention.SERVICE_DOWN, "the sprite service", sentence, down.since, _doctor(state))


def _state_words(state: SupervisorState) -> str:
    return state.projection.lifecycle.value.replace("_", " ")


def _of_run(
    kind: Attention, run: RunRef | None, sentence: str, since: datetime | None, next_command: str | None = None
) -> Reason:
    if run is None:
        return Reason(kind, "a run", sentence, since, next_command)
    # The line of its `loop_start` as well, because run ids have one-second resolution.
    subject = f"run {run.run_id} of line {run.line}"
    return Reason(kind, subject, sentence, since, next_command, run.run_id, run.iteration)


def _ended_badly(state: SupervisorState) -> Iterator[Reason]:
    projection, snapshot = state.projection, state.snapshot
    if projection.lifecycle is Lifecycle.STOPPED:
        yield from _stopped(state)
    if projection.lifecycle is not Lifecycle.FAILED:
        return
    kind = Attention.CRASHED if projection.reason == "crashed" else Attention.FAILED
    blocked = snapshot is not None and snapshot.state_active and snapshot.state_loop_id == state.target.loop_id
    evidence = f" ({projection.evidence})" if projection.evidence else ""
    what = f"The run died without a word{evidence}"
    if kind is Attention.FAILED:
        what = f"The run failed: {projection.reason}"
    sentence, command = f"{what}. To go on, in the sprite: {run_command(state.target)}", None
    if blocked:
        sentence = f"{what}. The runtime refuses every further run until it is cleared (nothing is killed)."
        command = f"ops-manager cancel {loop_name(state.target)}"
    yield _of_run(kind, projection.run, sentence, projection.since, command)


def _stopped(state: SupervisorState) -> Iterator[Reason]:
    projection = state.projection
    if projection.reason in ("cancelled", "state_removed"):
        return
    sentence = f"Stopped without completing: {projection.reason}. To go on, in the sprite: "
    if projection.reason == "stuck":
        # The runtime refuses every further run while this file stands at its threshold.
        sentence += f"remove .superloop/loops/{state.target.loop_id}/stuck.json, then "
    sentence += run_command(state.target)
    yield _of_run(Attention.STOPPED, projection.run, sentence, projection.since)


def _stale(state: SupervisorState) -> Iterator[Reason]:
    snapshot, projection = state.snapshot, state.projection
    if snapshot is None or snapshot.freshness is not Freshness.STALE or projection.lifecycle is not Lifecycle.RUNNING:
        return
    age_s = snapshot.heartbeat_age_s or 0.0
    # Age by the sprite's clock, advanced by ours: the same instant at every observation.
    since = state.observed_at - timedelta(seconds=age_s) if state.observed_at else None
    sentence = f"Running, but its heartbeat is {age_s:.0f} s old. Look at the logs of the loop in the sprite."
    yield _of_run(Attention.STALE, projection.run, sentence, since, _status(state))


def pending_expectation(state: SupervisorState) -> Expect:
    """The preconditions of a decision on the approval that is shown: exactly this request, or nothing."""
    approval = state.snapshot.approval if state.snapshot else None
    if approval is None:
        return Expect(sprite_id=state.target.sprite_id)
    return Expect(
        sprite_id=state.target.sprite_id,
        run_id=approval.run_id,
        approval_sha256=approval.sha256[:SHA_PREFIX] if approval.sha256 else None,
    )


def _pending(state: SupervisorState) -> Iterator[Reason]:
    """An approval that waits for a human, or a decision that waits for a run.

    A run that has just begun does not know yet which of them it will find, and a `loop_start` consumes nothing.
    """
    projection = state.projection
    waiting = projection.waiting_run
    undecided = projection.lifecycle is Lifecycle.STARTING and waiting is not None
    if projection.lifecycle is Lifecycle.AWAITING_APPROVAL or (undecided and projection.decision is None):
        run = waiting or projection.run
        about = f"run {run.run_id} iteration {run.iteration}" if run else "a run"
        command = signal_command(state.target, Intent.APPROVE_PENDING, pending_expectation(state))
        sentence = f"Waiting for approval of {about}: approve or reject it."
        since = projection.waiting_since or projection.since
        yield _of_run(Attention.APPROVAL_WAITING, run, sentence, since, command)
    elif projection.lifecycle is Lifecycle.DECIDED or undecided:
        yield _not_resumed(state)


def _not_resumed(state: SupervisorState) -> Reason:
    projection = state.projection
    decision, starting = projection.decision, projection.lifecycle is Lifecycle.STARTING
    by, status = (decision.by, decision.status) if decision else ("somebody", projection.reason)
    sentence = f"{by} {status} it, and no run has consumed that yet. In the sprite: {run_command(state.target)}"
    since = parse_utc(decision.at) if starting and decision else projection.since
    return _of_run(Attention.APPROVED_NOT_RESUMED, projection.waiting_run or projection.run, sentence, since)


_TOLD_BY_THE_LOG = frozenset(
    {
        Attention.CRASHED,
        Attention.FAILED,
        Attention.STOPPED,
        Attention.STALE,
        Attention.APPROVAL_WAITING,
        Attention.APPROVED_NOT_RESUMED,
    }
)
_URGENCY = {kind: rank for rank, kind in enumerate(Attention)}
