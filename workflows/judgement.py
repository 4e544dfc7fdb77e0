"""May this intent be executed? Judged only on an observation made after the intent arrived (D17, D18).

Every refusal says that nothing was done and why. An accepted intent is bound to what it is about: run, iteration,
process, and the line of the log after which evidence counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from contract.intents import Expect, Intent
from contract.observation import SnapshotDigest
from contract.status import IntentRecord
from workflows import automation
from workflows.snapshots import all_runs, live_runs
from workflows.state import Projection, SupervisorState
from workflows.wording import already_decided, moment

SHA_PREFIX = 16
"""Hex digits of approval.json's hash that stand for it in a precondition."""


@dataclass(frozen=True)
class Verdict:
    """Either a refusal with its reason, or what the intent is bound to."""

    refusal: str | None = None
    run_id: str | None = None
    run_line: int | None = None
    iteration: int | None = None
    process_pid: int | None = None
    process_start_time: str | None = None
    clears_crash: bool = False
    expect: Expect = field(default_factory=Expect)


def judge(record: IntentRecord, state: SupervisorState) -> Verdict:
    """The verdict on `record`, from the state as just observed."""
    snapshot, condition = state.snapshot, state.condition
    frozen = automation.refusal(state, record)
    if frozen is not None:
        return Verdict(refusal=frozen)
    if snapshot is None or condition is not None:
        told = f" ({condition.detail or condition.contact.value})" if condition else ""
        return Verdict(refusal=f"the loop has written nothing that could be acted on{told}.")
    verdict = (
        _judge_cancel(state, snapshot) if record.intent == Intent.CANCEL_LOOP else _judge_decision(state, snapshot)
    )
    if verdict.refusal is None and record.expect is not None:
        different = _difference(record.expect, verdict, state)
        if different:
            return Verdict(refusal=f"what was expected is no longer so: {different}.")
        # What the operator demanded is demanded of the sprite as well, where it is compared under its lock.
        demanded = record.expect.model_dump(exclude_none=True)
        return replace(verdict, expect=verdict.expect.model_copy(update=demanded))
    return verdict


def _judge_cancel(state: SupervisorState, snapshot: SnapshotDigest) -> Verdict:
    loop_id, projection = state.target.loop_id, state.projection
    neighbour = _neighbour(snapshot, loop_id)
    if neighbour:
        return Verdict(refusal=f"{neighbour}, and a cancel acts on the whole repo: it would end that one.")
    runs = live_runs(snapshot, loop_id)
    owns_state = snapshot.state_active and snapshot.state_loop_id == loop_id
    unseen = snapshot.process.state in ("absent", "unknown") and snapshot.active_run_present
    if not runs and not owns_state and not unseen:
        return Verdict(refusal=f"nothing to cancel: the loop is {_standing(projection)}.")
    started = projection.started or projection.run
    target = next((run for run in runs if run.pid == snapshot.active_run_pid), runs[0] if runs else None)
    return Verdict(
        run_id=started.run_id if started else None,
        run_line=started.line if started else None,
        iteration=projection.run.iteration if projection.run else None,
        process_pid=target.pid if target else None,
        process_start_time=target.start_time if target else None,
        clears_crash=not runs and snapshot.process.state == "dead",
        expect=Expect(sprite_id=state.target.sprite_id, run_id=started.run_id if started else None),
    )


def _neighbour(snapshot: SnapshotDigest, loop_id: str) -> str | None:
    """The other loop of this repo that a cancel would end instead (D17), in words; None when there is none.

    `superloop.sh cancel` ends whatever active-run.json names. Where processes can be seen, a stale name is harmless.
    """
    ours, theirs = live_runs(snapshot, loop_id), [r for r in all_runs(snapshot) if r.loop_id not in (None, loop_id)]
    named = next((run for run in theirs if run.pid == snapshot.active_run_pid), None)
    if theirs and (named or not ours):
        other = named or theirs[0]
        return f"loop {other.loop_id} runs there (pid {other.pid})"
    if snapshot.process.state in ("absent", "unknown"):
        active_run = snapshot.active_run_loop_id if snapshot.active_run_present else None
        active_state = snapshot.state_loop_id if snapshot.state_active else None
        for name in (active_run, active_state):
            if name not in (None, "", loop_id):
                return f"loop {name} is active there"
    return None


def _judge_decision(state: SupervisorState, snapshot: SnapshotDigest) -> Verdict:
    approval, projection = snapshot.approval, state.projection
    if approval is None:
        return Verdict(refusal=f"no approval is pending; the loop is {_standing(projection)}.")
    if approval.status not in (None, "pending"):
        return Verdict(refusal=already_decided(approval))
    run = projection.waiting_run or projection.run
    return Verdict(
        run_id=approval.run_id or "unknown",
        run_line=run.line if run and run.run_id == approval.run_id else None,
        iteration=approval.iteration,
        expect=Expect(
            sprite_id=state.target.sprite_id,
            run_id=approval.run_id,
            iteration=approval.iteration,
            approval_sha256=approval.sha256[:SHA_PREFIX] if approval.sha256 else None,
        ),
    )


def _standing(projection: Projection) -> str:
    since = f" since {moment(projection.since)}" if projection.since else ""
    return projection.lifecycle.value.replace("_", " ") + since


def _difference(expect: Expect, verdict: Verdict, state: SupervisorState) -> str | None:
    approval = state.snapshot.approval if state.snapshot else None
    sha = approval.sha256 if approval and approval.sha256 else None
    pairs = [
        ("spriteId", expect.sprite_id, state.target.sprite_id),
        ("runId", expect.run_id, verdict.run_id),
        ("iteration", expect.iteration, verdict.iteration),
    ]
    different = [
        f"{name} is {now if now is not None else 'unknown'}, expected {wanted}"
        for name, wanted, now in pairs
        if wanted is not None and wanted != now
    ]
    if expect.approval_sha256 and not (sha and sha.startswith(expect.approval_sha256)):
        different.append(f"approvalSha256 is {(sha or 'unknown')[:SHA_PREFIX]}, expected {expect.approval_sha256}")
    return "; ".join(different) or None
