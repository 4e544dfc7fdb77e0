"""`execute_control` and `look_up_control` through the sprite's service.

A command is sent once. Before it a snapshot is read: it shows whose sprite answers, so that nothing is ever sent to
another one, and whether its service is this project's. Ours then checks `expect` itself, together with its spriteId;
a service of the base contract is checked from here. Neither function raises for what it can describe.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from activities.client import SpriteServiceClient
from activities.control_answers import Command, classify
from activities.control_guard import Refused, check_foreign
from activities.failures import (
    Condition,
    LocalShortage,
    NotConnected,
    PeerTrouble,
    Refusal,
    TransportFailure,
)
from activities.heartbeats import now
from activities.targets import check_identity
from contract.chain import event_name
from contract.control import ControlRequest
from contract.envelopes import EventsPage, SnapshotEnvelope
from contract.errors import ErrorCode
from contract.intents import Expect, Intent
from contract.observation import (
    Contact,
    ControlInput,
    ControlOutcome,
    ControlOutcomeKind,
    CursorPosition,
    LookUpInput,
    LookUpKind,
    LookUpResult,
    Transport,
)

LOOK_FIRST_LIMIT_S = 10.0
LOOK_UP_LIMIT_S = 15.0
SETTLE_DELAY_S = 0.5
"""Once, when the snapshot before a command fails on a half-written file (D16)."""
_TAIL_LINES = 4
"""Of the log of a service of the base contract, which needs 225 ms for each: enough to see the loop_start before the
events of a run that only consumes an approval, which carry the id of the run that asked for it."""

_NO_SUCH = (400, 404, 405, 501)

_REFUSED_CODES = {
    Contact.LOOP_NOT_FOUND: ErrorCode.LOOP_NOT_FOUND,
    Contact.NOT_READY: ErrorCode.NOT_READY,
    Contact.RUNTIME_ERROR: ErrorCode.RUNTIME_ERROR,
    Contact.UNAUTHORIZED: ErrorCode.UNAUTHORIZED,
    Contact.WRONG_SPRITE: ErrorCode.WRONG_SPRITE,
}


@dataclass(frozen=True)
class Peer:
    """Who answers: `sprite_id` is None for a service of the base contract. `envelope` is None where ours has none."""

    sprite_id: str | None
    envelope: SnapshotEnvelope | None


async def execute_through_service(client: SpriteServiceClient, asked: ControlInput) -> ControlOutcome:
    """Send one intent, at most once, and say what is known about it."""
    command = Command(asked.target.loop_id, asked.intent, Transport.SPRITE_SERVICE, now())
    try:
        async with asyncio.timeout(LOOK_FIRST_LIMIT_S):
            peer = await _look_first(client, asked)
        body = _body(asked, peer)
    except TimeoutError:
        return command.outcome(ControlOutcomeKind.NOT_SENT, "the sprite service did not answer the look before it")
    except (Condition, Refused, ValidationError) as refused:
        return refused_outcome(command, refused)
    except PeerTrouble as trouble:
        return command.outcome(ControlOutcomeKind.NOT_SENT, str(trouble))
    return await _send(client, asked, body, command)


async def _look_first(client: SpriteServiceClient, asked: ControlInput) -> Peer:
    """Who answers, and for a foreign peer whether the intent may be sent. Raises PeerTrouble and Refused."""
    try:
        peer = await _peer(client, asked)
    except Condition as condition:
        if condition.sprite_id is not None or condition.contact not in (Contact.RUNTIME_ERROR, Contact.NOT_READY):
            raise
        await asyncio.sleep(SETTLE_DELAY_S)
        peer = await _peer(client, asked)
    if peer.sprite_id is None and peer.envelope is not None:
        check_foreign(asked.intent, asked.expect, peer.envelope, await _last_started(client, asked, peer.envelope))
    return peer


async def _peer(client: SpriteServiceClient, asked: ControlInput) -> Peer:
    try:
        envelope = (await client.snapshot(asked.target, trace_id=asked.trace_id, patient=False)).envelope
    except Condition as condition:
        # Our own service checks a command exactly also where it has no snapshot; anybody else's does not.
        if condition.sprite_id is None or condition.contact in (Contact.UNAUTHORIZED, Contact.WRONG_SPRITE):
            raise
        return Peer(condition.sprite_id, None)
    check_identity(asked.target, envelope.sprite_id, envelope.source.repo_path)
    return Peer(envelope.sprite_id, envelope)


async def _last_started(client: SpriteServiceClient, asked: ControlInput, envelope: SnapshotEnvelope) -> str | None:
    """The run that was started last: by the newest lines, of which each names the run that wrote it.

    The loop_start itself may lie a thousand lines back, minutes at such a service's pace, in which the answer would
    grow old. A look that is short leaves the least time for a run to begin between it and the command.
    """
    if asked.intent is not Intent.CANCEL_LOOP or asked.expect is None or asked.expect.run_id is None:
        return None
    end = envelope.cursor.event_line_count
    while end > 0:
        start = max(0, end - _TAIL_LINES)
        # As many again may have been written since the snapshot.
        cursor = CursorPosition(line=start)
        page = await client.events(asked.target, cursor, max_events=2 * _TAIL_LINES, trace_id=asked.trace_id)
        run_id = _newest_run(page)
        if run_id is not None:
            return run_id
        end = start
    return None


def _newest_run(page: EventsPage) -> str | None:
    raws = [event.event.raw for event in page.events]
    started = [raw for raw in raws if event_name(raw) == "loop_start"]
    run_ids = [raw.get("run_id") for raw in started or raws]
    return next((run_id for run_id in reversed(run_ids) if isinstance(run_id, str)), None)


def _body(asked: ControlInput, peer: Peer) -> dict[str, Any]:
    request = control_request(asked, peer.sprite_id)
    body = request.model_dump(mode="json", by_alias=True, exclude_none=True)
    body["intent"] = asked.intent.wire
    if peer.sprite_id is None:
        body.pop("expect", None)
    return body


async def _send(
    client: SpriteServiceClient, asked: ControlInput, body: dict[str, Any], command: Command
) -> ControlOutcome:
    try:
        answer = await client.control(asked.target, body, key=asked.key, trace_id=asked.trace_id)
    except (NotConnected, LocalShortage) as trouble:
        return command.outcome(ControlOutcomeKind.NOT_SENT, str(trouble))
    except TransportFailure as trouble:
        return command.outcome(ControlOutcomeKind.MAYBE_SENT, str(trouble))
    except Condition as condition:
        return refused_outcome(command, condition)
    return classify(command, answer, now())


def control_request(asked: ControlInput, sprite_id: str | None) -> ControlRequest:
    """The request for the sprite: confirmed by observation, never by it, and bound to its spriteId where it has one.

    The same through both transports, because the sprite compares repetitions of a key with the first request.
    """
    expect = asked.expect
    if sprite_id is not None:
        bound = (asked.expect or Expect()).sprite_id or asked.target.sprite_id or sprite_id
        expect = (asked.expect or Expect()).model_copy(update={"sprite_id": bound})
    return ControlRequest(
        loop_id=asked.target.loop_id,
        intent=asked.intent,
        by=asked.by,
        note=asked.note,
        idempotency_key=asked.key,
        trace_id=asked.trace_id,
        no_confirm=True,
        expect=expect,
    )


def refused_outcome(command: Command, why: Condition | Refused | ValidationError) -> ControlOutcome:
    """The outcome for what was refused on this side: nothing was sent."""
    if isinstance(why, Refused):
        return command.outcome(ControlOutcomeKind.REFUSED, str(why), code=why.code.value, current=why.current)
    if isinstance(why, Condition):
        code = why.code or _REFUSED_CODES[why.contact].value
        return command.outcome(ControlOutcomeKind.REFUSED, f"no effect: {why}", code=code)
    first = why.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return command.outcome(
        ControlOutcomeKind.REFUSED, f"no effect: {where} {first['msg']}", code=ErrorCode.INVALID_REQUEST.value
    )


async def look_up_through_service(client: SpriteServiceClient, asked: LookUpInput) -> LookUpResult:
    """What the sprite's service knows about a key."""
    try:
        async with asyncio.timeout(LOOK_UP_LIMIT_S):
            return await _look_up(client, asked)
    except TimeoutError:
        return LookUpResult(kind=LookUpKind.UNREACHABLE, message="the sprite service did not answer in time")
    except PeerTrouble as trouble:
        return LookUpResult(kind=LookUpKind.UNREACHABLE, message=str(trouble))


async def _look_up(client: SpriteServiceClient, asked: LookUpInput) -> LookUpResult:
    answer = await client.stored_control(asked.target, asked.key)
    check_identity(asked.target, answer.sprite_id, None)
    if answer.refusal is not None:
        return _not_known(answer.refusal, asked.key)
    command = Command(asked.target.loop_id, None, Transport.SPRITE_SERVICE, now())
    outcome = classify(command, answer, now())
    if outcome.kind is ControlOutcomeKind.MAYBE_SENT:
        return LookUpResult(kind=LookUpKind.UNREACHABLE, message=outcome.message)
    return LookUpResult(kind=LookUpKind.KNOWN, outcome=outcome)


def _not_known(refusal: Refusal, key: str) -> LookUpResult:
    message = f"{refusal.http_status} {refusal.code}: {refusal.message}"
    if refusal.code == ErrorCode.IN_FLIGHT:
        return LookUpResult(kind=LookUpKind.IN_FLIGHT, message=message)
    if refusal.http_status not in _NO_SUCH:
        return LookUpResult(kind=LookUpKind.UNREACHABLE, message=message)
    # Only a service that has such records names the key it does not have; "endpoint not found" proves nothing.
    if refusal.sprite_id is not None and refusal.code == ErrorCode.NOT_FOUND and refusal.fields.get("key") == key:
        return LookUpResult(kind=LookUpKind.UNKNOWN_KEY, message=message)
    return LookUpResult(kind=LookUpKind.NOT_OFFERED, message=f"this service keeps no record to be asked ({message})")
