"""`execute_control` and `look_up_control` on the machine that has the sprite: the sprite's own control, in-process.

There is no connection that could fail, so nothing is ever "not sent"; an unexpected error after the start of the
command leaves it unknown and says so.
"""

from __future__ import annotations

import asyncio

from pydantic import ValidationError

from activities.control import control_request, refused_outcome
from activities.control_answers import Command, classify_answer, classify_refusal
from activities.failures import Refusal
from activities.heartbeats import now
from contract.errors import HTTP_STATUS, ErrorCode, IdentifierInvalid
from contract.observation import (
    ControlInput,
    ControlOutcome,
    ControlOutcomeKind,
    LookUpInput,
    LookUpKind,
    LookUpResult,
    Transport,
)
from sprite.control import SpriteController
from sprite.control.errors import InFlight
from sprite.errors import SpriteError


async def execute_locally(controller: SpriteController, asked: ControlInput, sprite_id: str) -> ControlOutcome:
    """Execute one intent, and say what is known about it."""
    command = Command(asked.target.loop_id, asked.intent, Transport.LOCAL, now())
    try:
        request = control_request(asked, sprite_id)
    except ValidationError as error:
        return refused_outcome(command, error)
    try:
        answer = await controller.execute(request)
    except SpriteError as error:
        return classify_refusal(command, _refusal(error)).model_copy(update={"answered_at": now()})
    except Exception as error:  # noqa: BLE001 - whatever broke, the command may have run: that must be told
        message = f"the sprite's control broke: {type(error).__name__}: {error}"
        return command.outcome(ControlOutcomeKind.MAYBE_SENT, message)
    return classify_answer(command, answer).model_copy(update={"answered_at": now()})


async def look_up_locally(controller: SpriteController, asked: LookUpInput) -> LookUpResult:
    """What the sprite's own record knows about a key."""
    try:
        answer = await asyncio.to_thread(controller.lookup, asked.target.loop_id, asked.key)
    except InFlight as error:
        return LookUpResult(kind=LookUpKind.IN_FLIGHT, message=error.message)
    except (SpriteError, IdentifierInvalid, OSError) as error:
        return LookUpResult(kind=LookUpKind.UNREACHABLE, message=f"{type(error).__name__}: {error}")
    if answer is None:
        message = (
            "nothing stands under this key in this sprite: it was never used for this loop, or what was begun under it "
            "had no effect or can be finished"
        )
        return LookUpResult(kind=LookUpKind.UNKNOWN_KEY, message=message)
    command = Command(asked.target.loop_id, None, Transport.LOCAL, now())
    return LookUpResult(kind=LookUpKind.KNOWN, outcome=classify_answer(command, answer))


def _refusal(error: SpriteError) -> Refusal:
    status = HTTP_STATUS.get(error.code, HTTP_STATUS[ErrorCode.RUNTIME_ERROR])
    return Refusal(status, error.code.value, error.message, dict(error.fields))
