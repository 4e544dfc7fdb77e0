"""What happened, one entry a thing: who and why, when it happened, and when the manager knew it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from contract.reports import Report
from incidents import changes
from incidents.archive import Incident
from incidents.blindness import BlindSpan, blind_spans
from incidents.entries import Entry, transport_words
from incidents.fold import Folded, Seen, fold, observations
from incidents.history import Run, chains
from incidents.knowledge import Clocks, KnownEvent, clocks, known_events
from incidents.senders import ender, starter
from incidents.states import Replay, State, replay_runs


class Timeline(Report):
    """Everything in the order in which it happened."""

    workflow_id: str
    sprite: str
    loop_id: str
    entries: list[Entry]
    clocks: Clocks
    do_not_replay: dict[str, str]


class Told:
    """An incident read once: its chains, states, folded lines and blind spans, from which everything else is told."""

    def __init__(self, incident: Incident, replayed: Replay) -> None:
        self.incident = incident
        self.replay = replayed
        self.chains = chains(incident.runs)
        self.folded: list[Folded] = [fold(chain) for chain in self.chains]
        self.blind: list[BlindSpan] = [span for chain in self.chains for span in blind_spans(chain)]
        self.clocks = clocks(incident.runs)

    @classmethod
    async def of(cls, incident: Incident) -> Told:
        """Read an incident; replays every run of it."""
        return cls(incident, await replay_runs(incident.runs))

    def states_of(self, chain: Sequence[Run]) -> list[State]:
        """The states of one chain."""
        ids = {run.run_id for run in chain}
        return [state for state in self.replay.states if state.run_id in ids]

    def events(self) -> Iterator[KnownEvent]:
        """Every line of the log that is known of; of the newest epoch those that nobody has observed yet as well."""
        for folded in self.folded:
            for epoch in folded.epochs:
                newest = folded is self.folded[-1] and epoch is folded.newest
                yield from known_events(epoch, self.incident.log if newest else None)


def timeline(told: Told) -> Timeline:
    """The timeline of an incident."""
    entries = [*map(_event, told.events()), *map(_blind, told.blind)]
    for chain in told.chains:
        entries += _supervision(chain)
        for run in chain:
            own = run.reset.event_id if run.reset else 0
            entries += [_observation(seen) for seen, counts in observations(run) if counts and seen.event_id > own]
        entries += changes.entries(told.states_of(chain), chain)
    # What happened within one second is told in the order in which it was known.
    entries.sort(key=lambda entry: (entry.at, entry.known_at or entry.at, entry.line or 0))
    manifest = told.incident.manifest
    return Timeline(
        workflow_id=manifest.workflow_id,
        sprite=manifest.sprite,
        loop_id=manifest.loop_id,
        entries=entries,
        clocks=told.clocks,
        do_not_replay=told.replay.failures,
    )


def _event(event: KnownEvent) -> Entry:
    detail = " ".join(part for part in (event.name, event.role or "", event.status or "") if part)
    iteration = f", iteration {event.iteration}" if event.iteration else ""
    at = event.happened_at or event.known_at
    assert at is not None, "a line is known of, or it was read with its timestamp"  # noqa: S101 - see known_events
    return Entry(
        at=at,
        clock="sprite" if event.happened_at else "manager",
        known_at=event.known_at,
        delay_s=event.late_s,
        kind="event",
        what=f"line {event.line}: {detail}{iteration}",
        why=event.message or "",
        by=event.by or "",
        line=event.line,
        run_id=event.history_run_id,
        event_id=event.event_id,
    )


def _blind(span: BlindSpan) -> Entry:
    lasted = f"for {(span.ended - span.began).total_seconds():.0f} s" if span.ended else "until the end of the record"
    again = f"; seen again through the {transport_words(span.through)}" if span.through else ""
    return Entry(
        at=span.began,
        ends_at=span.ended,
        kind="blind",
        what=f"nothing could be seen {lasted}{again}",
        why="; ".join(span.reasons),
        run_id=span.run_id,
        event_id=span.event_id,
    )


def _observation(seen: Seen) -> Entry:
    told, retried = seen.observation, seen.activity.retried_for
    lines = [*(event.line for event in told.events), *(bad.line for bad in told.quarantined)]
    if told.reset is not None:
        news = f"the log is another one ({told.reset.reason})"
    elif lines:
        news = f"lines {min(lines)} to {max(lines)}" if len(lines) > 1 else f"line {lines[0]}"
    else:
        news = (
            "a changed snapshot" if told.contact == "ok" else f"{told.contact.value.replace('_', ' ')}: {told.detail}"
        )
    attempts = f"attempt {seen.activity.attempts}, after: {retried}" if retried else ""
    return Entry(
        at=seen.at,
        known_at=seen.known_at,
        delay_s=(seen.known_at - seen.at).total_seconds(),
        kind="observation",
        what=f"observed through the {transport_words(told.transport.value)}: {news}",
        why=attempts,
        run_id=seen.run_id,
        event_id=seen.event_id,
    )


def _supervision(chain: Sequence[Run]) -> Iterator[Entry]:
    first, last = chain[0], chain[-1]
    if first.continued_from is None:
        yield Entry(
            at=first.started_at, kind="supervision", what="supervision began", sender=starter(first),
            run_id=first.run_id, event_id=1,
        )  # fmt: skip
    for run in chain:
        if run.reset is not None:
            what = f"the supervisor was reset to event {run.reset.event_id}, and runs again from there"
            yield Entry(
                at=run.reset.at, kind="supervision", what=what, why=run.reset.reason, sender=run.reset.identity,
                run_id=run.run_id, event_id=run.reset.event_id,
            )  # fmt: skip
        elif run.continued_from is not None:
            what = "a fresh workflow run took over"
            yield Entry(at=run.started_at, kind="supervision", what=what, run_id=run.run_id, event_id=1)
    if last.ending not in (None, "continued_as_new"):
        identity, reason = ender(last)
        yield Entry(
            at=last.last_at, kind="supervision", what=f"supervision ended: {last.ending}", why=reason, sender=identity,
            run_id=last.run_id, event_id=len(last.events),
        )  # fmt: skip
