"""The approval request: asked by a run, answered by `approve`, consumed by the next run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sprite.standin.config import LoopConfig
from sprite.standin.console import say
from sprite.standin.disk import CommandError, Disk, RepoFiles, compact, now, pretty, read_object
from sprite.standin.events import EventLog
from sprite.standin.summary import GATES, Conclusion

_FILES = {
    "gate_summary": "gate-summary.txt",
    "evidence": "evidence.json",
    "reviewer_report": "review.md",
    "test_report": "test-report.md",
    "plan": "plan.md",
    "iteration_notes": "iteration_notes.md",
}


def approval_file(files: RepoFiles, loop_id: str) -> Path:
    """Return the path of a loop's approval request."""
    return files.loop(loop_id) / "approval.json"


def read_approval(files: RepoFiles, loop_id: str) -> dict[str, Any] | None:
    """Return the approval request, or None if there is none; `{}` counts as a pending one.

    Raises:
        CommandError: the file is not JSON.
    """
    path = approval_file(files, loop_id)
    if not path.exists():
        return None
    approval = read_object(path)
    return {**approval, "status": approval.get("status") or "pending"}


def request_approval(files: RepoFiles, config: LoopConfig, disk: Disk, log: EventLog, conclusion: Conclusion) -> None:
    """Write the request and its event."""
    path = approval_file(files, config.loop_id)
    folder = files.loop(config.loop_id)
    gates = {gate: conclusion.gates[gate] for gate in GATES}
    request = {
        "status": "pending",
        "loop_id": config.loop_id,
        "run_id": conclusion.run_id,
        "iteration": conclusion.iteration,
        "requested_at": now(),
        "iteration_started_at": conclusion.started_at,
        "iteration_ended_at": conclusion.ended_at,
        "candidate": {"promise": dict(conclusion.promise), "gates": gates},
        "files": {key: files.relative(folder / name) for key, name in _FILES.items()},
    }
    disk.truncate_write(path, pretty(request))
    data = {"approval_file": files.relative(path), "promise": conclusion.promise["matched"], **gates}
    log.emit("approval_requested", conclusion.run_id, conclusion.iteration, data=data)


def conclusion_of(approval: Mapping[str, Any], config: LoopConfig) -> Conclusion:
    """Return the conclusion that an approved request stands for."""
    candidate = approval.get("candidate") or {}
    gates = candidate.get("gates") or {}
    return Conclusion(
        run_id=str(approval.get("run_id", "unknown")),
        iteration=int(approval.get("iteration", 0)),
        started_at=str(approval.get("iteration_started_at", "")),
        ended_at=str(approval.get("iteration_ended_at", "")),
        promise=candidate.get("promise") or {"expected": config.promise, "text": None, "matched": False},
        gates={gate: str(gates.get(gate, "unknown")) for gate in GATES},
        approval="approved",
        streak=0,
        complete=True,
    )


def decision_of(approval: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of `approval_consumed`: who decided what, when."""
    decision = approval.get("decision") or {}
    return {
        "status": approval["status"],
        "by": decision.get("by"),
        "note": decision.get("note"),
        "at": decision.get("at"),
    }


def approve(files: RepoFiles, disk: Disk, loop_id: str | None, *, by: str, note: str | None, reject: bool) -> int:
    """Record a person's decision; no run is started, and a decision cannot be changed.

    Raises:
        CommandError: no loop named, no request, or it is decided already; nothing was written then.
    """
    if not loop_id:
        raise CommandError("error: --loop is required for approve")
    approval = read_approval(files, loop_id)
    if approval is None:
        raise CommandError(f"error: no approval request found for loop '{loop_id}'")
    if approval["status"] != "pending":
        raise CommandError(f"error: approval request is not pending (status={approval['status']})")
    status = "rejected" if reject else "approved"
    run_id, iteration = str(approval.get("run_id", "unknown")), int(approval.get("iteration", 0))
    decision = {"status": status, "by": by, "note": note, "at": now()}

    decided = {
        **approval, "status": status, "decision": decision,
        "decided_at": decision["at"], "decided_by": by, "decided_note": note,
    }  # fmt: skip
    path = approval_file(files, loop_id)
    disk.replace(path, pretty(decided))
    line: dict[str, Any] = {
        "timestamp": decision["at"],
        "loop_id": loop_id,
        "run_id": run_id,
        "iteration": iteration,
        "decision": status,
        "by": by,
        "note": note,
        "approval_file": files.relative(path),
    }
    line = {key: item for key, item in line.items() if item is not None}
    disk.append(files.loop(loop_id) / "decisions.jsonl", compact(line) + "\n")
    text = "".join(f"- {key}: {item}\n" for key, item in line.items() if key not in ("timestamp", "decision"))
    disk.append(files.loop(loop_id) / "decisions.md", f"## {decision['at']} {status}\n\n{text}\n")
    log = EventLog(files.loop(loop_id) / "events.jsonl", loop_id, disk)
    log.emit("approval_decision", run_id, iteration, role="human", status=status, data=decision)
    say(f"Recorded approval decision ({status}) for loop '{loop_id}'.")
    return 0
