"""What a chain of runs took of the event log, told from its histories alone: which line, with which hash, and when.

This folds results of `observe` by its own few rules, not by the workflow's code, so that it can be held against what
the workflow believes. It follows the workflow in what counts: a result that came after its observer had been given up
was dropped, a result of an observer number seen before changes nothing, and where a run was handed a state that knows
less than its predecessor was told, the rest was dropped at the change and read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import ValidationError

from contract.observation import ActivityName, Contact, CursorPosition, EventDigest, Observation, QuarantinedDigest
from incidents.history import ActivityRecord, Run, read_payload
from workflows.state import SupervisorState


@dataclass(frozen=True)
class Taken:
    """A line as history has it. `known_at`: when the workflow had taken it in; `event_id`: what brought it."""

    line: int
    h: str | None
    digest: EventDigest | QuarantinedDigest
    run_id: str
    event_id: int
    known_at: datetime
    transport: str


@dataclass
class Head:
    """Where an observation ended: the chain after `line` as the manager computed it."""

    line: int
    chain: str | None
    run_id: str
    event_id: int


@dataclass
class Epoch:
    """The lines of one epoch. `from_line`: lines up to here were taken by runs whose histories are not at hand."""

    number: int
    from_line: int = 0
    lines: dict[int, Taken] = field(default_factory=dict)
    heads: list[Head] = field(default_factory=list)
    unverifiable_from: int | None = None
    brought_again: int = 0

    @property
    def head(self) -> int:
        """The last line consumed."""
        return self.heads[-1].line if self.heads else self.from_line

    @property
    def chain(self) -> str | None:
        """The chain there."""
        return self.heads[-1].chain if self.heads else None

    def gaps(self) -> list[tuple[int, int]]:
        """Stretches of lines that were consumed and never told of, first and last line each."""
        found: list[tuple[int, int]] = []
        for line in range(self.from_line + 1, self.head + 1):
            if line in self.lines:
                continue
            if found and found[-1][1] == line - 1:
                found[-1] = (found[-1][0], line)
            else:
                found.append((line, line))
        return found


@dataclass
class Contradiction:
    """Histories that disagree with themselves."""

    epoch: int
    line: int
    what: str
    run_id: str
    event_id: int | None = None


@dataclass
class Folded:
    """Everything that the histories tell about the log."""

    epochs: list[Epoch]
    observations: int = 0
    dropped: int = 0
    contradictions: list[Contradiction] = field(default_factory=list)

    @property
    def newest(self) -> Epoch:
        """The epoch that the cursor is in."""
        return self.epochs[-1]


@dataclass(frozen=True)
class Seen:
    """A result of `observe` that the workflow took in."""

    run_id: str
    event_id: int
    at: datetime
    known_at: datetime
    observation: Observation
    activity: ActivityRecord


def observations(run: Run) -> Iterator[tuple[Seen, bool]]:
    """Every result of `observe` of a run in the order of arrival, and whether the workflow could still take it."""
    results = [a for a in run.activities if a.name == ActivityName.OBSERVE and a.result is not None and a.closed_event]
    for activity in sorted(results, key=lambda a: a.closed_event or 0):
        try:
            seen = read_payload(activity.result, Observation) if activity.result else None
        except ValidationError:
            continue  # no workflow could have read it either
        if seen is None or activity.closed_event is None or activity.closed_at is None:
            continue
        known_at = run.task_done_at(activity.closed_event)
        counts = known_at is not None and not activity.is_news_to_nobody and bool(seen.digest)
        yield (
            Seen(run.run_id, activity.closed_event, activity.closed_at, known_at or run.last_at, seen, activity),
            counts,
        )


def fold(chain: Sequence[Run]) -> Folded:
    """Fold the runs of one continue-as-new chain, the oldest first."""
    return _Folding().over(chain)


class _Folding:
    def __init__(self) -> None:
        self._epochs: list[Epoch] = [Epoch(1)]
        self._observer = 0
        self._sprite_id: str | None = None
        self._found = Folded(self._epochs)

    def over(self, chain: Sequence[Run]) -> Folded:
        for index, run in enumerate(chain):
            if run.carried is not None:
                self._take_over(run, run.carried, first=index == 0)
            elif index > 0:
                self._begin_again()
            for seen, counts in observations(run):
                self._found.observations += 1
                if not counts or seen.observation.observer <= self._observer:
                    self._found.dropped += 1
                    continue
                self._observer = seen.observation.observer
                self._take(seen)
        return self._found

    def _take_over(self, run: Run, state: SupervisorState, *, first: bool) -> None:
        cursor = state.cursor
        self._observer = state.seen
        self._sprite_id = state.target.sprite_id or self._sprite_id
        epoch = self._epochs[-1]
        if first:
            self._epochs[:] = [Epoch(cursor.epoch, from_line=cursor.line)]
        elif cursor.epoch > epoch.number:
            self._epochs.append(Epoch(cursor.epoch, from_line=cursor.line))
            if cursor.line > 0:
                self._contradict(cursor.line, f"it was handed line {cursor.line} of an epoch unknown to history", run)
        elif cursor.epoch < epoch.number or cursor.line < epoch.head:
            self._found.dropped += 1
            self._forget_beyond(cursor)
        elif cursor.line > epoch.head:
            self._contradict(cursor.line, f"it was handed line {cursor.line}, history ends at line {epoch.head}", run)
        newest = self._epochs[-1]
        newest.heads.append(Head(cursor.line, cursor.chain, run.run_id, 1))

    def _begin_again(self) -> None:
        """A first run that was reset: the new one tells everything itself, up to the point of the reset once more."""
        self._epochs[:] = [Epoch(1)]
        self._observer, self._sprite_id = 0, None

    def _forget_beyond(self, cursor: CursorPosition) -> None:
        while len(self._epochs) > 1 and self._epochs[-1].number > cursor.epoch:
            self._epochs.pop()
        epoch = self._epochs[-1]
        epoch.lines = {line: taken for line, taken in epoch.lines.items() if line <= cursor.line}
        epoch.heads = [head for head in epoch.heads if head.line <= cursor.line]

    def _contradict(self, line: int, what: str, run: Run) -> None:
        self._found.contradictions.append(Contradiction(self._epochs[-1].number, line, what, run.run_id))

    def _take(self, seen: Seen) -> None:
        observation = seen.observation
        if observation.contact is not Contact.OK:
            return
        if self._sprite_id and observation.sprite_id and observation.sprite_id != self._sprite_id:
            return  # another sprite's answer is not believed
        self._sprite_id = self._sprite_id or observation.sprite_id
        epoch = self._epochs[-1]
        if observation.reset is not None:
            self._epochs.append(Epoch(epoch.number + 1))
            return
        if observation.cursor.epoch > epoch.number:
            # An operator has had the log read anew: no observation says so, but the observer was started for it.
            self._epochs.append(Epoch(observation.cursor.epoch))
        if observation.cursor.epoch == self._epochs[-1].number:
            self._take_lines(self._epochs[-1], seen)

    def _take_lines(self, epoch: Epoch, seen: Seen) -> None:
        observation, head = seen.observation, epoch.head
        told: list[EventDigest | QuarantinedDigest] = [*observation.events, *observation.quarantined]
        for digest in sorted(told, key=lambda digest: digest.line):
            taken = Taken(
                digest.line, digest.h, digest, seen.run_id, seen.event_id, seen.known_at, observation.transport.value
            )
            if digest.line > head:
                epoch.lines.setdefault(digest.line, taken)
                continue
            epoch.brought_again += 1
            known = epoch.lines.get(digest.line)
            if known and known.h and digest.h and known.h != digest.h:
                what = f"it was {known.h} at first and {digest.h} when it was brought again"
                self._found.contradictions.append(
                    Contradiction(epoch.number, digest.line, what, seen.run_id, seen.event_id)
                )
        if observation.unverifiable_from is not None and epoch.unverifiable_from is None:
            epoch.unverifiable_from = observation.unverifiable_from
        if observation.cursor.line >= head:
            end = observation.cursor
            epoch.heads.append(Head(end.line, end.chain, seen.run_id, seen.event_id))
