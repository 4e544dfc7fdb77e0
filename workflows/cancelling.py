"""What counts as evidence that a cancel took effect: its process is gone and state.json too, or the run ended itself.

A later `loop_start` also shows that a cancelled run is over: the runtime starts none while state.json is active.
"""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

from contract.intents import Intent
from contract.observation import EventDigest, SnapshotDigest, Target
from contract.status import IntentRecord, IntentStage, Lifecycle
from workflows.lifecycle import AT_WORK, TERMINAL_EVENTS, move, relabel
from workflows.records import confirm
from workflows.snapshots import all_runs, back_to_approval, live_runs
from workflows.state import Projection
from workflows.wording import without_effect

LATER_RUN = "loop_start"
"""Not an end, but it proves one: the runtime starts no run before state.json is gone or inactive."""

_REMOVED = (Lifecycle.STOPPED, "state_removed")
_CRASHED = (Lifecycle.FAILED, "crashed")


def take_end(record: IntentRecord, event: EventDigest) -> None:
    """Note the first event that shows the cancelled run to be over."""
    # Old lines of a log that is read again tell of the same run id, but not whether before or after the cancel.
    if record.baseline_line is None or record.effect_line is not None:
        return
    # A run that consumes an approval completes under the id of the run that had asked for it.
    ours = event.run_id in (record.run_id, "unknown") or event.data.get("approval") is True
    if (event.name in TERMINAL_EVENTS and ours) or event.name == LATER_RUN:
        record.effect_line, record.effect_run_id, record.effect_event = event.line, event.run_id, event.name


def take_snapshot(
    record: IntentRecord, snapshot: SnapshotDigest, projection: Projection, loop_id: str, now: datetime
) -> None:
    """Confirm a cancel: its run ended by itself, or that process is gone and state.json gone or inactive."""
    if not _awaits_its_end(record):
        return
    if record.effect_line is not None and record.effect_event != LATER_RUN:
        _conclude(record, now, f"ended_by_itself: {record.effect_event} on line {record.effect_line}")
        return
    later_run = record.effect_line is not None
    over = _process_over(record, snapshot, loop_id) or (later_run and snapshot.process.state == "absent")
    if over and (later_run or not _state_active(snapshot, loop_id)):
        evidence = _cancel_evidence(record, snapshot)
        _conclude(record, now, evidence)
        _attribute(record, projection, snapshot, now, evidence)


def _awaits_its_end(record: IntentRecord) -> bool:
    awaiting = (IntentStage.RECORDED, IntentStage.AMBIGUOUS, IntentStage.EXECUTED_UNCONFIRMED)
    done = record.intent == Intent.CANCEL_LOOP and record.exit_code in (0, None)
    return done and not record.final and record.stage in awaiting


def _conclude(record: IntentRecord, now: datetime, evidence: str) -> None:
    if record.stage is IntentStage.EXECUTED_UNCONFIRMED:
        record.final = True  # nobody asked for more, but the end of the run is told as his doing
    else:
        confirm(record, now, evidence, record.effect_line)


def outlived(
    record: IntentRecord, snapshot: SnapshotDigest, target: Target, looked_at: datetime | None, effect_s: float
) -> None:
    """End the wait for late evidence once state.json is seen active long after the command must have ended.

    The runtime's cancel deletes it first of all. Without an end, the lost cancel of today would be confirmed by what
    somebody else does tomorrow. `looked_at` is when the reading began, `effect_s` how long after its last stage a
    command that may have been sent can still take effect.
    """
    if not _awaits_its_end(record) or record.stage is IntentStage.RECORDED or looked_at is None:
        return
    over_by = record.stages[-1].at + timedelta(seconds=effect_s)
    if looked_at < over_by or record.effect_line is not None or not _state_active(snapshot, target.loop_id):
        return
    record.final = True
    if record.stage is IntentStage.AMBIGUOUS:
        record.sentence = without_effect(record, target, snapshot.emitted_at, _at_work(record, snapshot))


def _at_work(record: IntentRecord, snapshot: SnapshotDigest) -> str:
    same = (record.process_pid, record.process_start_time)
    alive = record.process_pid and any((run.pid, run.start_time) == same for run in all_runs(snapshot))
    return f"process {record.process_pid} was at work" if alive else "state.json was active"


def _state_active(snapshot: SnapshotDigest, loop_id: str) -> bool:
    return snapshot.state_present and snapshot.state_active and snapshot.state_loop_id in (None, loop_id)


def _attribute(
    record: IntentRecord, projection: Projection, snapshot: SnapshotDigest, now: datetime, evidence: str
) -> None:
    """Name the cancel as the reason that its run, and no later one, is over (D6)."""
    end = (projection.lifecycle, projection.reason)
    if record.effect_event == LATER_RUN:
        _attribute_earlier_run(record, projection)
    elif end == _REMOVED:
        relabel(projection, "cancelled")
    elif (end in _explained_by(record) or projection.lifecycle in AT_WORK) and not back_to_approval(
        projection, snapshot, now, evidence
    ):
        move(projection, Lifecycle.STOPPED, "cancelled", now, evidence=evidence)


def _attribute_earlier_run(record: IntentRecord, projection: Projection) -> None:
    for before, began in itertools.pairwise(projection.transitions):
        explained = (before.lifecycle, before.reason) in _explained_by(record)
        if explained and began.lifecycle is Lifecycle.STARTING and began.line == record.effect_line:
            before.lifecycle, before.reason = Lifecycle.STOPPED, "cancelled"


def _explained_by(record: IntentRecord) -> tuple[tuple[Lifecycle, str], ...]:
    """Ends concluded from what was missing, which the cancel explains better; a lost one does not explain a crash."""
    return (_REMOVED,) if record.late else (_REMOVED, _CRASHED)


def _process_over(record: IntentRecord, snapshot: SnapshotDigest, loop_id: str) -> bool:
    process = snapshot.process
    if process.state == "dead":
        return True
    if process.state == "unknown":
        return False
    if process.state == "absent":
        return not snapshot.active_run_present
    runs = live_runs(snapshot, loop_id)
    if record.process_pid is None and not record.clears_crash:
        return not runs  # which process it was could not be seen, so every one may be it
    return not any((run.pid, run.start_time) == (record.process_pid, record.process_start_time) for run in runs)


def _cancel_evidence(record: IntentRecord, snapshot: SnapshotDigest) -> str:
    state = "state.json is gone" if not snapshot.state_present else "state.json is inactive"
    if record.effect_event == LATER_RUN:
        state = f"a later run began on line {record.effect_line}"
    if record.clears_crash:
        return f"nothing had to be killed; {state}"
    if snapshot.process.state == "absent":
        return f"{state} and active-run.json is gone" if record.effect_event != LATER_RUN else state
    pid = f"process {record.process_pid}" if record.process_pid else "its process"
    return f"{pid} is gone and {state}"


def still_there(record: IntentRecord, snapshot: SnapshotDigest, loop_id: str) -> str:
    """What speaks against a cancel having taken effect, in words."""
    if snapshot.process.state == "unknown":
        return "the sprite could not see whether its process lives"
    if _process_over(record, snapshot, loop_id):
        return "state.json was still active"
    if snapshot.process.state == "absent":
        return "active-run.json was still there"
    return f"process {record.process_pid} was still there" if record.process_pid else "a run was still there"
