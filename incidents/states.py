"""Every state a run went through, as `status` would have answered it: one replay, a report per workflow task."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from contract.status import IntentStage, StatusReport
from incidents.history import Run
from incidents.replay import replay
from workflows.supervisor import LoopSupervisor

_MESSAGE = re.compile(r'message: "((?:[^"\\]|\\.)+)"')


@dataclass(frozen=True)
class State:
    """What was believed from `at` on, when the workflow task that began with event `event_id` was completed."""

    run_id: str
    event_id: int
    at: datetime
    report: StatusReport


@dataclass
class Replay:
    """The states of a chain of runs in order, and which runs the code does not come through any more, and why.

    `copied`: those that a run took over from the one that was reset to it, which was there then. `closed`: the last
    event of runs that have ended, `closed_at` when that was. A query that reaches such a run is told to be as of that.
    """

    states: list[State] = field(default_factory=list)
    copied: list[State] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)
    closed_at: dict[str, datetime] = field(default_factory=dict)

    def at(self, instant: datetime) -> State | None:
        """What `status` would have answered at `instant`; None before the first workflow task."""
        index = bisect_right([state.at for state in self.states], instant)
        if not index:
            return None
        state = self.states[index - 1]
        # Between two runs of a chain nobody is answered; after the last one, it is that one.
        over = state is self.states[-1] and state.run_id in self.closed and instant > self.closed_at[state.run_id]
        return self._as_of_its_end(state) if over else state

    def at_event(self, event_id: int, run_id: str | None = None) -> State | None:
        """The state after the last workflow task of a run (the newest by default) that began at or before an event."""
        wanted = run_id or (self.states[-1].run_id if self.states else None)
        every = [*self.copied, *self.states]
        known = [state for state in every if state.run_id == wanted and state.event_id <= event_id]
        if not known:
            return None
        return (
            self._as_of_its_end(known[-1]) if event_id >= self.closed.get(known[-1].run_id, event_id + 1) else known[-1]
        )

    def _as_of_its_end(self, state: State) -> State:
        as_of = state.report.as_of.model_copy(update={"history_length": self.closed[state.run_id]})
        return replace(state, report=state.report.model_copy(update={"as_of": as_of}))

    def when_decided(self, key: str) -> State | None:
        """The state in which the intent of this key had just been decided: accepted, rejected or expired."""
        last: State | None = None
        for state in self.states:
            stages = [record.stage for record in state.report.intents if record.key == key]
            if not stages:
                continue
            last = state
            if stages[0] is not IntentStage.RECEIVED:
                return state
        return last


async def replay_run(run: Run) -> Replay:
    """Replay one run to every state it went through."""
    begun = [started for started, _ in run.tasks]
    seen: list[tuple[int, str]] = []

    def look(supervisor: LoopSupervisor, event_id: int) -> None:
        # At the end of a history that was cut the SDK counts the events after the last start of a task as well.
        started = begun[bisect_right(begun, event_id) - 1]
        report = supervisor.report(run_id=run.run_id, history_length=started)
        # As text: the records in a report go on changing.
        seen.append((started, report.model_dump_json(by_alias=True)))

    found = Replay()
    if run.ending:
        found.closed, found.closed_at = {run.run_id: len(run.events)}, {run.run_id: run.last_at}
    if not begun:
        return found
    replayed = await replay(run.replayable, look)
    if replayed.failure is not None:
        found.failures[run.run_id] = _in_words(replayed.failure)
    events = [event_id for event_id, _ in seen]
    for started, completed_at in run.tasks:
        if replayed.failure is not None and started > max(events, default=0):
            break  # what was believed from there on is not known
        # A task that had nothing for the workflow is not replayed: the state is the one before.
        index = bisect_right(events, started)
        if index == 0:
            continue
        report = StatusReport.model_validate_json(seen[index - 1][1])
        report.as_of.history_length = started
        copied = run.reset is not None and started < run.reset.event_id
        (found.copied if copied else found.states).append(State(run.run_id, started, completed_at, report))
    return found


def _in_words(failure: BaseException) -> str:
    """What the SDK found, which it tells in the depth of a long record."""
    told = _MESSAGE.search(str(failure))
    return (told[1] if told else str(failure))[:300]


async def replay_runs(runs: Sequence[Run]) -> Replay:
    """Replay runs that follow each other, the oldest first."""
    whole = Replay()
    for run in runs:
        found = await replay_run(run)
        whole.states += found.states
        whole.copied += found.copied
        whole.failures |= found.failures
        whole.closed |= found.closed
        whole.closed_at |= found.closed_at
    return whole


async def last_state(chain: Sequence[Run]) -> State | None:
    """The newest state of a chain; a run that has only just begun still believes what it was handed."""
    for run in reversed(chain):
        states = (await replay_run(run)).states
        if states:
            return states[-1]
    return None
