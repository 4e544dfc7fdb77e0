"""`ops-manager reconcile LOOP`: read the log again and compare it with what was ingested."""

from __future__ import annotations

import asyncio

import click

from cli import terminal
from cli.directing import NoWorker, direct, tell, who, who_options
from cli.exit_codes import ExitCode
from cli.names import LOOP, LoopName
from cli.resolve import resolve
from cli.session import Connection, Session, connection_options, with_session
from cli.supervisors import Absence, ask_status
from contract.directives import Directive
from contract.reconciliation import Agreement
from contract.status import IntentRecord, IntentStage

POLL_S = 1.0


@click.command()
@click.argument("loop", type=LOOP)
@click.option("--from-start", is_flag=True, help="Compare from line 1, not only from the last stable position.")
@who_options
@connection_options
def reconcile(connection: Connection, loop: LoopName, from_start: bool, by: str | None, note: str | None) -> ExitCode:
    """Read the log of LOOP again, through its service where it has one, and compare it with what was ingested.

    A local log is hashed again. A service that agrees is used again; one that does not is a divergence.
    """
    body = {"by": who(by), "note": note, "fromStart": from_start}

    async def work(session: Session) -> ExitCode:
        record = await _done(session, loop, await direct(session, loop, Directive.RECONCILE, body))
        ended = tell(session, record)
        if record.comparison is None:
            return ended
        return ExitCode.TRANSPORT if ended is ExitCode.REFUSED else _CODES[record.comparison.agreement]

    return with_session(connection, work)


_CODES = {
    Agreement.AGREED: ExitCode.DONE,
    Agreement.UNVERIFIABLE: ExitCode.DONE,
    Agreement.DIFFERENT: ExitCode.DIFFERENT,
    Agreement.CONDITION: ExitCode.TRANSPORT,
    Agreement.UNREACHABLE: ExitCode.TRANSPORT,
}


async def _done(session: Session, loop: LoopName, record: IntentRecord) -> IntentRecord:
    """The record when the comparison has ended, however long that takes."""
    if record.stage is IntentStage.ACCEPTED:
        terminal.say("  reading (Ctrl-C ends the wait, not the comparison) ...")
    row = await resolve(session, loop)
    while record.stage is IntentStage.ACCEPTED:
        await asyncio.sleep(POLL_S)
        answer = await ask_status(session.client, row)
        if isinstance(answer, Absence):
            raise NoWorker(f"The comparison waits for a worker ({answer.detail})")
        record = next((kept for kept in answer.intents if kept.sequence == record.sequence), record)
    return record
