"""Open conditions: each reason for attention opens once, is told once, and is told once more when it is over (D10).

`settle` runs after every change of the state, and before anything is shown, so that what is listed as attention is
what was told. A condition is known by its kind and subject: the next request for approval is another condition, also
when nobody looked in between.

Its id is made of the supervisor's first run id, the kind, how many of that kind there have been, and the subject. So
after a reset, which lives through the same time again, what was told before is told under the same id.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from contract.identifiers import workflow_id
from contract.notices import Notice, NoticeType, PendingNotice
from contract.observation import Transport, TransportMode
from contract.status import Attention, OpenCondition
from workflows.attention import Reason, is_open_question, reasons
from workflows.report import transport_word
from workflows.state import SupervisorState
from workflows.wording import printable

MAX_OUTBOX = 200
"""Notices that may wait: with the longest of sentences a quarter of what a workflow may carry over."""
MAX_SENTENCE_CHARS = 1_500
RELEASED = "Supervision of this loop was released; nobody looks after it any more."

_Name = tuple[Attention, str]


def settle(state: SupervisorState, now: datetime, first_run_id: str) -> None:
    """Close what no longer holds, open what holds now, and put a notice of each into the outbox if there is one."""
    found = {(reason.kind, reason.subject): reason for reason in reasons(state)}
    known = {_name(condition): condition for condition in state.conditions}
    for name, condition in known.items():
        if name not in found:
            _tell(state, condition, now, closed_as=_ending(state, condition))
    fresh = []
    for name, reason in found.items():
        condition = known.get(name) or _opened(state, reason, now, first_run_id)
        _retell(condition, reason)
        if name not in known:
            _tell(state, condition, now)
        fresh.append(condition)
    state.conditions = fresh


def release(state: SupervisorState, now: datetime) -> None:
    """Close everything: from here on nobody would notice its end."""
    for condition in state.conditions:
        _tell(state, condition, now, closed_as=RELEASED)
    state.conditions = []


def _name(condition: OpenCondition) -> _Name:
    return condition.kind, condition.subject


def _opened(state: SupervisorState, reason: Reason, now: datetime, first_run_id: str) -> OpenCondition:
    number = state.opened.get(reason.kind.value, 0) + 1
    state.opened[reason.kind.value] = number
    about = hashlib.sha256(reason.subject.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return OpenCondition(
        id=f"{first_run_id}-{reason.kind.value}-{number}-{about}",
        kind=reason.kind,
        subject=reason.subject,
        since=reason.since,
        opened_at=now,
        sentence="",
    )


def _retell(condition: OpenCondition, reason: Reason) -> None:
    """The same condition, as it is told now: a count or an age in the sentence may have changed."""
    condition.sentence = printable(reason.sentence, MAX_SENTENCE_CHARS)
    condition.since, condition.next_command = reason.since, reason.next_command
    condition.run_id, condition.iteration = reason.run_id, reason.iteration


def _tell(state: SupervisorState, condition: OpenCondition, now: datetime, closed_as: str | None = None) -> None:
    if state.notices is None:
        return
    target = state.target
    opened = closed_as is None
    notice = Notice(
        type=NoticeType.OPENED if opened else NoticeType.CLOSED,
        id=condition.id,
        sprite=target.sprite,
        loop_id=target.loop_id,
        workflow_id=workflow_id(target.sprite, target.loop_id),
        kind=condition.kind,
        subject=condition.subject,
        since=condition.since,
        opened_at=condition.opened_at,
        closed_at=None if opened else now,
        run_id=condition.run_id,
        iteration=condition.iteration,
        sentence=condition.sentence if closed_as is None else printable(closed_as, MAX_SENTENCE_CHARS),
        next_command=condition.next_command if opened else None,
        transport=transport_word(state),
    )
    suffix = "opened" if opened else "closed"
    state.outbox.append(PendingNotice(message_id=f"{condition.id}-{suffix}", notice=notice))
    if len(state.outbox) > MAX_OUTBOX:
        _collapse(state)


def _collapse(state: SupervisorState) -> None:
    """Drop the oldest condition of which nobody has heard anything and which is over; nothing that is still open."""
    # The first may be on its way already.
    waiting = state.outbox[1:]
    closings = {message.notice.id for message in waiting if message.notice.type is NoticeType.CLOSED}
    for message in waiting:
        pair = message.notice.id
        if message.notice.type is NoticeType.OPENED and pair in closings:
            state.outbox = state.outbox[:1] + [other for other in waiting if other.notice.id != pair]
            if state.notices is not None:
                state.notices.collapsed += 2
            return


def _ending(state: SupervisorState, condition: OpenCondition) -> str:
    match condition.kind:
        case Attention.AMBIGUOUS:
            return _answered(state, condition)
        case Attention.DIVERGED:
            return _resolved(state, condition)
        case Attention.BLIND:
            return f"The {state.transport.active.value.replace('_', ' ')} transport answers again."
        case Attention.SERVICE_DOWN:
            return _service_now(state)
        case Attention.WRONG_SPRITE | Attention.UNAUTHORIZED | Attention.SPRITE_ERROR | Attention.LOOP_MISSING:
            now = state.condition
            return f"The sprite says something else now: {now.detail}" if now else "The sprite shows the loop again."
        case Attention.APPROVAL_WAITING if _decision(state, condition):
            return f"{_decision(state, condition)} {_stands(state)}"
    return _stands(state)


_ACCEPTED = {
    "sprite_service": "the log of the sprite service was accepted, and is read whole",
    "local": "what was ingested stands, and local is used until they agree",
    "current": "what is believed now stands",
}


def _resolved(state: SupervisorState, condition: OpenCondition) -> str:
    closed = next((one for one in state.resolved_divergences if f"{one.id} {one.type}" == condition.subject), None)
    if closed is None or closed.resolved_by is None:
        return f"The signals contradict each other no longer: {condition.subject} is over."
    accepted = _ACCEPTED.get(closed.resolution or "", closed.resolution)
    note = f" ({closed.note})" if closed.note else ""
    return f"{closed.resolved_by} resolved {condition.subject}: {accepted}{note}."


def _service_now(state: SupervisorState) -> str:
    known = state.transport
    if known.service_down is not None:
        return "Neither the service nor the local transport answers now."
    if known.mode is TransportMode.LOCAL and not known.until_agreed:
        return f"{known.pinned_by} pinned the loop to the local transport: the service is not asked any more."
    if known.active is Transport.LOCAL:
        return f"The sprite service answers again, but is not used: {known.reason}."
    return "The sprite service answers again."


def _answered(state: SupervisorState, condition: OpenCondition) -> str:
    record = next((known for known in state.intents if f"intent {known.key}" == condition.subject), None)
    if record is not None and not is_open_question(state, record) and record.sentence != condition.sentence:
        return record.sentence
    return f"What became of it does not matter any more. {_stands(state)}"


def _decision(state: SupervisorState, condition: OpenCondition) -> str:
    projection = state.projection
    waiting = projection.waiting_run
    if projection.decision is None or waiting is None or waiting.run_id != condition.run_id:
        return ""
    return f"{projection.decision.by} {projection.decision.status} it."


def _stands(state: SupervisorState) -> str:
    projection = state.projection
    run = f", run {projection.run.run_id} iteration {projection.run.iteration}" if projection.run else ""
    return f"The loop is {projection.lifecycle.value.replace('_', ' ')} now ({projection.reason}{run})."
