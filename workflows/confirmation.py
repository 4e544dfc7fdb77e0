"""What counts as evidence that an intent took effect, and what to say when none came.

| intent | recorded | confirmed |
|---|---|---|
| cancel | the command exited 0 | that process gone, and state.json gone or inactive; or the run ended by itself |
| approve | `approval_decision` approved, ours | first `approval_consumed` of that run after it |
| reject | `approval_decision` rejected, ours | first `approval_rejected` after it, then `iteration_start` of that run |

Only evidence after the baseline counts (D7, D18), and only until another request or decision takes the place of ours.
Late evidence upgrades a record.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from contract.clock import parse_utc
from contract.errors import ErrorCode
from contract.intents import Intent
from contract.observation import ControlOutcome, ControlOutcomeKind, EventDigest, SnapshotDigest, Target
from contract.status import IntentRecord, IntentStage
from workflows import cancelling
from workflows.records import cannot_know, confirm, reach, refuse
from workflows.wording import after_lost_try, already_decided, clock, recorded, recorded_and_taken_up, recorded_in_vain

DECISIONS = {Intent.APPROVE_PENDING: "approved", Intent.REJECT_PENDING: "rejected"}
_TAKES_ITS_PLACE = ("approval_requested", "approval_decision")
NOT_PENDING = "not pending"
"""The runtime's words when somebody else has decided: `approval request is not pending (status=...)`."""


def take_event(record: IntentRecord, event: EventDigest, now: datetime) -> None:
    """Note one new event line as evidence for an intent whose command has been started.

    While a replaced log is read again there is no baseline: then only a decision made since the intent was judged
    counts, with what follows it, and nothing is confirmed before the head is reached.
    """
    if record.final or (record.baseline_line is not None and event.line <= record.baseline_line):
        return
    if record.intent == Intent.CANCEL_LOOP:
        cancelling.take_end(record, event)
        return
    if event.name == "approval_decision":
        _take_decision(record, event)
    decided = _decided_after(record)
    if decided is None or event.line <= decided or record.stage is IntentStage.CONFIRMED:
        return
    if event.name in _TAKES_ITS_PLACE:
        _taken_over(record, event, now)
    else:
        _take_consumption(record, event, now)


def _take_decision(record: IntentRecord, event: EventDigest) -> None:
    status = event.status or event.data.get("status")
    ours = status == DECISIONS[Intent(record.intent)] and event.data.get("by") == record.by
    made_at = event.data.get("at") or event.timestamp
    if record.decision_line is not None or not ours or event.run_id != (record.run_id or event.run_id):
        return
    if record.baseline_line is not None or _made_since(record, str(made_at)):
        record.decision_line = event.line


def _made_since(record: IntentRecord, decided_at: str | None) -> bool:
    """Whether a decision was made after the intent was judged; both times are the sprite's, so they may be compared."""
    judged, decided = parse_utc(record.baseline_at), parse_utc(decided_at)
    return judged is None or decided is None or decided >= judged


def _decided_after(record: IntentRecord) -> int | None:
    """The line after which a run takes our decision up, None as long as none of ours is known."""
    # Recorded by approval.json alone, the decision has no line; the baseline then is what consumption comes after.
    known = record.baseline_line if record.stage is IntentStage.RECORDED else None
    return record.decision_line if record.decision_line is not None else known


def _taken_over(record: IntentRecord, event: EventDigest, now: datetime) -> None:
    """approval.json holds another request or decision now: what is taken up from here on is not ours."""
    if record.effect_line is not None:
        return  # a replaced log is being read again, and the effect has been found in it
    _recorded_before(record, now)
    record.final = True
    if record.effect_run_id is None:
        record.sentence = recorded_in_vain(record, event.line)


def _take_consumption(record: IntentRecord, event: EventDigest, now: datetime) -> None:
    if record.intent == Intent.APPROVE_PENDING:
        if event.name == "approval_consumed" and event.run_id == record.run_id:
            _note_effect(record, event)
    elif event.name == "approval_rejected" and record.effect_run_id is None:
        record.effect_run_id = event.run_id
        if record.stage is IntentStage.RECORDED:
            record.sentence = recorded_and_taken_up(record, event.line)
    elif event.name == "iteration_start" and event.run_id == record.effect_run_id:
        _note_effect(record, event)
    if record.effect_line is not None and record.baseline_line is not None:
        _confirm_effect(record, now)


def _note_effect(record: IntentRecord, event: EventDigest) -> None:
    record.effect_line, record.effect_run_id, record.effect_event = event.line, event.run_id, event.name


def _confirm_effect(record: IntentRecord, now: datetime) -> None:
    line = record.effect_line
    _recorded_before(record, now)
    if record.intent == Intent.APPROVE_PENDING:
        confirm(record, now, f"a run consumed the approval on line {line}", line)
    else:
        confirm(record, now, f"run {record.effect_run_id} works on since line {line}", line)


def _recorded_before(record: IntentRecord, now: datetime) -> None:
    if all(stage.stage is not IntentStage.RECORDED for stage in record.stages):
        # The decision and what followed it came in one observation.
        _reach_recorded(record, now, f"approval_decision on line {record.decision_line}")


def _reach_recorded(record: IntentRecord, now: datetime, evidence: str) -> None:
    record.late = record.late or record.stage is IntentStage.AMBIGUOUS
    reach(record, IntentStage.RECORDED, now, evidence, record.decision_line)
    record.reason, record.deadline = evidence, None


def take_outcome(
    record: IntentRecord,
    outcome: ControlOutcome,
    target: Target,
    now: datetime,
    *,
    recorded_wait_s: float,
    cancel_confirm_wait_s: float,
) -> None:
    """Fold the command's answer into the record of an intent in stage `executing`."""
    record.transport, record.argv = outcome.transport, outcome.argv
    record.exit_code, record.output, record.replayed = outcome.exit_code, outcome.output, outcome.replayed
    record.recovered = outcome.recovered
    if record.stage is not IntentStage.EXECUTING:
        return  # evidence overtook the answer, and it is the better witness
    if outcome.kind is ControlOutcomeKind.EXECUTED:
        record.exit_code = outcome.exit_code or 0
        _executed(record, target, now, recorded_wait_s, cancel_confirm_wait_s)
    elif outcome.kind is ControlOutcomeKind.FAILED_COMMAND:
        record.reason = outcome.output or outcome.message or f"exit code {outcome.exit_code}"
        reach(record, IntentStage.FAILED_COMMAND, now, f"exit code {outcome.exit_code}: {record.reason}")
        record.sentence = f"Failed: the command answered exit code {outcome.exit_code}: {record.reason}"
    elif outcome.kind is ControlOutcomeKind.REFUSED:
        _refused(record, outcome, target, now)
    else:
        # A negative code stands for an end that nobody saw: it must not speak against later evidence.
        record.exit_code = None
        cannot_know(record, target, now, outcome.message)


def _refused(record: IntentRecord, outcome: ControlOutcome, target: Target, now: datetime) -> None:
    told = f"the sprite refused ({outcome.code}): {outcome.message}"
    # A refusal says nothing of an earlier try that got lost on its way, which may still be taken. Only a key that
    # belongs to another request does: under it nothing else is ever executed, and every try of ours asked the same.
    if record.lost_at is None or outcome.code == ErrorCode.KEY_REUSED:
        refuse(record, now, told)
    else:
        cannot_know(record, target, now, after_lost_try(record, f"Sent again, {told}"))


def _executed(
    record: IntentRecord, target: Target, now: datetime, recorded_wait_s: float, cancel_confirm_wait_s: float
) -> None:
    evidence = _how_it_ended(record)
    if record.no_confirm:
        reach(record, IntentStage.EXECUTED_UNCONFIRMED, now, evidence)
        record.sentence = f"Executed: {evidence}; no confirmation was asked for."
    elif record.intent == Intent.CANCEL_LOOP:
        reach(record, IntentStage.RECORDED, now, evidence)
        record.sentence = f"Recorded: {record.by} cancelled; {evidence}. Waiting to see the process gone."
        record.deadline = now + timedelta(seconds=cancel_confirm_wait_s)
    else:
        record.deadline = now + timedelta(seconds=recorded_wait_s)
        record.sentence = f"Executed: {evidence}. Waiting to see the decision in the log."
    record.reason = evidence


def _how_it_ended(record: IntentRecord) -> str:
    if record.recovered:
        return "its effect was found in the sprite; nobody saw the command end"
    return "the command exited 0" + (" (an earlier answer of the same key)" if record.replayed else "")


def settle_decision(record: IntentRecord, snapshot: SnapshotDigest | None, target: Target, now: datetime) -> None:
    """Raise an approve or reject to `recorded` once its decision is visible in the log or in approval.json."""
    if record.intent == Intent.CANCEL_LOOP or record.stage not in (IntentStage.EXECUTING, IntentStage.AMBIGUOUS):
        return
    if record.baseline_line is None:
        return  # a replaced log is being read again
    if record.exit_code != 0 and record.stage is IntentStage.EXECUTING:
        return
    if record.decision_line is not None:
        evidence = f"approval_decision on line {record.decision_line}"
    elif _decided_by_us(record, snapshot):
        evidence = "approval.json holds the decision"
    else:
        return
    _reach_recorded(record, now, evidence)
    record.sentence = recorded(record, target)


def _decided_by_us(record: IntentRecord, snapshot: SnapshotDigest | None) -> bool:
    approval = snapshot.approval if snapshot else None
    if approval is None or approval.status != DECISIONS.get(Intent(record.intent)):
        return False
    ours = approval.decision_by == record.by and (approval.run_id or "unknown") == record.run_id
    return ours and _made_since(record, approval.decision_at)


def refute(record: IntentRecord, snapshot: SnapshotDigest | None, now: datetime) -> None:
    """Somebody else's decision stands: a command of ours that failed or got lost did nothing. Say who was first.

    A decision cannot be changed, so ours cannot have been taken, nor ever be.
    """
    approval = snapshot.approval if snapshot else None
    if approval is None or record.intent not in DECISIONS or approval.status not in DECISIONS.values():
        return
    if (approval.run_id or "unknown") != record.run_id:
        return
    theirs = approval.decision_by != record.by or approval.status != DECISIONS[Intent(record.intent)]
    told = f"{record.output} {record.reason}"
    failed = record.stage is IntentStage.FAILED_COMMAND and NOT_PENDING in told
    lost = record.stage is IntentStage.AMBIGUOUS and record.exit_code is None
    if theirs and (failed or lost):
        refuse(record, now, already_decided(approval))


def overdue(record: IntentRecord, snapshot: SnapshotDigest | None, target: Target, now: datetime) -> None:
    """The wait for evidence has ended: say so. Later evidence still upgrades the record."""
    if record.deadline is None or now < record.deadline:
        return
    record.deadline = None
    answered = "the sprite found its effect" if record.recovered else "the command answered 0"
    if snapshot is None:
        reason = f"{answered}, but nothing could be observed since."
    elif record.intent == Intent.CANCEL_LOOP:
        seen = cancelling.still_there(record, snapshot, target.loop_id)
        reason = f"{answered}, but when last looked, at {clock(snapshot.emitted_at)}, {seen}."
    else:
        reason = (
            f"{answered}, but when last looked, at {clock(snapshot.emitted_at)}, no decision was visible, "
            "neither in the log nor in approval.json."
        )
    cannot_know(record, target, now, reason)


def forget_lines(records: list[IntentRecord]) -> None:
    """A new epoch began: no line number of the old one means anything, baselines wait for the head of the new."""
    for record in records:
        record.baseline_line = record.run_line = record.decision_line = record.effect_line = record.effect_event = None
        if record.intent == Intent.CANCEL_LOOP:
            # Of a rejection it says which run has taken it up, and that stays true.
            record.effect_run_id = None


def rebase(records: list[IntentRecord], head_line: int, now: datetime) -> None:
    """The re-ingest reached the head: evidence counts from here on, and what was found on the way is believed."""
    for record in records:
        if record.baseline_line is None:
            record.baseline_line = head_line
            if record.effect_line is not None:
                _confirm_effect(record, now)
