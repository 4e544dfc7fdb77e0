"""The roles of an iteration at work, and the ways in which one can fail."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from sprite.standin.console import complain, say
from sprite.standin.disk import compact, now, pretty
from sprite.standin.processes import Runner
from sprite.standin.scenario import IterationScript
from sprite.standin.work import LoopRun

_MODES = {"hang": "hang", "role_timeout": "hang", "rate_limit": "rate-limit-line", "role_error": "fail"}
_STRIKES = ("role_error", "role_timeout", "rate_limit", "usage_limit", "hang", "crash")
_RATE_LIMIT_LINE = {
    "error": {"type": "rate_limit_error", "message": "Rate limit exceeded", "resets_in": 1},
}
# A group or tree that is told to end hears it at about the same time; the runner's end may be seen first.
_LET_SIGTERM_ARRIVE_S = 0.1


def play_roles(run: LoopRun, script: IterationScript, iteration: int) -> bool:
    """Let each role work in turn; return False if one failed, with everything written that the runtime writes then."""
    return all(_play_role(run, script, iteration, role) for role in run.config.roles)


def _play_role(run: LoopRun, script: IterationScript, iteration: int, role: str) -> bool:
    prompt = run.folder / "prompts" / f"{role}.md"
    log = run.folder / "logs" / f"iter-{iteration}" / f"{role}.log"
    last_message = run.folder / "last_messages" / f"{role}.txt"
    written = {"log_file": str(log), "last_message_file": str(last_message)}
    strikes = script.outcome in _STRIKES and role == script.role
    mode = _MODES.get(script.outcome, "") if strikes else ""
    banner = f"mock role={role} iteration={iteration} mode={mode or ('success' if script.promise else 'no-promise')}"

    run.disk.write(prompt, f"# {role}\n")
    run.log.emit("role_start", run.run_id, iteration, role=role, data={"prompt_file": str(prompt), **written})
    say(f"[superloop] Role '{role}' using: {run.config.runner}")
    run.disk.write(log, banner + "\n")
    say(banner)

    began = time.monotonic()
    ended = _work(run, script, role, endless=strikes and script.outcome == "hang")
    if strikes and not _STRIKE[script.outcome](run, iteration, role, banner):
        return False
    if ended is not None:
        time.sleep(_LET_SIGTERM_ARRIVE_S)
        complain(f"error: role '{role}' failed: its runner ended with {ended}")
        return False
    run.disk.write(last_message, f"<promise>{run.config.promise}</promise>\n" if script.promise else "done\n")
    _append_usage(run, iteration, role, int((time.monotonic() - began) * 1000))
    run.log.emit("role_end", run.run_id, iteration, role=role, data=written)
    return True


def _work(run: LoopRun, script: IterationScript, role: str, *, endless: bool) -> int | None:
    wait_for = run.files.repo / script.wait_for if script.wait_for and role == script.role else None
    seconds = None if endless else script.roles_ms.get(role, run.pace.role_ms) / 1000
    runner = Runner()
    try:
        return runner.work(seconds, wait_for.exists if wait_for else None)
    finally:
        runner.stop()


def _append_usage(run: LoopRun, iteration: int, role: str, duration_ms: int) -> None:
    usage: dict[str, Any] = {
        "timestamp": now(),
        "iteration": iteration,
        "role": role,
        "duration_ms": duration_ms,
        "runner": "mock",
        "model": None,
        "cost_usd": None,
        "session_id": None,
        "thread_id": None,
        "usage": {},
    }
    run.disk.append(run.folder / "usage.jsonl", compact(usage) + "\n")


def _role_error(run: LoopRun, iteration: int, role: str, banner: str) -> bool:
    complain(f"error: role '{role}' failed: its runner ended with 1")
    return False


def _role_timeout(run: LoopRun, iteration: int, role: str, banner: str) -> bool:
    limit_s = run.config.role_timeouts_s.get(role, 300)
    complain(f"\n[superloop] Max timeout reached ({limit_s}s). Terminating.")
    data = {"role": role, "timeout_seconds": limit_s}
    run.log.emit("role_timeout", run.run_id, iteration, role=role, status="timeout", data=data)
    run.write_state(active=False, iteration=iteration)
    say(f"Role '{role}' timed out after {limit_s}s.")
    return False


def _rate_limit(run: LoopRun, iteration: int, role: str, banner: str) -> bool:
    line, error = compact(_RATE_LIMIT_LINE), _RATE_LIMIT_LINE["error"]
    data = {
        "loop_id": run.config.loop_id,
        "run_id": run.run_id,
        "iteration": iteration,
        "role": role,
        "occurred_at": now(),
        "info": {
            "message": "Rate limit error detected",
            "type": "json",
            "error": {"type": error["type"], "message": error["message"]},
            "resets_in": error["resets_in"],
            "raw_line": line,
            "raw_context": [banner, line],
        },
    }
    complain("\n[superloop] Rate limit detected: Rate limit error detected")
    complain("[superloop] Rate limit: max retries (0) exceeded, aborting")
    run.disk.truncate_write(run.folder / "rate-limit.json", pretty(data))
    run.log.emit("rate_limit_stop", run.run_id, iteration, role=role, status="rate_limited", data=data)
    run.write_state(active=True, iteration=iteration)
    complain(
        f"[superloop] Rate limit hit for role '{role}'. "
        f"State saved; resume with: superloop.sh run --repo {run.files.repo}"
    )
    return False


def _usage_limit(run: LoopRun, iteration: int, role: str, banner: str) -> bool:
    data = {"runner": "mock", "role": role, "action": "blocked"}
    run.log.emit("usage_limit_blocked", run.run_id, iteration, role=role, status="error", data=data)
    run.write_state(active=False, iteration=iteration)
    say(f"Usage limit reached for role '{role}'. Stopping.")
    return False


def _crash(run: LoopRun, iteration: int, role: str, banner: str) -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return False


def _hang(run: LoopRun, iteration: int, role: str, banner: str) -> bool:
    """Go on: a runner that never ends comes back only when it was killed, which is an ordinary failure of its role."""
    return True


_STRIKE = {
    "role_error": _role_error,
    "role_timeout": _role_timeout,
    "rate_limit": _rate_limit,
    "usage_limit": _usage_limit,
    "hang": _hang,
    "crash": _crash,
}
