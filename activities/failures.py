"""What can go wrong between the manager and a sprite, and which of it is a failure of the transport (D19).

    PeerTrouble
    ├── TransportFailure        counted; enough of them in a row and the transport is exhausted
    │   ├── NotConnected        the connection was never made: nothing can have been sent
    │   ├── NoAnswer            connected, then silence or a broken connection: something may have been sent
    │   └── InvalidAnswer       an answer that is not the contract's: 429, 502-504 without its error body, a
    │       │                   redirect, what cannot be decoded, an invalid envelope or page
    │       └── AnswerTooLarge  more than the client takes; asking for fewer events may help
    ├── LocalShortage           no free connection on this side: nobody's failure, never counted
    ├── Condition               alive is not failing: the sprite answered and says what is the matter
    │   └── NoCredential        the secret of a reference cannot be read here: nothing was sent, so nobody answered
    └── LogMoved                the log is no longer the one the cursor came from (D8)

Only `TransportFailure` ever leads to the other transport. A `Condition` is told as it is, once, and never retried here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from contract.chain import read_chain
from contract.envelopes import SpriteId
from contract.errors import ErrorBody, ErrorCode, ErrorDetail
from contract.observation import Contact, LogReset

_SPRITE_ID: TypeAdapter[str] = TypeAdapter(SpriteId)
_MAX_CODE_CHARS = 80
MAX_DETAIL_CHARS = 300
"""Longest text of another's making that goes into a message, a heartbeat or history."""

# What services of the base contract say in their 502 (recorded).
_ROOT_MISSING = "required artifact root missing"
_ARTIFACT_MISSING = "required artifact missing"
_CURSOR_EXCEEDS = re.compile(r"cursor offset \(\d+\) exceeds available events \((\d+)\)")


class PeerTrouble(Exception):
    """A request to a sprite did not give what was asked for. `str()` is short and holds no secret."""


class TransportFailure(PeerTrouble):
    """The transport failed. `blip`: trying again within the second may help (tenacity does)."""

    def __init__(self, message: str, *, blip: bool = False) -> None:
        super().__init__(message)
        self.blip = blip


class NotConnected(TransportFailure):
    """The connection was never made; nothing was sent."""


class NoAnswer(TransportFailure):
    """The request went out, at least in part, and no complete answer came back."""


class InvalidAnswer(TransportFailure):
    """Something answered, but not as the contract says."""


class AnswerTooLarge(InvalidAnswer):
    """The answer is larger than the client takes."""


class LocalShortage(PeerTrouble):
    """This side has no free connection. Nothing was sent; nobody failed."""


class Condition(PeerTrouble):
    """The sprite is alive and says what is the matter; a retry of the transport cannot help."""

    def __init__(
        self, contact: Contact, message: str, *, code: str | None = None, sprite_id: str | None = None
    ) -> None:
        super().__init__(clipped(message))
        self.contact = contact
        self.code = code
        self.sprite_id = sprite_id


class NoCredential(Condition):
    """The secret that a reference names cannot be read on this side: told like a refused token, nobody was asked."""

    def __init__(self, message: str) -> None:
        super().__init__(Contact.UNAUTHORIZED, message, code=ErrorCode.UNAUTHORIZED.value)


class LogMoved(PeerTrouble):
    """The cursor does not belong to the log any more; `reset` says what the sprite has instead."""

    def __init__(self, reset: LogReset) -> None:
        super().__init__(reset.detail)
        self.reset = reset


def clipped(text: str, limit: int = MAX_DETAIL_CHARS) -> str:
    """`text` on one line, without control characters, at most `limit` characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


@dataclass(frozen=True)
class Refusal:
    """The contract's error body as it came: the words of a service that is alive."""

    http_status: int
    code: str
    message: str
    fields: dict[str, Any] = field(default_factory=dict)
    sprite_id: str | None = None


def read_refusal(http_status: int, body: object) -> Refusal | None:
    """The contract's error body in an answer, or None when the body is something else."""
    if not isinstance(body, dict) or not isinstance(body.get("error"), dict):
        return None
    try:
        error: ErrorDetail = ErrorBody.model_validate(body).error
    except ValidationError:
        return None
    return Refusal(
        http_status=http_status,
        code=clipped(error.code, _MAX_CODE_CHARS),
        message=clipped(error.message),
        fields=dict(error.model_extra or {}),
        sprite_id=shown_sprite_id(body),
    )


def shown_sprite_id(body: object) -> str | None:
    """The spriteId that an answer shows; None from a service of the base contract.

    One that no envelope could show counts as none: who shows none is trusted least, and what is kept ends in history.
    """
    try:
        return _SPRITE_ID.validate_python(body.get("spriteId"), strict=True) if isinstance(body, dict) else None
    except ValidationError:
        return None


def unauthorized(where: str, http_status: int, refusal: Refusal | None) -> Condition:
    """The condition for 401 and 403, whoever in front of the sprite said it."""
    said = refusal.message if refusal else "no reason given"
    return Condition(
        Contact.UNAUTHORIZED,
        f"{where} answered {http_status}: {said}. Check the token reference, and --edge-auth where an edge guards the "
        "sprite",
        code=ErrorCode.UNAUTHORIZED.value,
        sprite_id=refusal.sprite_id if refusal else None,
    )


def trouble_of(refusal: Refusal, *, cursor_line: int | None = None) -> PeerTrouble:
    """What a refused read means. Understands our exact codes and the 502 texts of the base contract's services.

    `cursor_line` is the cursor that was asked with, None where there was none.
    """
    reset = _reset(refusal, cursor_line) if cursor_line is not None else None
    if reset:
        return LogMoved(reset)
    return _condition(_contact(refusal), refusal)


def _contact(refusal: Refusal) -> Contact:
    match refusal.code:
        case ErrorCode.LOOP_NOT_FOUND:
            return Contact.LOOP_NOT_FOUND
        case ErrorCode.NOT_READY:
            return Contact.NOT_READY
        case ErrorCode.WRONG_SPRITE:
            return Contact.WRONG_SPRITE
        case ErrorCode.NOT_FOUND if "endpoint" not in refusal.message:
            return Contact.LOOP_NOT_FOUND
    if _ROOT_MISSING in refusal.message:
        return Contact.LOOP_NOT_FOUND
    return Contact.NOT_READY if _ARTIFACT_MISSING in refusal.message else Contact.RUNTIME_ERROR


def _condition(contact: Contact, refusal: Refusal) -> Condition:
    return Condition(
        contact,
        f"the sprite answered {refusal.http_status} {refusal.code}: {refusal.message}",
        code=refusal.code,
        sprite_id=refusal.sprite_id,
    )


def _reset(refusal: Refusal, cursor_line: int) -> LogReset | None:
    exceeds = _CURSOR_EXCEEDS.search(refusal.message)
    if refusal.code not in (ErrorCode.CURSOR_AHEAD, ErrorCode.EVENTS_REWRITTEN) and not exceeds:
        return None
    line_count = _field(refusal.fields, "eventLineCount", int)
    return LogReset(
        reason="events_rewritten" if refusal.code == ErrorCode.EVENTS_REWRITTEN else "cursor_ahead",
        at_line=cursor_line,
        line_count=int(exceeds[1]) if exceeds and line_count is None else line_count,
        chain=read_chain(_field(refusal.fields, "chain", str)),
        detail=refusal.message,
    )


def _field(fields: dict[str, Any], name: str, kind: type[Any]) -> Any:
    """An additive member of the error, given directly or inside a `cursor` or `current` object."""
    for place in (fields, fields.get("cursor"), fields.get("current")):
        value = place.get(name) if isinstance(place, dict) else None
        if isinstance(value, kind) and not isinstance(value, bool):
            return value
    return None
