"""Control intents: the three names, their wire values, and the message an operator sends."""

from __future__ import annotations

import difflib
import functools
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError
from pydantic.alias_generators import to_camel

from contract.errors import IntentInvalid

MAX_NOTE_CHARS = 4_000
MAX_BY_CHARS = 128
MAX_KEY_CHARS = 200
MAX_EXPECTED_CHARS = 200
EXAMPLE = '{"by":"ana"}'

# Unicode's categories Cc and Cs but for white space. Not `isprintable`: people paste no-break spaces and joined emoji,
# which are harmless. One search, because thousands of messages may have to be read within one workflow task.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Intent(StrEnum):
    """The manager's names of the control intents; each is also the name of a signal."""

    CANCEL_LOOP = "CANCEL_LOOP"
    APPROVE_PENDING = "APPROVE_PENDING"
    REJECT_PENDING = "REJECT_PENDING"

    @property
    def wire(self) -> str:
        """The lower-case value on the wire: `cancel`, `approve`, `reject`."""
        return _WIRE[self]

    @classmethod
    def parse(cls, text: object) -> Intent:
        """The intent for a manager's name or a wire value; raises IntentInvalid for anything else."""
        for intent in cls:
            if text in (intent.value, intent.wire):
                return intent
        raise IntentInvalid("intent must be cancel, approve, or reject")


_WIRE = {Intent.CANCEL_LOOP: "cancel", Intent.APPROVE_PENDING: "approve", Intent.REJECT_PENDING: "reject"}


PLACEHOLDER = "YOUR-NAME"
"""Stands for `by` in commands that are shown to be pasted; nobody is called so."""


def check_by(by: str) -> str:
    """Return who asks, without surrounding spaces; raises ValueError when blank, too long or unprintable."""
    by = by.strip()
    if not by:
        raise ValueError("must name who asks")
    if len(by) > MAX_BY_CHARS:
        raise ValueError(f"must be at most {MAX_BY_CHARS} characters")
    if not by.isprintable():
        raise ValueError("must not contain control characters")
    if by == PLACEHOLDER:
        raise ValueError(f"is still {PLACEHOLDER}: put in your own")
    return by


def check_note(note: str) -> str:
    """Return the note; raises ValueError when it is too long for an argument list or holds control characters."""
    if len(note) > MAX_NOTE_CHARS:
        raise ValueError(f"has {len(note)} characters, at most {MAX_NOTE_CHARS} are taken")
    if _CONTROL.search(note):
        raise ValueError("must not contain control characters")
    return note


def check_key(key: str) -> str:
    """Return the idempotency key; raises ValueError unless it is 1 to 200 printable ASCII characters."""
    if not key or len(key) > MAX_KEY_CHARS or not (key.isascii() and key.isprintable()) or key != key.strip():
        raise ValueError(f"must be 1 to {MAX_KEY_CHARS} printable ASCII characters")
    return key


def check_expected(value: str) -> str:
    """Return a text to compare with; raises ValueError when it is too long or unprintable to be a real value."""
    if len(value) > MAX_EXPECTED_CHARS or not value.isprintable():
        raise ValueError(f"must be at most {MAX_EXPECTED_CHARS} printable characters")
    return value


def _checked(check: Any) -> BeforeValidator:
    return BeforeValidator(lambda value: check(value) if isinstance(value, str) else value)


By = Annotated[StrictStr, _checked(check_by)]
Note = Annotated[StrictStr, _checked(check_note)]
IdempotencyKey = Annotated[StrictStr, _checked(check_key)]
_Expected = Annotated[StrictStr, _checked(check_expected)]


def _parse_moment(value: Any) -> Any:
    if not isinstance(value, datetime | str):
        raise ValueError("must be a time such as 2026-11-22T03:12:07Z")
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        # OverflowError: at either end of the calendar the instant has no UTC date.
        raise ValueError("must be a time such as 2026-11-22T03:12:07Z") from None
    raise ValueError("must carry its time zone, such as 2026-11-22T03:12:07Z")


Moment = Annotated[datetime, BeforeValidator(_parse_moment)]


class Strict(BaseModel):
    """Base of what a person or a peer asks for: camelCase, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


def _null_is_no_value(schema: dict[str, Any]) -> None:
    """Describe what may be sent: a field is left out, never null (see `read_strict`)."""
    for name, field in schema["properties"].items():
        (kind,) = (kind for kind in field["anyOf"] if kind != {"type": "null"})
        schema["properties"][name] = {**kind, "title": field["title"]}


class Expect(Strict):
    """Preconditions of an intent: compare-and-swap in the sprite; a mismatch is 412 without effect.

    `runId` is the run_id of the last `loop_start` for a cancel, of approval.json for approve and reject.
    `approvalSha256` is a prefix of 8 or more hex digits of the SHA-256 of approval.json's bytes.
    """

    model_config = ConfigDict(json_schema_extra=_null_is_no_value)

    sprite_id: _Expected | None = None
    run_id: _Expected | None = None
    iteration: StrictInt | None = None
    approval_sha256: Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{8,64}$")] | None = Field(
        default=None, alias="approvalSha256"
    )


class IntentMessage(Strict):
    """What a signal carries: `{by, note?, idempotencyKey?, noConfirm?, expect?, notAfter?, automated?}`.

    `noConfirm`: do not wait for confirming evidence. `notAfter`: not started by then means expired, nothing done.
    `automated`: a program decided this, no human; refused while the manager's picture of the loop is in doubt.
    """

    by: By
    note: Note | None = None
    idempotency_key: IdempotencyKey | None = None
    no_confirm: StrictBool = False
    expect: Expect | None = None
    not_after: Moment | None = None
    automated: StrictBool = False

    @classmethod
    def read(cls, value: object) -> IntentMessage:
        """Validate the decoded JSON of a message; raises IntentInvalid naming what is wrong and an example."""
        return read_message(cls, value, example=EXAMPLE)


def _json_type(value: object) -> str:
    names: dict[type, str] = {str: "a string", int: "a number", float: "a number", bool: "a boolean", list: "an array"}
    return names.get(type(value), type(value).__name__)


_S = TypeVar("_S", bound=Strict)


def read_message(model: type[_S], value: object, *, example: str) -> _S:
    """Validate the decoded JSON of a message as `model`; raises IntentInvalid naming what is wrong and an example."""
    if value is None or value == {}:
        raise IntentInvalid(f"the message must say who asks: send one JSON object such as {example}")
    if not isinstance(value, dict):
        raise IntentInvalid(f"the message must be one JSON object such as {example}, not {_json_type(value)}")
    return read_strict(model, value, example=example)


def read_strict(model: type[_S], value: dict[Any, Any], *, example: str) -> _S:
    """Validate `value` as `model`; raises IntentInvalid with one clear reason, a did-you-mean and an example."""
    try:
        read = model.model_validate(value)
        reasons = _nulls(value.get("expect"))
    except ValidationError as error:
        reasons = [_reason(model, detail) for detail in error.errors(include_url=False, include_input=False)[:3]]
    if reasons:
        raise IntentInvalid(f"{'; '.join(reasons)} (example: {example})")
    return read


def _nulls(expect: object) -> list[str]:
    """Why an `expect` is refused that says null: it looks guarded, and would guard nothing.

    Asked of what was sent, not a rule of the model: between our own processes a null is how nothing is written.
    """
    fields = expect.items() if isinstance(expect, dict) else ()
    return [
        f"expect.{name} must not be null: leave out what is not expected" for name, value in fields if value is None
    ]


def _reason(model: type[Strict], detail: Any) -> str:
    location = [str(part)[:60] for part in detail["loc"]]
    where = ".".join(location)
    if detail["type"] == "extra_forbidden":
        return _unknown_field(_model_at(model, location[:-1]), where, location[-1])
    if detail["type"] == "missing":
        return f"{where} is required"
    return f"{where or 'a field name'} {_plain(detail['msg'])}"


def _plain(message: str) -> str:
    if message.startswith("Input should be a valid dictionary"):
        return "should be a JSON object"
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:]


def _model_at(model: type[Strict], location: list[str]) -> type[Strict]:
    return Expect if location[-1:] == ["expect"] else model


@functools.lru_cache(maxsize=1_000)  # a script that sends a typo sends it again and again
def _unknown_field(model: type[Strict], where: str, name: str) -> str:
    known = [field.alias or field_name for field_name, field in model.model_fields.items()]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known fields are {', '.join(known)}"
    return f"unknown field {where!r}: {hint}"
