"""An incident in a few sentences, for somebody who was not there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

from contract.reports import Report
from contract.status import Attention, IntentRecord, IntentStage, StatusReport
from incidents.entries import Entry
from incidents.knowledge import CLOCKS_AGREE_WITHIN_S
from incidents.timeline import Timeline, Told
from incidents.told import counted, lasting

_OPEN = (IntentStage.RECEIVED, IntentStage.ACCEPTED, IntentStage.EXECUTING, IntentStage.AMBIGUOUS)
_MOST = 8
_ALARM = "a human is needed: blind"


class Summary(Report):
    """What a report says first. Every part is a list of sentences; an empty one has nothing to say."""

    title: str
    outcome: str
    span: str
    happened: list[str]
    blind: list[str]
    people: list[str]
    still_open: list[str]
    evidence: list[str]


def summarize(told: Told, timeline: Timeline) -> Summary:
    """The summary of an incident."""
    final = told.replay.states[-1].report if told.replay.states else None
    return Summary(
        title=f"{timeline.sprite}/{timeline.loop_id}",
        outcome=_outcome(told),
        span=_span(timeline.entries),
        happened=_happened(timeline.entries),
        blind=[_blind(entry, timeline.entries) for entry in timeline.entries if entry.kind == "blind"],
        people=_people(told, timeline.entries),
        still_open=_still_open(final),
        evidence=_evidence(told, timeline),
    )


def clock(at: datetime) -> str:
    """`2026-11-22 03:12:07Z`."""
    return f"{at:%Y-%m-%d %H:%M:%SZ}"


def _outcome(told: Told) -> str:
    if not told.replay.states:
        return "Nothing is known of how it ended."
    last = told.replay.states[-1]
    final, when = last.report, "In the end the loop is"
    if told.incident.runs[-1].run_id in told.replay.failures:
        when = f"How it ended is not known: this version replays it only up to {clock(last.at)}. Then the loop was"
    state = final.lifecycle.value.replace("_", " ")
    run = f", run {final.run_id}" if final.run_id else ""
    need = "nobody is needed"
    if final.attention.code is not Attention.NONE:
        need = f"a human is needed: {final.attention.sentence}"
    return f"{when} {state} ({final.reason}{run}), and {need}".rstrip(".") + "."


def _span(entries: Sequence[Entry]) -> str:
    if not entries:
        return "Nothing happened."
    first, last = entries[0].at, max(entry.ends_at or entry.at for entry in entries)
    return f"{clock(first)} to {clock(last)}, {lasting((last - first).total_seconds())}"


def _happened(entries: Sequence[Entry]) -> list[str]:
    """The changes of lifecycle, and divergences; of many the first and the last."""
    changes = [entry for entry in entries if entry.kind in ("lifecycle", "divergence")]
    return _first_and_last([f"{_on(entry.at, entries)} {_change(entry)}" for entry in changes])


def _change(entry: Entry) -> str:
    # Where an event told it, its line is in the list; what was concluded has its reason here.
    why = f": {entry.why}" if entry.why and entry.line is None else ""
    late = f", known {lasting(entry.delay_s)} later" if entry.delay_s and entry.delay_s > CLOCKS_AGREE_WITHIN_S else ""
    return f"{entry.what}{late}{why}"


def _on(at: datetime, entries: Sequence[Entry]) -> str:
    """The time; with its day where that is not the first one."""
    return f"{at:%H:%M:%SZ}" if entries and entries[0].at.date() == at.date() else clock(at)


def _first_and_last(told: list[str]) -> list[str]:
    if len(told) <= _MOST:
        return told
    half = _MOST // 2
    return [*told[:half], f"... {len(told) - 2 * half} more, see the lists below ...", *told[-half:]]


def _blind(span: Entry, entries: Sequence[Entry]) -> str:
    end = span.ends_at
    missed = [
        entry
        for entry in entries
        if entry.kind == "event" and entry.at >= span.at and (end is None or (entry.known_at and entry.at < end))
    ]
    late = max((entry.delay_s or 0.0 for entry in missed), default=0.0)
    until = (
        f"to {_on(end, entries)}, {lasting((end - span.at).total_seconds())}" if end else "until the end of the record"
    )
    seen = (
        f"{counted(len(missed), 'event')} happened meanwhile"
        if missed
        else "nothing happened meanwhile that is known of"
    )
    known = f", known up to {lasting(late)} later" if late > CLOCKS_AGREE_WITHIN_S else ""
    alarms = (entry.at for entry in entries if entry.kind == "attention" and entry.what == _ALARM)
    first = next((at for at in alarms if at >= span.at and (end is None or at < end)), None)
    alarm = f"; the alarm was raised at {_on(first, entries)}" if first else ""
    return f"{_on(span.at, entries)} {until}: {seen}{known}{alarm}. Why: {span.why}"


def _people(told: Told, entries: Sequence[Entry]) -> list[str]:
    records: dict[tuple[str, int], IntentRecord] = {}
    for state in told.replay.states:
        for record in state.report.intents:
            records[record.key, record.sequence] = record
    by_arrival = sorted(records.values(), key=lambda record: record.received_at)
    found: list[tuple[datetime, str]] = []
    ours = {record.decision_line for record in by_arrival}
    decided = [entry for entry in entries if _is_decision(entry) and entry.line not in ours]
    for (by, intent, said), group in groupby(by_arrival, key=_asked):
        same = list(group)
        times = f", {len(same)} times" if len(same) > 1 else ""
        found.append((same[0].received_at, f"{by} asked {intent}{times}{said}"))
    found += [(entry.at, f"{entry.by} decided in the sprite: {_change(entry)}") for entry in decided]
    return _first_and_last([f"{_on(at, entries)} {sentence}" for at, sentence in sorted(found)])


def _is_decision(entry: Entry) -> bool:
    return entry.kind == "event" and bool(entry.by) and "approval_decision" in entry.what


def _asked(record: IntentRecord) -> tuple[str, str, str]:
    note = f' ("{record.note}")' if record.note else ""
    return record.by, record.intent, f"{note}: {record.sentence or record.stage.value.replace('_', ' ')}"


def _still_open(final: StatusReport | None) -> list[str]:
    if final is None:
        return []
    waiting = [record for record in final.intents if record.stage in _OPEN and not record.final]
    found = [f"{record.intent} by {record.by}: {record.sentence or record.stage.value}" for record in waiting]
    found += [f"Divergence {divergence.type}: {divergence.detail}" for divergence in final.divergence]
    if final.attention.code is not Attention.NONE:
        found.append(final.attention.sentence)
    return found


def _evidence(told: Told, timeline: Timeline) -> list[str]:
    found = [report.sentence for report in told.incident.verified]
    if timeline.clocks.sentence:
        found.append(timeline.clocks.sentence)
    never = sum(entry.kind == "event" and entry.known_at is None for entry in timeline.entries)
    if never:
        found.append(f"{counted(never, 'line')} of the log had not been observed when this was exported.")
    if told.incident.manifest.log is None:
        found.append(f"The event log was not at hand: {told.incident.manifest.log_missing}")
    if told.incident.manifest.missing:
        found.append(f"Histories that nobody has any more: {', '.join(told.incident.manifest.missing)}.")
    found += [f"Run {run_id} does not replay with this version: {why}" for run_id, why in told.replay.failures.items()]
    return found
