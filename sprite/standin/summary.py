"""run-summary.json, gate-summary.txt and timeline.md: what the runtime concludes after an iteration."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sprite.standin.config import LoopConfig
from sprite.standin.disk import Disk, RepoFiles, now, pretty, read_object

GATES = ("tests", "validation", "prerequisites", "checklist", "evidence", "lifecycle")

_ARTIFACTS = (
    ("plan", "plan.md"),
    ("implementer", "implementer.md"),
    ("test_report", "test-report.md"),
    ("reviewer", "review.md"),
    ("test_output", "test-output.txt"),
    ("test_status", "test-status.json"),
    ("prerequisites_status", "prerequisites-status.json"),
    ("prerequisites_results", "prerequisites-results.json"),
    ("checklist_status", "checklist-status.json"),
    ("checklist_remaining", "checklist-remaining.md"),
    ("evidence", "evidence.json"),
    ("lifecycle_status", "lifecycle-status.json"),
    ("lifecycle_audit", "lifecycle-audit.json"),
    ("validation_status", "validation-status.json"),
    ("validation_results", "validation-results.json"),
    ("gate_summary", "gate-summary.txt"),
    ("iteration_notes", "iteration_notes.md"),
    ("events", "events.jsonl"),
    ("reviewer_packet", "reviewer-packet.md"),
    ("approval", "approval.json"),
    ("decisions", "decisions.jsonl"),
    ("decisions_md", "decisions.md"),
    ("rlms_index", "rlms/index.json"),
    ("delegation_index", "delegation/index.json"),
)


class Conclusion(NamedTuple):
    """What an iteration came to."""

    run_id: str
    iteration: int
    started_at: str
    ended_at: str
    promise: Mapping[str, Any]
    """expected, text (null if none was printed), matched."""
    gates: Mapping[str, str]
    """The six gates without approval."""
    approval: str
    """skipped, pending or approved."""
    streak: int
    complete: bool


def write_gate_notes(files: RepoFiles, config: LoopConfig, disk: Disk, conclusion: Conclusion) -> None:
    """Write gate-summary.txt and iteration_notes.md."""
    folder = files.loop(config.loop_id)
    words = {"promise": "true" if conclusion.promise.get("matched") else "false", **conclusion.gates}
    words["approval"] = conclusion.approval
    disk.write(folder / "gate-summary.txt", " ".join(f"{key}={word}" for key, word in words.items()) + "\n")
    notes = "".join(f"- {key}: {word}\n" for key, word in words.items())
    disk.write(folder / "iteration_notes.md", f"Iteration: {conclusion.iteration}\n{notes}")


def append_summary(files: RepoFiles, config: LoopConfig, disk: Disk, conclusion: Conclusion) -> None:
    """Append an entry to run-summary.json, and write it alone and into the timeline as well."""
    folder = files.loop(config.loop_id)
    path = folder / "run-summary.json"
    entry = {
        "run_id": conclusion.run_id,
        "iteration": conclusion.iteration,
        "started_at": conclusion.started_at,
        "ended_at": conclusion.ended_at,
        "promise": dict(conclusion.promise),
        "gates": {**{gate: conclusion.gates[gate] for gate in GATES}, "approval": conclusion.approval},
        "tests_mode": config.tests_mode,
        "stuck": {"streak": conclusion.streak, "threshold": config.stuck_threshold},
        "delegation": {},
        "completion_ok": conclusion.complete,
        "artifacts": _artifacts(files, folder),
    }
    entries = [*read_object(path).get("entries", []), entry]
    whole = {"version": 1, "loop_id": config.loop_id, "updated_at": now(), "entries": entries}
    disk.replace(path, pretty(whole))
    disk.write(folder / "run-summary-entry.json", pretty(entry))
    lines = [f"- {item['ended_at']} run {item['run_id']} iteration {item['iteration']}" for item in entries]
    disk.write(folder / "timeline.md", "\n".join(["# Timeline", "", *lines]) + "\n")


def _artifacts(files: RepoFiles, folder: Path) -> dict[str, dict[str, Any]]:
    artifacts = {}
    for name, file_name in _ARTIFACTS:
        path = folder / file_name
        found: dict[str, Any] = {"path": files.relative(path), "exists": path.exists()}
        if found["exists"]:
            found["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
            found["mtime"] = int(path.stat().st_mtime)
        if name == "approval":
            found["gate"] = "approval"
        artifacts[name] = found
    return artifacts
