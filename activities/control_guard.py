"""Preconditions towards a service of the base contract, which knows neither `expect` nor the cancel guard (D17).

Such a peer cancels whatever runs in its repo, whichever loop was named, and may ignore `expect` as an unknown field. So
what this project's own sprite would check under its lock is checked here on a fresh snapshot: not as good, but never
silently left out. `current` of a refusal holds the values that were seen.
"""

from __future__ import annotations

from typing import Any

from activities.digest import snapshot_digest
from contract.envelopes import SnapshotEnvelope
from contract.errors import ErrorCode
from contract.intents import Expect, Intent
from contract.observation import SnapshotDigest

_NO_EFFECT = "no effect:"


class Refused(Exception):
    """The command must not be sent; `code` is the contract's, `current` what was seen instead."""

    def __init__(self, code: ErrorCode, message: str, current: dict[str, Any] | None = None) -> None:
        super().__init__(f"{_NO_EFFECT} {message}")
        self.code = code
        self.current = current or {}


def check_foreign(
    intent: Intent, expect: Expect | None, envelope: SnapshotEnvelope, last_started_run_id: str | None
) -> None:
    """Raise Refused unless `intent` may be sent to a service of the base contract.

    `last_started_run_id` is the run that was started last, by the newest lines of its log; None when none names a run.
    """
    snapshot = snapshot_digest(envelope, stale_after_s=0.0)
    if intent is Intent.CANCEL_LOOP:
        _check_cancel(envelope.source.loop_id, snapshot)
    if expect is not None:
        _check_expect(expect, _current(intent, snapshot, last_started_run_id))


def _check_cancel(loop_id: str, snapshot: SnapshotDigest) -> None:
    active = snapshot.state_loop_id if snapshot.state_active else None
    running = snapshot.active_run_loop_id
    seen = {"activeLoopId": active, "activeRunLoopId": running, "approvalStatus": _approval_status(snapshot)}
    others = [name for name in (active, running) if name not in (None, "", loop_id)]
    if others:
        raise Refused(
            ErrorCode.OTHER_LOOP_ACTIVE,
            f"loop {others[0]!r} is active in this repo, and a cancel there would end it",
            seen,
        )
    if active != loop_id and not snapshot.active_run_present:
        raise Refused(ErrorCode.NOTHING_TO_CANCEL, f"loop {loop_id!r} is not active and no run is registered", seen)


def _check_expect(expect: Expect, current: dict[str, Any]) -> None:
    # spriteId is not among them: such a service has none, and the caller has compared the repo path.
    wanted = {"runId": expect.run_id, "iteration": expect.iteration}
    differing = [name for name, value in wanted.items() if value is not None and value != current[name]]
    sha256 = current["approvalSha256"] or ""
    if expect.approval_sha256 is not None and not sha256.startswith(expect.approval_sha256):
        differing.append("approvalSha256")
    if differing:
        told = ", ".join(f"{name} is {current[name]!r}" for name in differing)
        raise Refused(
            ErrorCode.PRECONDITION_FAILED,
            f"the request expects something else ({told}); look again and decide anew",
            current,
        )


def _current(intent: Intent, snapshot: SnapshotDigest, last_started_run_id: str | None) -> dict[str, Any]:
    approval = snapshot.approval
    if intent is Intent.CANCEL_LOOP:
        run_id, iteration = last_started_run_id, snapshot.state_iteration
    else:
        run_id, iteration = (approval.run_id, approval.iteration) if approval else (None, None)
    return {
        "runId": run_id,
        "iteration": iteration,
        "approvalSha256": approval.sha256 if approval else None,
        "approvalStatus": _approval_status(snapshot),
    }


def _approval_status(snapshot: SnapshotDigest) -> str | None:
    return snapshot.approval.status if snapshot.approval else None
