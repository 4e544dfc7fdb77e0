"""Asking the supervisor itself for something, and telling what became of it: what `transport`, `resolve` and
`reconcile` have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import click
from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from cli import terminal
from cli.errors import Ambiguous, CommandError, NotFound, Refused, UsageProblem
from cli.exit_codes import ExitCode
from cli.names import LoopName
from cli.resolve import resolve
from cli.session import Session
from cli.supervisors import Absence, Row, ask_status
from cli.terminal import clean
from contract.directives import Directive
from contract.status import IntentRecord, IntentStage

ANSWER_WITHIN = timedelta(seconds=40)
"""A supervisor answers within 30 s, with what has become of it by then."""
_LOST = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)
_F = TypeVar("_F", bound=Callable[..., Any])


class NoWorker(CommandError):
    """Nobody is there who could do it; nothing was sent."""

    exit_code = ExitCode.UNREACHABLE


def who_options(command: _F) -> _F:
    """Give a click command `--by` and `--note`."""
    command = click.option("--note", metavar="TEXT", help="Why, for the record.")(command)
    return click.option("--by", metavar="NAME", help="Who asks. Default: $USER.")(command)


def who(by: str | None) -> str:
    """Who asks; raises UsageProblem when nobody is named."""
    name = by or os.environ.get("USER") or os.environ.get("LOGNAME")
    if not name:
        raise UsageProblem("Say who asks: --by NAME ($USER is not set)")
    return name


async def direct(session: Session, loop: LoopName, directive: Directive, body: Mapping[str, Any]) -> IntentRecord:
    """Send one message and return its record, as far as it has got within half a minute.

    Raises NoWorker when nothing was sent, Refused when it is no message, Ambiguous when it may have arrived.
    """
    row = await resolve(session, loop)
    answer = await ask_status(session.client, row)
    if isinstance(answer, Absence):
        raise NoWorker(f"Nothing was sent: {answer.detail}. Start a worker: {session.command('worker')}")
    handle = session.client.get_workflow_handle(row.workflow_id)
    message = {name: value for name, value in body.items() if value is not None}
    try:
        record: IntentRecord = await handle.execute_update(
            directive.value, message, result_type=IntentRecord, rpc_timeout=ANSWER_WITHIN
        )
    except WorkflowUpdateFailedError as error:
        raise Refused(f"Nothing was done: {clean(str(error.cause))}") from None
    except (WorkflowUpdateRPCTimeoutOrCancelledError, RPCError) as error:
        if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
            raise NotFound(f"Nothing was sent: {row.name} has just been released") from None
        if isinstance(error, RPCError) and error.status not in _LOST:
            raise
        raise Ambiguous(f"Unknown: no answer, but it may have arrived. See: {_see(session, row)}") from None
    return record


def tell(session: Session, record: IntentRecord) -> ExitCode:
    """Print what became of a message that is done at once."""
    terminal.data(session.localized(clean(record.sentence or record.reason)))
    return ExitCode.REFUSED if record.stage is IntentStage.REJECTED else ExitCode.DONE


def _see(session: Session, row: Row) -> str:
    return session.command("status", row.name)
