"""What an answer to a command means. Pure; every recorded exchange is a row of its test.

The one rule behind all of them: `NOT_SENT` and `REFUSED` only where nothing can have happened, `EXECUTED` and
`FAILED_COMMAND` only where the runtime's command is known to have ended, and in between the truth: it may have
happened (`MAYBE_SENT`: nobody answered; `AMBIGUOUS`: the sprite answered and does not know either).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from activities.exchange import Answer
from activities.failures import Refusal, clipped
from contract.control import RECOVERED_FROM, ControlAnswer, ControlResult, ControlStatus
from contract.errors import ErrorCode
from contract.intents import Intent
from contract.observation import ControlOutcome, ControlOutcomeKind, Transport

MAX_OUTPUT_CHARS = 2_000
MAX_ARGUMENTS = 64
NO_EFFECT = "no effect"
"""How this project's sprite begins every refusal before any effect."""

_KNOWN_TO_BE_MISSING = ("required artifact root missing", "required artifact missing")
_TRANSIENT = frozenset({408, 429, 503})


@dataclass(frozen=True)
class Command:
    """What was asked, so that an answer can be checked to be about it. `intent` is None where only a key is known."""

    loop_id: str
    intent: Intent | None
    transport: Transport
    sent_at: datetime

    def outcome(self, kind: ControlOutcomeKind, message: str = "", **fields: Any) -> ControlOutcome:
        """An outcome of this command."""
        return ControlOutcome(
            kind=kind, transport=self.transport, sent_at=self.sent_at, message=clipped(message, 600), **fields
        )


def classify(command: Command, answer: Answer, answered_at: datetime) -> ControlOutcome:
    """The outcome for a complete HTTP answer to `POST /ops/control` or `GET /ops/control/{key}`."""
    given = _control_answer(answer.body)
    if given is not None:
        outcome = classify_answer(command, given)
    elif answer.refusal is not None:
        outcome = classify_refusal(command, answer.refusal)
    else:
        outcome = _without_contract(command, answer)
    return outcome.model_copy(update={"http_status": answer.http_status, "answered_at": answered_at})


def classify_answer(command: Command, given: ControlAnswer) -> ControlOutcome:
    """The outcome for an answer that tells of a command, whichever transport brought it."""
    result = given.result
    if result is None:
        return _without_result(command, given)
    if not _is_about(command, result):
        return _about_another(command, given, result)
    details: dict[str, Any] = {
        "exit_code": result.exit_code,
        "argv": [clipped(argument, MAX_OUTPUT_CHARS) for argument in (result.argv or [])[:MAX_ARGUMENTS]],
        "output": _clip_output(result.command_output or given.stderr or ""),
        "replayed": given.replayed,
        "recovered": RECOVERED_FROM in (result.confirm or {}),
    }
    if result.status is ControlStatus.FAILED_COMMAND or (result.exit_code > 0 and not given.ok):
        return command.outcome(
            ControlOutcomeKind.FAILED_COMMAND, f"the command ended with exit code {result.exit_code}", **details
        )
    if result.exit_code == 0:
        unconfirmed = result.status is ControlStatus.AMBIGUOUS
        ended = "nobody saw the command end" if details["recovered"] else "the command exited 0"
        message = f"{ended}; the sprite could not confirm its effect" if unconfirmed else ""
        return command.outcome(ControlOutcomeKind.EXECUTED, message, **details)
    return command.outcome(
        ControlOutcomeKind.AMBIGUOUS, "the sprite itself does not know how the command ended", **details
    )


def classify_refusal(command: Command, refusal: Refusal) -> ControlOutcome:
    """The outcome for the contract's error body: refused before any effect, unless that is not certain."""
    current = refusal.fields.get("current")
    details: dict[str, Any] = {"code": refusal.code, "current": current if isinstance(current, dict) else {}}
    message = f"{refusal.http_status} {refusal.code}: {refusal.message}"
    return command.outcome(_refusal_kind(refusal), message, **details)


def _refusal_kind(refusal: Refusal) -> ControlOutcomeKind:
    status = refusal.http_status
    if refusal.code == ErrorCode.IN_FLIGHT:
        return ControlOutcomeKind.IN_FLIGHT
    if status in _TRANSIENT:
        return ControlOutcomeKind.NOT_SENT
    if refusal.message.startswith(NO_EFFECT):
        return ControlOutcomeKind.REFUSED
    if any(text in refusal.message for text in _KNOWN_TO_BE_MISSING):
        return ControlOutcomeKind.REFUSED
    if 400 <= status < 500 and status != 409:
        return ControlOutcomeKind.REFUSED
    # Another 409 is "done but not confirmed" in the base contract, and a 5xx may come from the middle of the work.
    return ControlOutcomeKind.AMBIGUOUS


def _without_contract(command: Command, answer: Answer) -> ControlOutcome:
    status = answer.http_status
    said = f"answered {status} without a body of the contract"
    if status == 429:
        return command.outcome(ControlOutcomeKind.NOT_SENT, said, code="too_many_requests")
    if status in (401, 403):
        return command.outcome(ControlOutcomeKind.REFUSED, said, code=ErrorCode.UNAUTHORIZED.value)
    if 400 <= status < 500 and status not in (408, 409):
        return command.outcome(ControlOutcomeKind.REFUSED, said, code=f"http_{status}")
    return command.outcome(ControlOutcomeKind.MAYBE_SENT, said)


def _without_result(command: Command, given: ControlAnswer) -> ControlOutcome:
    details: dict[str, Any] = {
        "exit_code": given.exit_code,
        "output": _clip_output(given.stderr or ""),
        "replayed": given.replayed,
    }
    if given.ok and given.exit_code == 0:
        return command.outcome(ControlOutcomeKind.EXECUTED, **details)
    if given.exit_code > 0:
        return command.outcome(
            ControlOutcomeKind.FAILED_COMMAND, f"the command ended with exit code {given.exit_code}", **details
        )
    return command.outcome(ControlOutcomeKind.AMBIGUOUS, "the sprite does not say how the command ended", **details)


def _about_another(command: Command, given: ControlAnswer, result: ControlResult) -> ControlOutcome:
    told = f"the answer tells of {clipped(result.intent, 20)!r} for loop {clipped(result.loop_id, 80)!r}"
    if given.replayed:
        # A peer that does not compare payloads hands back what it did first under this key, and does nothing (D12).
        return command.outcome(
            ControlOutcomeKind.REFUSED,
            f"no effect: the idempotency key was used before, {told}; use another key",
            code=ErrorCode.KEY_REUSED.value,
            replayed=True,
        )
    return command.outcome(ControlOutcomeKind.AMBIGUOUS, f"{told}, which is not what was asked")


def _control_answer(body: object) -> ControlAnswer | None:
    if not isinstance(body, dict) or "exitCode" not in body:
        return None
    try:
        return ControlAnswer.model_validate(body)
    except ValidationError:
        return None


def _is_about(command: Command, result: ControlResult) -> bool:
    intent = command.intent
    return result.loop_id == command.loop_id and (intent is None or result.intent in (intent.wire, intent.value))


def _clip_output(text: str) -> str:
    kept = text if len(text) <= MAX_OUTPUT_CHARS else text[: MAX_OUTPUT_CHARS - 1] + "…"
    return kept.encode("utf-8", "replace").decode("utf-8").strip()
