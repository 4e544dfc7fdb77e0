"""Stops in the middle of approve, reject and cancel, on demand: so that a crash can be placed between any two effects.

`SUPERLOOP_STANDIN_STOP`, or the key `stop` of the scenario, says where and how: `approve:2:kill` ends the approve with
SIGKILL after its second effect, `cancel:1:hold` holds the cancel after its first; with 0, before there is any. What is
held writes its process id to `.superloop/standin-held` and goes on once there is a `.superloop/standin-go`.

Effects are counted one by one, half a file as well (event lines too, where `event_chunk_bytes` splits them):

    approve, reject   1 approval.json.tmp written   2 moved to approval.json   3 a line in decisions.jsonl
                      4 a paragraph in decisions.md   5 the event approval_decision
    cancel            1 state.json deleted   2 TERM sent to the run   (3 KILL, where it does not end)
                      3 active-run.json deleted, unless the run has done that itself
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from sprite.standin.scenario import Scenario, StopScript, parse_stop

STOP_ENV = "SUPERLOOP_STANDIN_STOP"
HELD_FILE = ".superloop/standin-held"
GO_FILE = ".superloop/standin-go"

_LOOK_EVERY_S = 0.02


class Stops:
    """Counts the effects of one command, and stops where it was told to."""

    def __init__(self, repo: Path, wanted: StopScript | None) -> None:
        self._repo = repo
        self._wanted = wanted
        self._effects = 0

    @classmethod
    def of(cls, repo: Path, command: str, scenario: Scenario) -> Stops:
        """The stops of `command` in `repo`; raises ScenarioError for words in the environment that name none."""
        words = os.environ.get(STOP_ENV)
        wanted = parse_stop(words, STOP_ENV) if words else scenario.stop
        return cls(repo, wanted if wanted is not None and wanted.command == command else None)

    def begin(self) -> None:
        """Stop before the first effect, if that is where."""
        self._stop_if_reached()

    def effect(self) -> None:
        """Count one effect that has just been had, and stop after it if that is where."""
        self._effects += 1
        self._stop_if_reached()

    def _stop_if_reached(self) -> None:
        if self._wanted is None or self._effects != self._wanted.effects:
            return
        if self._wanted.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        held = self._repo / HELD_FILE
        beside = held.with_name(held.name + ".tmp")
        beside.write_text(f"{os.getpid()}\n")
        beside.replace(held)
        while not (self._repo / GO_FILE).exists():
            time.sleep(_LOOK_EVERY_S)
