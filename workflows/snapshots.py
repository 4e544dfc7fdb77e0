"""What a snapshot adds to the events: runs that ended without a word (D6, D14) and a second live run in the sprite.

Only a snapshot taken with the cursor at the head of the log is judged, and the sprite reads the process before the
files, so a process seen gone has nothing left to write. What rests on absence counts only when seen twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from contract.observation import ProcessRun, SnapshotDigest
from contract.status import Lifecycle
from workflows.lifecycle import AT_WORK, move, return_to_waiting
from workflows.state import Decision, Projection, Suspicion

MULTIPLE_RUNS = "multiple_runs"


def process_gone(snapshot: SnapshotDigest, loop_id: str) -> str | None:
    """The evidence that no process runs this loop, or None when there is none.

    Weak evidence (labelled so) comes from a service that offers no process scan: a missing active-run.json.
    """
    process = snapshot.process
    if process.state == "dead":
        return "no superloop.sh run process of this repo lives"
    if process.state == "alive" and not live_runs(snapshot, loop_id):
        return "the only live runs of this repo belong to other loops"
    if process.state == "absent" and not snapshot.active_run_present:
        return "weak evidence: active-run.json is missing, and this service shows no processes"
    return None


def all_runs(snapshot: SnapshotDigest) -> list[ProcessRun]:
    """Every live run process of the repo that the snapshot names."""
    process = snapshot.process
    if not process.runs and process.state == "alive":
        return [ProcessRun(pid=process.pid or 0, start_time=process.start_time, loop_id=process.loop_id)]
    return process.runs


def live_runs(snapshot: SnapshotDigest, loop_id: str) -> list[ProcessRun]:
    """Live run processes that run this loop, or may: one started without --loop can be any loop's."""
    return [run for run in all_runs(snapshot) if run.loop_id in (None, loop_id)]


def suspicious(projection: Projection, snapshot: SnapshotDigest, loop_id: str) -> dict[str, str]:
    """What this snapshot shows that counts only when seen twice: kind -> what it is about."""
    found: dict[str, str] = {}
    if projection.lifecycle in AT_WORK and process_gone(snapshot, loop_id):
        found["process_gone"] = f"run at line {projection.run.line if projection.run else 0}"
    if len(snapshot.process.runs) > 1:
        found[MULTIPLE_RUNS] = " and ".join(
            f"pid {run.pid} (loop {run.loop_id or 'unknown'})"
            for run in sorted(snapshot.process.runs, key=lambda run: run.pid)
        )
    return found


def weigh(
    suspicions: list[Suspicion], found: dict[str, str], now: datetime, recheck_s: float
) -> tuple[list[Suspicion], dict[str, Suspicion]]:
    """Match what is suspicious now with what was before: (what stays open, what has now been seen twice)."""
    open_now: list[Suspicion] = []
    settled: dict[str, Suspicion] = {}
    for kind, subject in found.items():
        earlier = next((s for s in suspicions if s.kind == kind and s.subject == subject), None)
        suspicion = earlier or Suspicion.model_validate({"kind": kind, "subject": subject, "since": now})
        if earlier and now - earlier.since >= timedelta(seconds=recheck_s):
            settled[kind] = suspicion
        open_now.append(suspicion)
    return open_now, settled


def apply_snapshot(projection: Projection, snapshot: SnapshotDigest, loop_id: str, now: datetime) -> None:
    """What one snapshot tells by itself, without a second look."""
    if snapshot.state_present:
        # Another loop's state has taken the place of ours: that it goes missing later says nothing about ours.
        projection.state_seen = snapshot.state_loop_id in (None, "", loop_id)
    if projection.lifecycle is Lifecycle.UNKNOWN and snapshot.event_count == 0:
        move(projection, Lifecycle.NOT_STARTED, "no_events_yet", now)
    crashed = (projection.lifecycle, projection.reason) == (Lifecycle.FAILED, "crashed") and projection.state_seen
    working = projection.lifecycle is Lifecycle.RUNNING and _covers(snapshot, projection)
    evidence = process_gone(snapshot, loop_id)
    # Only a cancel (or a hand) deletes state.json, so this absence needs no second look.
    if (crashed or working) and not snapshot.state_present and evidence:
        move(projection, Lifecycle.STOPPED, "state_removed", now, evidence=f"state.json is gone; {evidence}")


def _covers(snapshot: SnapshotDigest, projection: Projection) -> bool:
    # Events are read after the snapshot: a run that began in between is not the one whose absence the snapshot shows.
    began = projection.transitions[-1].line if projection.transitions else None
    return snapshot.event_count >= (began or 0)


def conclude_run_over(projection: Projection, snapshot: SnapshotDigest, loop_id: str, now: datetime) -> None:
    """The run's process is gone (seen twice) and no event told the end: decide from what it left behind."""
    evidence = process_gone(snapshot, loop_id) or ""
    active = snapshot.state_active and snapshot.state_loop_id == loop_id
    completed = snapshot.completion_ok is True and projection.run and snapshot.summary_run_id == projection.run.run_id
    if back_to_approval(projection, snapshot, now, evidence):
        pass
    elif completed and not active:
        move(projection, Lifecycle.COMPLETE, "summary_complete", now, evidence=f"run-summary.json; {evidence}")
    elif projection.usage_limited and snapshot.state_present and not active:
        move(projection, Lifecycle.FAILED, "usage_limit", now, evidence=evidence)
    elif not snapshot.state_present and (projection.lifecycle is Lifecycle.RUNNING or projection.state_seen):
        move(projection, Lifecycle.STOPPED, "state_removed", now, evidence=f"state.json is gone; {evidence}")
    else:
        move(projection, Lifecycle.FAILED, "crashed", now, evidence=evidence)
    projection.usage_limited = False


def back_to_approval(projection: Projection, snapshot: SnapshotDigest, now: datetime, evidence: str) -> bool:
    """Whether an approval request outlived the run that ended: then the loop waits again, or stands decided."""
    approval = snapshot.approval
    if approval is None or approval.status not in ("pending", "approved", "rejected"):
        return False
    if approval.status == "pending":
        projection.decision = None
    elif projection.decision is None:
        projection.decision = Decision(
            status=approval.status, by=approval.decision_by or "unknown", at=approval.decision_at
        )
    return_to_waiting(projection, now, evidence=evidence)
    return True
