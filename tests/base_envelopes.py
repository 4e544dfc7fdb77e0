"""The envelopes as the base contract derives them, written a second time for tests: no code shared with `sprite/`."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class RuntimeFailed(Exception):
    """The scripts behind the service failed: 502 with their message."""


def snapshot(repo: Path, loop_id: str, trace_id: str | None) -> dict[str, Any]:
    """The envelope `loop_run_snapshot`; raises RuntimeFailed where there is none."""
    lines = event_lines(repo, loop_id)
    files = _files(loop_id)
    summary_file = _json(repo / files["runSummary"]) or {}
    entries = summary_file.get("entries") or []
    summary = entries[-1] if entries else None
    last = json.loads(lines[-1]) if lines else {}
    state, approval = _json(repo / files["state"]), _json(repo / files["approval"])
    return {
        "schemaVersion": "v1",
        "envelopeType": "loop_run_snapshot",
        "emittedAt": now(),
        "traceId": trace_id,
        "source": {"repoPath": str(repo), "loopId": loop_id},
        "run": {
            "runId": _first((summary or {}).get("run_id"), last.get("run_id"), "unknown"),
            "iteration": _first(
                (summary or {}).get("iteration"), last.get("iteration"), (state or {}).get("iteration"), 0
            ),
            "status": _status(loop_id, state, approval, summary, last),
            "summary": summary,
        },
        "runtime": {
            "superloopState": state,
            "activeRun": _json(repo / files["activeRun"]),
            "approval": approval,
            "heartbeat": _json(repo / files["heartbeat"]),
        },
        "artifacts": {name: _artifact(repo, path) for name, path in files.items()},
        "sequence": {"source": "cursor_event_line_offset", "value": len(lines)},
        "cursor": {"eventLineOffset": len(lines), "eventLineCount": len(lines)},
        "health": {
            "eventCount": len(lines),
            "lastEventAt": last.get("timestamp"),
            "lastEventName": _first(last.get("event"), last.get("type")),
            "lastSummaryAt": _first(summary_file.get("updated_at"), (summary or {}).get("ended_at")),
            "hasPendingApproval": (approval or {}).get("status") == "pending",
            "gates": (summary or {}).get("gates"),
            "stuck": (summary or {}).get("stuck"),
        },
    }


def _status(loop_id: str, state: Any, approval: Any, summary: Any, last: Mapping[str, Any]) -> str:
    name = _first(last.get("event"), last.get("type"))
    rules = (
        ("awaiting_approval", (approval or {}).get("status") == "pending"),
        ("complete", (summary or {}).get("completion_ok") is True),
        ("running", (state or {}).get("active") is True and state.get("current_loop_id") == loop_id),
        ("stopped", name in ("loop_stop", "rate_limit_stop", "no_progress_stop")),
        ("failed", last.get("status") in ("error", "timeout", "blocked", "rate_limited")),
        ("idle", state is not None and state.get("active") is False and summary is not None),
    )
    return next((status for status, holds in rules if holds), "unknown")


def _files(loop_id: str) -> dict[str, str]:
    loop = f".superloop/loops/{loop_id}"
    return {
        "events": f"{loop}/events.jsonl",
        "runSummary": f"{loop}/run-summary.json",
        "state": ".superloop/state.json",
        "activeRun": ".superloop/active-run.json",
        "approval": f"{loop}/approval.json",
        "heartbeat": f"{loop}/heartbeat.v1.json",
    }


def event_lines(repo: Path, loop_id: str) -> list[bytes]:
    """The terminated lines of the event log; raises RuntimeFailed without one."""
    folder = repo / ".superloop" / "loops" / loop_id
    if not folder.is_dir():
        raise RuntimeFailed(f"error: required artifact root missing: {folder}")
    try:
        content = (folder / "events.jsonl").read_bytes()
    except FileNotFoundError:
        raise RuntimeFailed(f"error: required artifact missing: {folder / 'events.jsonl'}") from None
    return content.split(b"\n")[:-1]


def event(repo: Path, loop_id: str, raw: dict[str, Any], line: int, count: int, trace_id: str | None) -> dict[str, Any]:
    """The envelope `loop_run_event` of one line."""
    return {
        "schemaVersion": "v1",
        "envelopeType": "loop_run_event",
        "emittedAt": now(),
        "traceId": trace_id,
        "source": {"repoPath": str(repo), "loopId": loop_id},
        "sequence": {"source": "cursor_event_line_offset", "value": line},
        "cursor": {"eventLineOffset": line, "eventLineCount": count},
        "run": {"runId": raw.get("run_id") or "unknown", "iteration": raw.get("iteration") or 0},
        "event": {
            "timestamp": raw.get("timestamp"),
            "name": _first(raw.get("event"), raw.get("type")),
            "role": raw.get("role"),
            "status": raw.get("status"),
            "message": raw.get("message"),
            "payload": raw.get("data"),
            "raw": raw,
        },
    }


def _artifact(repo: Path, path: str) -> dict[str, Any]:
    try:
        content, stat = (repo / path).read_bytes(), (repo / path).stat()
    except FileNotFoundError:
        return {"path": path, "exists": False, "sizeBytes": 0, "lineCount": 0, "sha256": None, "mtimeEpoch": None}
    return {
        "path": path,
        "exists": True,
        "sizeBytes": len(content),
        "lineCount": content.count(b"\n"),
        "sha256": hashlib.sha256(content).hexdigest(),
        "mtimeEpoch": int(stat.st_mtime),
    }


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise RuntimeFailed("jq: invalid JSON text passed to --argjson") from None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def now() -> str:
    """The time as the contract writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
