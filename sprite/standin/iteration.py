"""One iteration: roles, gates, and what follows from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from sprite.standin.approval import request_approval
from sprite.standin.console import say
from sprite.standin.disk import now, pretty, read_object
from sprite.standin.gates import play_gates, promise_of
from sprite.standin.roles import play_roles
from sprite.standin.scenario import IterationScript
from sprite.standin.summary import Conclusion, append_summary, write_gate_notes
from sprite.standin.work import LoopEnd, LoopRun

# sha256 of nothing: the runtime takes the signature of "no failing tests" for a failure that repeats.
_NO_FAILURES = hashlib.sha256(b"").hexdigest()
_DEFAULT_THRESHOLD = 3


def play_iteration(run: LoopRun, iteration: int) -> LoopEnd | None:
    """Play one iteration; return how the loop ends with it, or None if another iteration follows."""
    script = run.script.iteration(iteration)
    run.write_state(active=True, iteration=iteration)
    started_at = now()
    _emit(run, iteration, "iteration_start", {"started_at": started_at})
    if not play_roles(run, script, iteration):
        return LoopEnd.FAILED

    gates = play_gates(run, script, iteration)
    streak = _stop_early(run, script, iteration, gates)
    if streak is None:
        return LoopEnd.FAILED

    candidate = script.outcome == "candidate"
    pending = candidate and run.config.approval_required
    conclusion = Conclusion(
        run_id=run.run_id,
        iteration=iteration,
        started_at=started_at,
        ended_at=now(),
        promise=promise_of(run, script, none_printed=None),
        gates=gates,
        approval="pending" if pending else "skipped",
        streak=streak,
        complete=candidate and not pending,
    )
    _conclude(run, conclusion)
    if pending:
        request_approval(run.files, run.config, run.disk, run.log, conclusion)
        run.write_state(active=False, iteration=iteration)
        repo, loop_id = run.files.repo, run.config.loop_id
        say(f"Approval required for loop '{loop_id}'. Run: superloop.sh approve --repo {repo} --loop {loop_id}")
        return LoopEnd.PAUSED
    if not candidate:
        return None
    _emit(run, iteration, "loop_complete", {"iteration": iteration, "run_id": run.run_id})
    say(f"Loop '{run.config.loop_id}' complete at iteration {iteration}.")
    return LoopEnd.COMPLETE


def _emit(run: LoopRun, iteration: int, event: str, data: Mapping[str, Any], status: str | None = None) -> None:
    run.log.emit(event, run.run_id, iteration, status=status, data=dict(data))


def _stop_early(run: LoopRun, script: IterationScript, iteration: int, gates: Mapping[str, str]) -> int | None:
    """Return the stuck streak, or None if the loop ends before its gates are evaluated."""
    if script.outcome == "lifecycle_gate":
        audit = {"audit_file": "lifecycle-audit.json", "output_file": "lifecycle-audit.txt"}
        files = {key: run.files.relative(run.folder / name) for key, name in audit.items()}
        _stop(run, iteration, {"reason": "lifecycle_gate_failed", "status": gates["lifecycle"], **files})
        say(f"Lifecycle gate failed for loop '{run.config.loop_id}'. Stopping.")
        return None
    threshold = run.config.stuck_threshold or _DEFAULT_THRESHOLD
    if script.outcome == "no_progress":
        streak = _count_stuck(run, threshold, code="empty", reason="no_code_changes")
        counted = {"streak": streak, "threshold": threshold}
        signatures = {"code_signature": "empty", "test_signature": _NO_FAILURES}
        blocked = {"reason": "checklist_remaining_no_change", **signatures, **counted}
        _emit(run, iteration, "no_progress_stop", blocked, status="blocked")
        _stop(run, iteration, {"reason": "no_progress", **counted})
        return None
    if not run.config.stuck_threshold and script.outcome != "stuck":
        return 0
    streak = 0
    if script.outcome != "candidate":
        code = hashlib.sha256(f"{run.run_id} {iteration}".encode()).hexdigest()
        forced = threshold if script.outcome == "stuck" else None
        streak = _count_stuck(run, threshold, code=code, reason="same_test_failures", streak=forced)
    triggered = streak >= threshold
    action = run.config.stuck_action
    checked = {"streak": streak, "threshold": threshold, "triggered": triggered, "action": action}
    _emit(run, iteration, "stuck_checked", checked)
    if not triggered:
        return streak
    _stop(run, iteration, {"reason": "stuck", "streak": streak, "threshold": threshold})
    say(f"Stuck detection triggered for loop '{run.config.loop_id}' ({streak}/{threshold}). Stopping.")
    return None


def _count_stuck(run: LoopRun, threshold: int, *, code: str, reason: str, streak: int | None = None) -> int:
    path = run.folder / "stuck.json"
    streak = streak or int(read_object(path).get("streak", 0)) + 1
    counted = {
        "code_signature": code,
        "test_signature": _NO_FAILURES,
        "streak": streak,
        "threshold": threshold,
        "reason": reason if streak > 1 else "",
        "updated_at": now(),
    }
    run.disk.truncate_write(path, pretty(counted))
    return streak


def _stop(run: LoopRun, iteration: int, data: Mapping[str, Any]) -> None:
    _emit(run, iteration, "loop_stop", data)
    run.write_state(active=False, iteration=iteration)


def stop_at_maximum(run: LoopRun, iteration: int) -> LoopEnd:
    """End the loop because `iteration` would be one too many."""
    maximum = run.config.max_iterations
    _stop(run, iteration, {"reason": "max_iterations", "max_iterations": maximum})
    say(f"Max iterations reached for loop '{run.config.loop_id}' ({maximum}). Stopping.")
    return LoopEnd.FAILED


def _conclude(run: LoopRun, conclusion: Conclusion) -> None:
    threshold = run.config.stuck_threshold
    approval, matched = conclusion.approval, conclusion.promise["matched"]
    stuck = f"{conclusion.streak}/{threshold}" if threshold else "n/a"
    evaluated = {"promise": matched, **conclusion.gates, "approval": approval, "stuck": stuck}
    _emit(run, conclusion.iteration, "gates_evaluated", evaluated)
    run.disk.write(run.folder / "reviewer-packet.md", f"# Iteration {conclusion.iteration}\n")
    write_gate_notes(run.files, run.config, run.disk, conclusion)
    end = {
        "started_at": conclusion.started_at,
        "ended_at": conclusion.ended_at,
        "completion": conclusion.complete,
        "promise": matched,
        **conclusion.gates,
        "approval": approval,
    }
    _emit(run, conclusion.iteration, "iteration_end", end)
    run.pause(run.pace.summary_ms)
    append_summary(run.files, run.config, run.disk, conclusion)
