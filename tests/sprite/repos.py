"""Small repos with artifacts, and a reader of them that sees no processes unless told so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sprite.processes import LoopRun, ScanResult
from sprite.reader import SpriteReader
from tests.sprite.logs import log_of

LOOP = "demo"


class Repo:
    """A repo with a loop; every method writes one artifact as the runtime would."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "repo"
        self.scan = ScanResult()
        self.state_dir = folder / "state"
        self.loop_folder().mkdir(parents=True)

    def loop_folder(self, loop_id: str = LOOP) -> Path:
        return self.path / ".superloop" / "loops" / loop_id

    @property
    def events(self) -> Path:
        return self.loop_folder() / "events.jsonl"

    @property
    def state(self) -> Path:
        return self.path / ".superloop" / "state.json"

    @property
    def active_run(self) -> Path:
        return self.path / ".superloop" / "active-run.json"

    @property
    def approval(self) -> Path:
        return self.loop_folder() / "approval.json"

    @property
    def summary(self) -> Path:
        return self.loop_folder() / "run-summary.json"

    @property
    def heartbeat(self) -> Path:
        return self.loop_folder() / "heartbeat.v1.json"

    def reader(self) -> SpriteReader:
        return SpriteReader(self.path, state_dir=self.state_dir, process_scan=lambda _: self.scan)

    def with_events(self, content: bytes | None = None) -> Repo:
        self.events.write_bytes(log_of(3) if content is None else content)
        return self

    def runs(self, *loop_ids: str | None) -> None:
        """From now on a scan finds these runs."""
        self.scan = ScanResult(tuple(LoopRun(10_000 + n, f"{n}.00", loop_id) for n, loop_id in enumerate(loop_ids)))


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def summary_of(entries: int, **last: Any) -> dict[str, Any]:
    """A run-summary.json of so many entries, each about as large as a real one."""
    padding = {f"artifact-{n}": {"path": "p" * 60, "exists": True, "sha256": "0" * 64} for n in range(24)}
    made = [{"run_id": "R", "iteration": n + 1, "completion_ok": False, "artifacts": padding} for n in range(entries)]
    made[-1].update(last)
    return {"version": 1, "loop_id": LOOP, "updated_at": "2026-11-22T03:00:00Z", "entries": made}
