"""Messages of people: whatever is sent ends as a record with a reason; none wedges, fails or is dropped.

Handlers take the raw payload and decode it here. A message is identified by its idempotency key, or, without one, by
the supervisor's first execution run id and its sequence number: stable across continue-as-new and reset, new after a
release and a fresh start.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from temporalio.api.common.v1 import Payload

from contract.directives import Directive
from contract.errors import IntentInvalid
from contract.intents import EXAMPLE, Intent, IntentMessage, check_by, check_key
from contract.status import IntentRecord, IntentStage, StageRecord
from workflows import automation
from workflows.records import refuse
from workflows.state import NOTHING_DONE, OPEN_STAGES, SupervisorState
from workflows.wording import moment, printable

_JSON_ENCODINGS = (b"json/plain", b"json/protobuf")
_KNOWN = ", ".join((*Intent.__members__, *Directive.__members__))

MAX_NAME_CHARS = 80
"""Of the name of a signal that there is not; nobody bounds it on its way here."""
MAX_REASON_CHARS = 1_000
MAX_QUEUED = 20
"""Intents of one name that may wait for an observation: the state has to fit into continue-as-new."""
LATEST_NOT_AFTER = timedelta(days=366)
"""Farther away means for ever; a timer of thousands of years is no timer to a server."""


def decode(payloads: list[Payload]) -> IntentMessage:
    """The message of a signal; raises IntentInvalid for any number or kind of payloads that is none."""
    return IntentMessage.read(decoded_json(payloads))


def decoded_json(payloads: list[Payload], example: str = EXAMPLE) -> object:
    """The JSON of the one payload, None without one; raises IntentInvalid for whatever else was sent."""
    if len(payloads) > 1:
        raise IntentInvalid(f"{len(payloads)} arguments were sent: send one JSON object such as {example}")
    return _json(payloads[0], example) if payloads else None


def _json(payload: Payload, example: str = EXAMPLE) -> object:
    encoding = payload.metadata.get("encoding", b"")
    if encoding == b"binary/null":
        return None
    if encoding not in _JSON_ENCODINGS:
        name = encoding.decode("ascii", "replace")[:60] or "none"
        raise IntentInvalid(f"the message's encoding {name!r} cannot be read: send JSON such as {example}")
    try:
        value: object = json.loads(payload.data)
    except (ValueError, RecursionError):
        raise IntentInvalid(f"the message is not JSON: send one JSON object such as {example}") from None
    return value


def receive(
    state: SupervisorState,
    name: str,
    payloads: list[Payload],
    *,
    now: datetime,
    first_run_id: str,
    trace_id: str,
    default_not_after_s: float,
    default_key: str | None = None,
) -> IntentRecord:
    """Record one message: queued as RECEIVED, or closed as REJECTED with the reason.

    `default_key` is the key of a message that carries none, where its sender has named it otherwise (an update's id).
    """
    record = new_record(state, name, payloads, now=now, first_run_id=first_run_id, trace_id=trace_id)
    try:
        if name not in Intent.__members__:
            raise IntentInvalid(f"there is no signal {name[:80]!r}; the signals are {_KNOWN}")
        _fill(record, decode(payloads), default_not_after_s, default_key)
        repeated = _repeated(state, record)
        if repeated is not None:
            repeated.received += 1
            return repeated
        _check_new(state, record)
    except IntentInvalid as error:
        refuse(record, now, str(error)[:MAX_REASON_CHARS])
    _settle_key(state, record)
    keep(state, record)
    return record


def new_record(
    state: SupervisorState, name: str, payloads: list[Payload], *, now: datetime, first_run_id: str, trace_id: str
) -> IntentRecord:
    """The record of a message that has just come; not kept yet (see `keep`)."""
    state.messages += 1
    record = IntentRecord(
        sequence=state.messages,
        intent=printable(name, MAX_NAME_CHARS),
        key=f"{first_run_id}-{state.messages}",
        trace_id=trace_id,
        received_at=now,
        stages=[StageRecord(stage=IntentStage.RECEIVED, at=now)],
    )
    record.by = _claimed(payloads) or record.by
    return record


def reject_unreadable(
    state: SupervisorState, name: str, reason: str, *, now: datetime, first_run_id: str
) -> IntentRecord:
    """Record a message that never reached its handler."""
    state.messages += 1
    record = IntentRecord(
        sequence=state.messages,
        intent=printable(name, MAX_NAME_CHARS),
        key=f"{first_run_id}-{state.messages}",
        received_at=now,
    )
    refuse(record, now, printable(reason, MAX_REASON_CHARS))
    keep(state, record)
    return record


def _claimed(payloads: list[Payload]) -> str | None:
    """Who a message says it comes from, also when the rest of it is refused: a rejection is answered to somebody."""
    try:
        value = _json(payloads[0]) if len(payloads) == 1 else None
        by = value.get("by") if isinstance(value, dict) else None
        return check_by(by) if isinstance(by, str) else None
    except (IntentInvalid, ValueError):
        return None


def _fill(record: IntentRecord, message: IntentMessage, default_not_after_s: float, default_key: str | None) -> None:
    record.by, record.note, record.no_confirm, record.expect = (
        message.by,
        message.note,
        message.no_confirm,
        message.expect,
    )
    record.automated = message.automated
    key = message.idempotency_key or _usable(default_key)
    if key:
        record.key, record.key_given = key, True
    default, latest = timedelta(seconds=default_not_after_s), record.received_at + LATEST_NOT_AFTER
    record.not_after = min(message.not_after, latest) if message.not_after else record.received_at + default


def _usable(key: str | None) -> str | None:
    try:
        return check_key(key) if key else None
    except ValueError:
        return None  # Temporal allows what no key may hold; the message is then told apart as any other


def is_answered(record: IntentRecord) -> bool:
    """Whether a caller who waits has been told what there is to tell soon: a decision is consumed hours later."""
    if record.stage is IntentStage.RECORDED:
        return record.intent != Intent.CANCEL_LOOP
    return record.stage not in OPEN_STAGES


def _owner(state: SupervisorState, record: IntentRecord) -> IntentRecord | None:
    """The earlier record of the key that the sender of `record` has given."""
    return next((known for known in state.intents if record.key_given and known.key == record.key), None)


def _repeated(state: SupervisorState, record: IntentRecord) -> IntentRecord | None:
    """The record that stands for this message already (D12): the same under the same key, unless nothing was done."""
    owner = _owner(state, record)
    if owner is None:
        _check_forgotten(state, record)
        return None
    if owner.stage in NOTHING_DONE:
        return None
    if _payload(owner) != _payload(record):
        raise IntentInvalid(f"its idempotency key was used before, for another {owner.intent} by {owner.by}.")
    return owner


def _check_forgotten(state: SupervisorState, record: IntentRecord) -> None:
    used = state.used_key(record.key, record.received_at) if record.key_given else None
    if used is not None:
        raise IntentInvalid(
            f"its idempotency key was used before, for {used.intent} by {used.by} at {moment(used.at)}, which ended as "
            f"{used.stage.value}. Use another key."
        )


def _check_new(state: SupervisorState, record: IntentRecord) -> None:
    if sum(queued.intent == record.intent for queued in state.queue()) >= MAX_QUEUED:
        raise IntentInvalid(
            f"{MAX_QUEUED} {record.intent} are queued already and nothing could be done about them yet."
        )
    # Here already: in the queue it would go before what a human has sent, and hold that up again and again.
    frozen = automation.refusal(state, record)
    if frozen is not None:
        raise IntentInvalid(frozen)


def _settle_key(state: SupervisorState, record: IntentRecord) -> None:
    """One record per key: a caller who asks by key wants the one that may act, else the first."""
    owner = _owner(state, record)
    if owner is None:
        return
    loser = owner if record.stage is IntentStage.RECEIVED else record
    loser.key = f"{loser.key}#{loser.sequence}"


def _payload(record: IntentRecord) -> tuple[object, ...]:
    return record.intent, record.by, record.note, record.expect, record.automated


def keep(state: SupervisorState, record: IntentRecord) -> None:
    """Remember a record, and forget the oldest of too many."""
    state.intents.append(record)
    state.trim()
