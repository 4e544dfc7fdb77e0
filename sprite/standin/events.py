"""The event log: lines of compact JSON with the runtime's fields in the runtime's order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sprite.standin.config import LoopConfig
from sprite.standin.disk import Disk, compact, now

# The runtime passes the data on a command line; what is too long for one vanishes without a word.
_DATA_LIMIT_BYTES = 128 * 1024

# Settings that no scenario changes; they are here because real events carry them.
_NOT_REQUIRED = {"enabled": "false", "require_on_completion": "false"}
_DELEGATION = {
    "enabled": False,
    "dispatch_mode": "serial",
    "wake_policy": "on_wave_complete",
    "failure_policy": "warn_and_continue",
    "max_children": 1,
    "max_parallel": 1,
    "max_waves": 1,
    "child_timeout_seconds": 300,
    "retry_limit": 0,
    "retry_backoff_seconds": 0,
    "retry_backoff_max_seconds": 30,
}
_GIT = {
    "commit_strategy": "never",
    "commit_message": {"authoring": "llm", "author_role": "reviewer", "timeout_seconds": 120},
}


class EventLog:
    """events.jsonl of one loop."""

    def __init__(self, path: Path, loop_id: str, disk: Disk) -> None:
        self.path = path
        self._loop_id = loop_id
        self._disk = disk
        self.on_written: Callable[[str, str, int], None] | None = None
        """Called with name, run id and iteration after each event."""

    def emit(
        self,
        event: str,
        run_id: str,
        iteration: int,
        *,
        role: str | None = None,
        status: str | None = None,
        data: Any = None,
    ) -> None:
        """Append one event, stamped with the present time unless it is a `loop_start`, whose run id is its time."""
        line: dict[str, Any] = {
            "timestamp": run_id if event == "loop_start" else now(),
            "event": event,
            "loop_id": self._loop_id,
            "run_id": run_id,
            "iteration": iteration,
            "role": role,
            "status": status,
            "data": data,
        }
        if len(compact(data).encode("utf-8", "replace")) < _DATA_LIMIT_BYTES:
            self._disk.append_event(self.path, compact({key: item for key, item in line.items() if item is not None}))
        if self.on_written:
            self.on_written(event, run_id, iteration)

    def has_run(self, run_id: str) -> bool:
        """Return whether the log has events of a run with this id."""
        return b'"run_id":"%s"' % run_id.encode() in self._content()

    def working_runs(self) -> int:
        """Count the runs that did or do work: every `loop_start` but those that waited for or consumed an approval."""
        log = self._content()
        started, waited, consumed = (
            log.count(b'"event":"%s"' % name) for name in (b"loop_start", b"approval_wait", b"approval_consumed")
        )
        return max(0, started - waited - consumed)

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""


def loop_start_data(config: LoopConfig) -> dict[str, Any]:
    """Return the data of a `loop_start`."""
    keys = ("feature_prefix", "main_ref", "no_fetch", "strict", "block_on_failure")
    return {
        "spec_file": config.spec_file,
        "max_iterations": config.max_iterations,
        "tests_mode": config.tests_mode,
        "test_commands": list(config.test_commands),
        "checklists": list(config.checklists),
        "prerequisites": _NOT_REQUIRED,
        "delegation": _DELEGATION,
        "rlms": {"enabled": False, "mode": "hybrid"},
        "lifecycle": {key: config.lifecycle[key] for key in keys},
        "git": _GIT,
    }


def lifecycle_start_data(config: LoopConfig) -> dict[str, str]:
    """Return the data of a `lifecycle_start`."""
    keys = ("feature_prefix", "main_ref", "strict", "no_fetch", "require_on_completion", "block_on_failure")
    return {key: config.lifecycle[key] for key in keys}


def prerequisites_start_data() -> dict[str, str]:
    """Return the data of a `prerequisites_start`."""
    return dict(_NOT_REQUIRED)
