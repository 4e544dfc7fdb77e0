"""`POST /ops/control`: the request a client sends and the answer it gets."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import StrictBool, StrictStr, WithJsonSchema

from contract.envelopes import Wire
from contract.errors import IntentInvalid
from contract.identifiers import check_loop_id
from contract.intents import By, Expect, IdempotencyKey, Intent, Note, Strict, read_strict

REQUEST_EXAMPLE = '{"loopId":"demo","intent":"approve","by":"ana"}'
DEFAULT_REQUESTER = "ops-service"
"""Who is named when a request of the base contract names nobody."""

RECOVERED_FROM = "recoveredFrom"
"""In `result.confirm`: nobody saw the command end; what of its effect was found, for which exit code 0 stands."""

_Intent = Annotated[
    Intent, WithJsonSchema({"type": "string", "enum": [*(one.wire for one in Intent), *(one.value for one in Intent)]})
]


class ControlStatus(StrEnum):
    """`result.status` of a control answer."""

    CONFIRMED = "confirmed"
    EXECUTED_UNCONFIRMED = "executed_unconfirmed"
    AMBIGUOUS = "ambiguous"
    FAILED_COMMAND = "failed_command"


class ControlRequest(Strict):
    """The body of `POST /ops/control`; `intent` is a wire value or a manager's name."""

    loop_id: StrictStr
    intent: _Intent
    by: By = DEFAULT_REQUESTER
    note: Note | None = None
    idempotency_key: IdempotencyKey | None = None
    trace_id: StrictStr | None = None
    no_confirm: StrictBool = False
    expect: Expect | None = None

    @classmethod
    def read(cls, body: object) -> ControlRequest:
        """Validate a parsed body; raises IntentInvalid or IdentifierInvalid with the contract's messages.

        Order as recorded from peers: body an object, then loopId, then intent, then the rest.
        """
        if body is None:
            body = {}
        if not isinstance(body, dict):
            raise IntentInvalid("request body must be an object")
        loop_id = check_loop_id(body.get("loopId"))
        intent = Intent.parse(body.get("intent"))
        # Peers send explicit nulls for what they leave out; but noConfirm must be a boolean (contract.md).
        given = {key: value for key, value in body.items() if value is not None or key == "noConfirm"}
        return read_strict(cls, {**given, "loopId": loop_id, "intent": intent}, example=REQUEST_EXAMPLE)


class ControlResult(Wire):
    """`result` of a control answer: at least what the contract names, plus what ours adds."""

    timestamp: str
    loop_id: str
    intent: str
    requested_by: str
    status: ControlStatus
    confirmed: bool
    exit_code: int
    trace_id: str | None = None
    note: str | None = None
    transport: str | None = None
    command: str | None = None
    argv: list[str] | None = None
    idempotency_key: str | None = None
    command_output: str | None = None
    confirm_exit_code: int | None = None
    confirm: dict[str, Any] | None = None


class ControlAnswer(Wire):
    """Body of a control answer that carries a result: 200 done, 409 ambiguous, 500 command failed."""

    ok: bool
    exit_code: int
    result: ControlResult | None = None
    stderr: str | None = None
    replayed: bool = False
    trace_id: str | None = None
    sprite_id: str | None = None


class CommandAnswer(ControlAnswer):
    """A control answer of this project's sprite, which always tells of a command."""

    result: ControlResult


def http_status(status: ControlStatus) -> int:
    """The HTTP status that goes with a result (contract.md): a replay keeps the status of the first answer."""
    if status is ControlStatus.FAILED_COMMAND:
        return 500
    return 409 if status is ControlStatus.AMBIGUOUS else 200
