"""Belief against truth: which events had already happened at an instant and were not known, and how late each was seen.

Two clocks meet here. When an event happened is on the sprite's clock, in whole seconds; when it was known is on the
Temporal server's. `Clocks` says how far the sprite's is from the worker's, as far as the observations tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from pydantic import Field

from contract.clock import parse_utc
from contract.observation import EventDigest
from contract.reports import Report
from incidents.fold import Epoch, Taken, observations
from incidents.history import Run
from incidents.log import EventLog

CLOCKS_AGREE_WITHIN_S = 2.0
"""Timestamps have whole seconds, and an answer is on its way for a while: less than this says nothing."""
RESOLUTION = timedelta(seconds=1)
"""An event's timestamp is cut to whole seconds: it has surely happened when that second is over."""
_WORST = 5


class Clocks(Report):
    """How far the sprite's clock is ahead of the worker's (negative: behind), in seconds, by so many observations."""

    ahead_s: float | None = None
    observations: int = 0

    @property
    def sentence(self) -> str:
        """What that means for reading delays; empty where the clocks agree."""
        if self.ahead_s is None or abs(self.ahead_s) <= CLOCKS_AGREE_WITHIN_S:
            return ""
        word = "ahead of" if self.ahead_s > 0 else "behind"
        return (
            f"The sprite's clock was about {abs(self.ahead_s):.0f} s {word} the manager's: delays are wrong by as much."
        )


class KnownEvent(Report):
    """One line: when it happened, and when the manager knew it, if it ever did. `late_s` is the time between."""

    line: int
    name: str
    role: str | None = None
    status: str | None = None
    message: str | None = None
    by: str | None = None
    iteration: int | None = None
    happened_at: datetime | None = None
    known_at: datetime | None = None
    late_s: float | None = None
    transport: str | None = None
    history_run_id: str | None = None
    event_id: int | None = None


class Knowledge(Report):
    """What was known of the log at an instant. `unknown`: had surely happened by then, and was not known."""

    at: datetime
    known_lines: int
    unknown: list[KnownEvent] = Field(default_factory=list)
    latest: list[KnownEvent] = Field(default_factory=list)
    clocks: Clocks = Field(default_factory=Clocks)


def clocks(runs: Sequence[Run]) -> Clocks:
    """Compare the clocks by what each observation was told and when it was answered."""
    ahead = []
    for run in runs:
        for seen, _ in observations(run):
            snapshot = seen.observation.snapshot
            emitted = parse_utc(snapshot.emitted_at) if snapshot else None
            if emitted is not None:
                # The text was cut to whole seconds.
                ahead.append((emitted - seen.observation.contact_at).total_seconds() + 0.5)
    return Clocks(ahead_s=round(median(ahead), 1) if ahead else None, observations=len(ahead))


def known_events(epoch: Epoch, log: EventLog | None) -> list[KnownEvent]:
    """Every line of an epoch that is known of at all, from history, and from the log what nobody has observed yet."""
    found = {line: _observed(taken) for line, taken in epoch.lines.items()}
    for logged in log.lines if log else []:
        if logged.line > epoch.head and logged.happened_at is not None:
            found[logged.line] = KnownEvent(line=logged.line, name=logged.name, happened_at=logged.happened_at)
    return [found[line] for line in sorted(found)]


def _observed(taken: Taken) -> KnownEvent:
    seen: dict[str, Any] = {
        "line": taken.line,
        "known_at": taken.known_at,
        "transport": taken.transport,
        "history_run_id": taken.run_id,
        "event_id": taken.event_id,
    }
    digest = taken.digest
    if not isinstance(digest, EventDigest):
        return KnownEvent(name="no event", message=digest.reason, **seen)
    happened = parse_utc(digest.timestamp)
    return KnownEvent(
        name=digest.name,
        role=digest.role,
        status=digest.status,
        message=digest.message,
        by=told if isinstance(told := digest.data.get("by"), str) else None,
        iteration=digest.iteration,
        happened_at=happened,
        late_s=(taken.known_at - happened).total_seconds() if happened else None,
        **seen,
    )


def _had_happened(event: KnownEvent, at: datetime) -> bool:
    return event.happened_at is not None and event.happened_at + RESOLUTION <= at


def knowledge_at(at: datetime, epoch: Epoch, log: EventLog | None, runs: Sequence[Run]) -> Knowledge:
    """What was known at `at` of an epoch's lines, and what had happened by then all the same."""
    events = known_events(epoch, log)
    known = [event for event in events if event.known_at is not None and event.known_at <= at]
    unknown = [event for event in events if not (event.known_at and event.known_at <= at) and _had_happened(event, at)]
    latest = sorted((event for event in known if event.late_s is not None), key=lambda e: -(e.late_s or 0.0))
    return Knowledge(
        at=at, known_lines=epoch.from_line + len(known), unknown=unknown, latest=latest[:_WORST], clocks=clocks(runs)
    )
