"""The answer to a control request, from how its command ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from contract.clock import format_utc
from contract.control import CommandAnswer, ControlRequest, ControlResult, ControlStatus
from sprite.control.command import CommandRun, displayed

UNKNOWN_EXIT_CODE = -1
"""`exitCode` where it is not known how the command ended."""


NO_RESULT = "no_result_recorded"
"""Why the outcome of a command that was begun is unknown, until its result is recorded."""
LOST = "command_lost"
"""Why it is when watching the command failed."""


def command_answer(
    request: ControlRequest,
    key: str,
    argv: Sequence[str],
    ended: CommandRun | str,
    *,
    transport: str,
    sprite_id: str,
) -> CommandAnswer:
    """The answer for a command that was begun. `ended` says how it ended, or why nobody knows."""
    status, exit_code, confirm = _outcome(ended)
    result = ControlResult(
        timestamp=format_utc(datetime.now(UTC)),
        loop_id=request.loop_id,
        intent=request.intent.wire,
        trace_id=request.trace_id,
        requested_by=request.by,
        note=request.note,
        transport=transport,
        status=status,
        command=displayed(argv),
        argv=list(argv),
        idempotency_key=key,
        exit_code=exit_code,
        confirm_exit_code=0,
        confirmed=False,
        command_output=ended.output if isinstance(ended, CommandRun) else None,
        confirm=confirm,
    )
    return CommandAnswer(
        ok=status is ControlStatus.EXECUTED_UNCONFIRMED,
        exit_code=exit_code,
        result=result,
        trace_id=request.trace_id,
        sprite_id=sprite_id,
    )


def _outcome(ended: CommandRun | str) -> tuple[ControlStatus, int, dict[str, Any] | None]:
    """Status, exit code and, where the outcome is unknown, why."""
    why_unknown = _why_unknown(ended) if isinstance(ended, CommandRun) else ended
    if isinstance(ended, str) or why_unknown is not None:
        confirm = {"confirmed": False, "stage": "unknown", "reason": why_unknown}
        return ControlStatus.AMBIGUOUS, UNKNOWN_EXIT_CODE, confirm
    if ended.exit_code != 0:
        return ControlStatus.FAILED_COMMAND, ended.exit_code, None
    return ControlStatus.EXECUTED_UNCONFIRMED, 0, None


def _why_unknown(run: CommandRun) -> str | None:
    if run.timed_out:
        return "command_timed_out"
    # Ended by a signal, it may have had its effect before that: it did not say no.
    return "command_killed" if run.exit_code < 0 else None
