"""`ops-manager list`: every supervised loop, those that need a human first, from search attributes alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from cli import terminal
from cli.render import absence_sentence, row_json, rows_table
from cli.session import Connection, Session, connection_options, seconds_left, with_session
from cli.status import ANSWER_WITHIN_S, LEAST_WAIT_S
from cli.supervisors import Absence, Row, by_attention, running_supervisors, worker_absence
from contract.status import Attention


@click.command(name="list")
@click.option("--needs-me", is_flag=True, help="Only loops that need a human.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@connection_options
def list_loops(connection: Connection, needs_me: bool, output: str) -> None:
    """List the supervised loops, the most urgent first.

    Read from search attributes, so it works without a worker; NEWS is when something about a loop last changed.
    """

    async def work(session: Session) -> None:
        rows = await running_supervisors(session.client)
        left = seconds_left(ANSWER_WITHIN_S, at_least_s=LEAST_WAIT_S)
        absence = await worker_absence(session.client, rows, within_s=left)
        shown = by_attention(row for row in rows if row.attention is not Attention.NONE or not needs_me)
        now = datetime.now(UTC)
        newest = max((row.observed_at for row in rows if row.observed_at), default=None)
        sentence = absence_sentence(absence, newest, now) if absence else ""
        if output == "json":
            terminal.data(json.dumps([row_json(row, absence) for row in shown], indent=2))
            if sentence:
                terminal.warn(sentence)
            return
        if sentence:
            terminal.data(sentence)
        if shown:
            terminal.show(rows_table(shown, now, terminal.columns()))
        terminal.say(_closing(session, rows, absence))

    with_session(connection, work)


def _closing(session: Session, rows: list[Row], absence: Absence | None) -> str:
    if not rows:
        how = session.command("supervise", "--help")
        return f"No loop is supervised at {session.target.address}. To supervise one: {how}"
    needing = sum(row.attention is not Attention.NONE for row in rows)
    loops = "1 loop" if len(rows) == 1 else f"{len(rows)} loops"
    if absence:
        return f"{loops}; who needs a human now is not known."
    return f"{loops}; {needing or 'none'} {'need' if needing > 1 else 'needs'} a human."
