"""What the pieces of one run share: its settings, its script, its log; and the state file that they all write."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import NamedTuple

from sprite.standin.config import LoopConfig
from sprite.standin.disk import Disk, RepoFiles, now, pretty
from sprite.standin.events import EventLog
from sprite.standin.scenario import Pace, RunScript


class LoopEnd(enum.Enum):
    """How a loop leaves a run."""

    COMPLETE = enum.auto()
    """Complete: a run without --loop goes on with the next one."""
    PAUSED = enum.auto()
    """Waiting for an approval: the run exits with 0."""
    FAILED = enum.auto()
    """Stopped or failed: the run exits with 1."""


class LoopRun(NamedTuple):
    """One loop in one run."""

    files: RepoFiles
    config: LoopConfig
    script: RunScript
    pace: Pace
    disk: Disk
    log: EventLog
    run_id: str
    alone: bool
    """The run was asked for this loop only (--loop)."""

    @property
    def folder(self) -> Path:
        """The loop's folder."""
        return self.files.loop(self.config.loop_id)

    def pause(self, milliseconds: int) -> None:
        """Let time go by."""
        self.disk.pause(milliseconds)

    def write_state(self, *, active: bool, iteration: int) -> None:
        """Write state.json for this loop."""
        write_state(self.files, self.disk, active, self.config.position, iteration, self.config.loop_id)


def write_state(files: RepoFiles, disk: Disk, active: bool, index: int, iteration: int, loop_id: str) -> None:
    """Write state.json the way the runtime does: it is empty for a moment."""
    state = {
        "active": active,
        "loop_index": index,
        "iteration": iteration,
        "current_loop_id": loop_id,
        "updated_at": now(),
    }
    disk.truncate_write(files.state, pretty(state))
