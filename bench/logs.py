"""Event logs of a given length, as a loop that works through plain iterations writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.harness_sprite import LOOP

RUN_ID = "2026-11-22T08:00:00Z"
_ROLES = ("planner", "implementer", "tester", "reviewer")
_GATES = ("checklist", "tests", "validation", "prerequisites", "evidence", "lifecycle")


def event_lines(count: int) -> Iterator[bytes]:
    """`count` lines: one `loop_start`, then iterations of 23 events each."""
    moment = datetime(2026, 11, 22, 8, tzinfo=UTC)
    for number in range(count):
        iteration, place = divmod(max(0, number - 1), 23)
        name, more = ("loop_start", {}) if number == 0 else _event(place)
        at = (moment + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {"timestamp": at, "event": name, "loop_id": LOOP, "run_id": RUN_ID, "iteration": iteration + 1, **more}
        yield json.dumps(event, separators=(",", ":")).encode() + b"\n"


def _event(place: int) -> tuple[str, dict[str, Any]]:
    if place == 0:
        return "iteration_start", {"data": {"started_at": "2026-11-22T08:00:00Z"}}
    if place <= 8:
        role = _ROLES[(place - 1) // 2]
        log = f"/work/repo/.superloop/loops/{LOOP}/logs/iter-1/{role}.log"
        files = {"log_file": log, "last_message_file": log.replace(".log", ".last.txt")}
        return ("role_start" if place % 2 else "role_end"), {"role": role, "data": files}
    if place <= 20:
        gate = _GATES[(place - 9) // 2]
        if place % 2:
            return f"{gate}_start", {"data": {"enabled": "true", "mode": "every"}}
        return f"{gate}_end", {"status": "ok", "data": {"status": "ok", "ok": True, "details": {"exit_code": 0}}}
    if place == 21:
        return "gates_evaluated", {"data": {"promise": False, "tests": "ok", "approval": "skipped", "stuck": "0/3"}}
    return "iteration_end", {"data": {"completion": False, "promise": False, "tests": "ok", "approval": "skipped"}}


def write_log(repo: Path, count: int) -> Path:
    """Write the event log of the loop `demo` in `repo`; return its path."""
    path = repo / ".superloop" / "loops" / LOOP / "events.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as log:
        log.writelines(event_lines(count))
    return path
