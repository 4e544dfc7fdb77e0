"""May this command run now? Pure rules over what was just read; every refusal is 412 and says "no effect".

`superloop.sh cancel` acts on the whole repo: it deletes state.json and ends whatever process active-run.json names,
as long as that process looks like a run, of whichever repo. So it is let through only (contract.md, "Control", D17)

- when a live process of this repo runs the target loop *and* is the one that active-run.json names: another one
  would be ended in its place, or none, with the state deleted under a run that goes on;
- when the target's state is active and no run of this repo lives: that clears a crashed run. A stale active-run.json
  whose pid is dead, or meanwhile any other program, is harmless: the runtime does not touch it. One whose pid is now
  a run of another repo is refused, and left for a person to remove: the runtime would end that neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contract.intents import Expect
from sprite.control.errors import NothingToCancel, OtherLoopActive, PreconditionFailed
from sprite.control.situation import ActivePid, Addressed, Situation
from sprite.processes import LoopRun


def check_cancel(loop_id: str, situation: Situation, *, approval_pending: bool = False) -> None:
    """Raise NothingToCancel, OtherLoopActive or PreconditionFailed unless a cancel hits the target and nothing else."""
    if situation.runs:
        _check_live_run(loop_id, situation)
    else:
        _check_crashed_run(loop_id, situation, approval_pending)


def _check_live_run(loop_id: str, situation: Situation) -> None:
    current = situation.shown()
    ours = [run for run in situation.runs if run.loop_id == loop_id]
    if not ours:
        raise OtherLoopActive(
            f"no effect: loop {loop_id!r} is not running, but {_named(situation.runs)}, which a cancel would end",
            current=current,
        )
    if any(run.in_active_run for run in ours):
        return
    named = situation.active_run.get("pid")
    if situation.active_pid is ActivePid.RUN_OF_THIS_REPO:
        raise OtherLoopActive(
            f"no effect: several runs share this repo: {_named(situation.runs)}; active-run.json names pid {named}, so "
            f"a cancel would end that one. In the sprite: kill {ours[0].pid}",
            current=current,
        )
    raise PreconditionFailed(
        f"no effect: {_named(ours)}, but active-run.json {'is missing' if named is None else f'names pid {named}'}, so "
        "a cancel would delete the state and not end that run. A run that has just started registers within seconds: "
        f"try again then; if this stays, in the sprite: kill {ours[0].pid}",
        current=current,
    )


def _check_crashed_run(loop_id: str, situation: Situation, approval_pending: bool) -> None:
    current = situation.shown()
    active = situation.active_loop_id
    if not situation.scan_complete:
        raise PreconditionFailed(
            "no effect: not every process could be looked at, so it is not certain that no run lives; "
            "serve the sprite as the user who runs superloop.sh",
            current=current,
        )
    if active is None:
        hint = "; it waits for an approval: approve or reject it instead" if approval_pending else ""
        raise NothingToCancel(
            f"no effect: nothing runs in this repo and loop {loop_id!r} is not active{hint}", current=current
        )
    if active != loop_id:
        raise OtherLoopActive(
            f"no effect: loop {loop_id!r} is not active; what can be cleared here is a crashed run of {active!r}",
            current=current,
        )
    if situation.active_pid is ActivePid.RUN_OF_ANOTHER_REPO:
        raise OtherLoopActive(
            f"no effect: the run of loop {loop_id!r} has crashed, and its stale active-run.json names pid "
            f"{situation.active_run.get('pid')}, which is now a run of another repo: a cancel would end that one. "
            "In the sprite: remove .superloop/active-run.json, then cancel again",
            current=current,
        )


def check_expect(expect: Expect, current: Addressed, sprite_id: str) -> None:
    """Raise PreconditionFailed unless every given precondition holds (compare-and-swap)."""
    differing = [
        name
        for name, wanted, holds in (
            ("spriteId", expect.sprite_id, expect.sprite_id == sprite_id),
            ("runId", expect.run_id, expect.run_id == current.run_id),
            ("iteration", expect.iteration, expect.iteration == current.iteration),
            (
                "approvalSha256",
                expect.approval_sha256,
                (current.approval_sha256 or "").startswith(expect.approval_sha256 or ""),
            ),
        )
        if wanted is not None and not holds
    ]
    if not differing:
        return
    values: dict[str, Any] = {
        "spriteId": sprite_id,
        "runId": current.run_id,
        "iteration": current.iteration,
        "approvalSha256": current.approval_sha256,
        "approvalStatus": current.approval_status,
    }
    told = ", ".join(f"{name} is {values[name]!r}" for name in differing)
    raise PreconditionFailed(
        f"no effect: the request expects something else ({told}); look again and decide anew",
        current=values,
        differing=differing,
    )


def _named(runs: Sequence[LoopRun]) -> str:
    return " and ".join(
        f"loop {run.loop_id!r} is run by pid {run.pid}" if run.loop_id else f"pid {run.pid} runs a loop not yet known"
        for run in runs
    )
