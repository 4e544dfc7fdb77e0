"""What an operator asks of the supervisor itself: a transport, the end of a divergence, a comparison.

Recorded like every other message. The first two are done at once; a comparison is only noted here, and `reconciling`
carries it out.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio.api.common.v1 import Payload

from contract.directives import (
    EXAMPLES,
    Directive,
    DirectiveMessage,
    ReconcileMessage,
    ResolutionMessage,
    TransportMessage,
    read_directive,
)
from contract.divergence import DivergenceReport
from contract.errors import IntentInvalid
from contract.observation import Transport, TransportMode
from contract.status import IntentRecord, IntentStage
from workflows import divergence, messages, records, transport
from workflows.ingest import begin_epoch
from workflows.state import SupervisorState
from workflows.wording import moment


def decode(directive: Directive, payloads: list[Payload]) -> DirectiveMessage:
    """The message; raises IntentInvalid for whatever is none."""
    return read_directive(directive, messages.decoded_json(payloads, EXAMPLES[directive]))


def receive(
    state: SupervisorState,
    directive: Directive,
    payloads: list[Payload],
    *,
    now: datetime,
    first_run_id: str,
    trace_id: str,
    local_only: bool,
) -> IntentRecord:
    """Record one message and do what it asks; what is wrong with it ends as a rejection with the reason."""
    record = messages.new_record(
        state, directive.value, payloads, now=now, first_run_id=first_run_id, trace_id=trace_id
    )
    try:
        message = decode(directive, payloads)
        record.by, record.note = message.by, message.note
        match message:
            case TransportMessage():
                _done(record, _set_transport(state, message, now, local_only=local_only), now)
            case ResolutionMessage():
                _done(record, _resolve(state, message, now), now)
            case ReconcileMessage():
                _note_comparison(state, record, message, now)
    except IntentInvalid as error:
        records.refuse(record, now, str(error)[: messages.MAX_REASON_CHARS])
    messages.keep(state, record)
    return record


def _done(record: IntentRecord, sentence: str, now: datetime) -> None:
    records.reach(record, IntentStage.CONFIRMED, now, sentence)
    record.reason = sentence
    record.sentence = f"Done: {sentence}"


def open_comparison(state: SupervisorState) -> IntentRecord | None:
    """The comparison that was asked for and not carried out yet."""
    asked = (record for record in state.intents if record.intent == Directive.RECONCILE)
    return next((record for record in asked if record.stage is IntentStage.ACCEPTED), None)


def _note_comparison(state: SupervisorState, record: IntentRecord, message: ReconcileMessage, now: datetime) -> None:
    if open_comparison(state) is not None:
        raise IntentInvalid("a comparison is under way already: see what becomes of that one.")
    record.from_start = message.from_start
    records.reach(record, IntentStage.ACCEPTED, now, "the log is read again and compared")


def _set_transport(state: SupervisorState, message: TransportMessage, now: datetime, *, local_only: bool) -> str:
    known, mode = state.transport, message.mode
    if mode is TransportMode.SPRITE_SERVICE and (local_only or state.target.service_url is None):
        raise IntentInvalid("this loop is supervised without a service: there is only the local transport.")
    transport.pin(known, mode, now, by=message.by)
    if mode is TransportMode.AUTO:
        return f"{message.by} lets the manager use whichever transport works; now {_shown(state)}"
    pinned = f"{message.by} pinned the loop to {mode.value.replace('_', ' ')}"
    if mode is TransportMode.SPRITE_SERVICE and known.active is Transport.LOCAL:
        return f"{pinned}; it is used as soon as it was compared with what was ingested, now {_shown(state)}"
    return f"{pinned}, and nothing else is used"


def _shown(state: SupervisorState) -> str:
    return transport.word(state.transport).replace("_", " ")


def _resolve(state: SupervisorState, message: ResolutionMessage, now: datetime) -> str:
    found = _open(state, message.id)
    allowed = divergence.acceptable(found)
    if not allowed:
        raise IntentInvalid(f"{found.id} {found.type} closes by itself as soon as the contradiction is gone.")
    if message.accept not in allowed:
        raise IntentInvalid(f"{found.id} {found.type} can only be closed with accept {' or '.join(allowed)}.")
    if found.type == divergence.TRANSPORT_DISAGREEMENT:
        told = _accept(state, found, message, now)
    else:
        told = f"what {'was' if state.at_head else 'is being'} read again stands (epoch {state.cursor.epoch})"
    divergence.close(state, found, now, resolution=message.accept, by=message.by, note=message.note)
    return f"{message.by} resolved {found.id} {found.type}: {told}"


def _open(state: SupervisorState, name: str) -> DivergenceReport:
    found = next((opened for opened in state.divergences if opened.id == name), None)
    if found is not None:
        return found
    before = next((closed for closed in state.resolved_divergences if closed.id == name), None)
    if before is not None:
        by = f" by {before.resolved_by}" if before.resolved_by else ""
        raise IntentInvalid(f"{name} was resolved at {moment(before.resolved_at)}{by} ({before.resolution}).")
    known = ", ".join(opened.id for opened in state.divergences) or "none"
    raise IntentInvalid(f"there is no divergence {name}; open: {known}.")


def _accept(state: SupervisorState, found: DivergenceReport, message: ResolutionMessage, now: datetime) -> str:
    known = state.transport
    if message.accept == "sprite_service":
        begin_epoch(state)
        if known.mode is TransportMode.LOCAL:
            transport.pin(known, TransportMode.AUTO, now, by=message.by)
        transport.returned(known, f"the log of the sprite service was accepted by {message.by}", now, by=message.by)
        return f"the log of the sprite service is read whole, under epoch {state.cursor.epoch}"
    known.accepted_line = divergence.first_doubt(found.first_differing_line, found.last_same_line, found.heads)
    known.recheck_at = now + timedelta(seconds=transport.RECHECK_S)
    if message.accept == "local":
        transport.pin(known, TransportMode.LOCAL, now, by=message.by, until_agreed=True)
        return "what was ingested stands, and local is used until a comparison agrees"
    return "what is believed now stands"
