"""What changed in the manager's belief from one state to the next, and what it did: the rest of the timeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from contract.status import IntentRecord, IntentStage, StatusReport, Transition
from incidents.entries import Entry, transport_words
from incidents.history import Run
from incidents.knowledge import RESOLUTION
from incidents.senders import Sent, sent
from incidents.states import State


def entries(states: Sequence[State], chain: Sequence[Run]) -> list[Entry]:
    """The changes of lifecycle, transport, attention and divergences, and every stage of every intent."""
    found = list(_entries(states, chain))
    lifecycle = [entry for entry in found if entry.kind == "lifecycle"]
    for earlier, later in reversed(list(pairwise(lifecycle))):
        # An event's second is cut off, so it may seem to have come before what was seen within that second.
        if earlier.clock == "manager" and later.at < earlier.at < later.at + RESOLUTION:
            earlier.at = later.at
    return found


def _entries(states: Sequence[State], chain: Sequence[Run]) -> Iterator[Entry]:
    senders = {message.sequence: message for run in chain for message in sent(run)}
    before: StatusReport | None = None
    for state in states:
        yield from _lifecycle(before, state)
        yield from _transport(before, state)
        yield from _divergences(before, state)
        yield from _attention(before, state)
        yield from _intents(before, state, senders)
        before = state.report


def _entry(state: State, **fields: object) -> Entry:
    return Entry.model_validate({"at": state.at, "run_id": state.run_id, "event_id": state.event_id, **fields})


def _new_transitions(before: StatusReport | None, report: StatusReport) -> list[Transition]:
    """The changes of lifecycle that a report knows of and the one before it did not."""
    known = before.transitions if before else []
    return [transition for transition in report.transitions if transition not in known]


def _lifecycle(before: StatusReport | None, state: State) -> Iterator[Entry]:
    for transition in _new_transitions(before, state.report):
        told_by_event = transition.line is not None and transition.at is not None
        at = transition.at or state.at
        reason = f" ({transition.reason})" if transition.reason else ""
        run = f" of run {transition.run_id}" if transition.run_id else ""
        yield _entry(
            state,
            at=at,
            clock="sprite" if told_by_event else "manager",
            known_at=state.at,
            delay_s=(state.at - at).total_seconds(),
            kind="lifecycle",
            what=f"{transition.lifecycle.value.replace('_', ' ')}{reason}",
            why=transition.evidence or (f"line {transition.line}{run}" if transition.line else ""),
            line=transition.line,
        )


def _transport(before: StatusReport | None, state: State) -> Iterator[Entry]:
    now = state.report.transport
    if before is None or before.transport.state != now.state:
        what = "blind: no transport answers" if now.state == "blind" else f"turned to the {transport_words(now.state)}"
        if before is None or now.state == "blind" or before.transport.state != "blind" or now.reason:
            yield _entry(state, kind="transport", what=what, why=now.reason)


def _divergences(before: StatusReport | None, state: State) -> Iterator[Entry]:
    known = {divergence.type for divergence in before.divergence} if before else set()
    now = {divergence.type for divergence in state.report.divergence}
    for divergence in state.report.divergence:
        if divergence.type not in known:
            yield _entry(state, kind="divergence", what=f"divergence {divergence.type}", why=divergence.detail)
    for closed in sorted(known - now):
        yield _entry(state, kind="divergence", what=f"divergence {closed} closed")


def _attention(before: StatusReport | None, state: State) -> Iterator[Entry]:
    known = {condition.id: condition for condition in before.conditions} if before else {}
    now = {condition.id: condition for condition in state.report.conditions}
    for opened in (condition for key, condition in now.items() if key not in known):
        what = f"a human is needed: {opened.kind.value.replace('_', ' ')}"
        yield _entry(state, kind="attention", what=what, why=opened.sentence, key=opened.id)
    for closed in (condition for key, condition in known.items() if key not in now):
        yield _entry(state, kind="attention", what=f"over: {closed.kind.value.replace('_', ' ')}", key=closed.id)


def _intents(before: StatusReport | None, state: State, senders: dict[int, Sent]) -> Iterator[Entry]:
    known = {record.sequence: record for record in before.intents} if before else {}
    for record in state.report.intents:
        earlier = known.get(record.sequence)
        if earlier is not None and earlier.stages == record.stages and earlier.received == record.received:
            continue
        yield from _stages(earlier, record, state, senders.get(record.sequence))


def _stages(earlier: IntentRecord | None, record: IntentRecord, state: State, message: Sent | None) -> Iterator[Entry]:
    reached = record.stages[len(earlier.stages) if earlier else 0 :]
    told = {"by": record.by, "sender": message.identity if message else "", "key": record.key}
    if earlier is not None and record.received > earlier.received:
        what = f"{record.intent} came again under the same key"
        yield _entry(state, kind="intent", what=what, **told)
    for stage in reached:
        line = f" (line {stage.line})" if stage.line else ""
        refused = stage.stage in (IntentStage.REJECTED, IntentStage.EXPIRED)
        yield _entry(
            state,
            at=message.at if message and stage.stage is IntentStage.RECEIVED and earlier is None else stage.at,
            known_at=state.at,
            kind="intent",
            what=f"{record.intent} {stage.stage.value.replace('_', ' ')}{line}",
            why=stage.evidence or (record.reason or record.sentence if refused else ""),
            line=stage.line,
            event_id=message.event_id if message and stage.stage is IntentStage.RECEIVED else state.event_id,
            **told,
        )
