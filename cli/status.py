"""`ops-manager status LOOP`: everything the supervisor believes, and how fresh that is."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime

import click

from cli import terminal
from cli.names import LOOP, LoopName
from cli.render import absence_sentence, report_json, row_card, row_report, status_card, with_contact
from cli.resolve import resolve
from cli.session import Connection, Session, connection_options, seconds_left, with_session
from cli.supervisors import Absence, Row, ask_status, describe, observer_heartbeat, stuck_attempts
from contract.intents import PLACEHOLDER
from contract.observation import ObserveHeartbeat
from contract.status import Attention, StatusReport

ANSWER_WITHIN_S = 2.4
"""From the start of the process: the whole command has three seconds."""
LEAST_WAIT_S = 0.6
"""A live worker answers in hundredths of a second, a busy one in tenths."""


@click.command()
@click.argument("loop", type=LOOP)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@connection_options
def status(connection: Connection, loop: LoopName, output: str) -> None:
    """Show what is believed about LOOP: lifecycle, attention, transport, cursor, intents.

    Without a worker it answers from search attributes, and says so.
    """

    async def work(session: Session) -> None:
        row = await resolve(session, loop)
        left = seconds_left(ANSWER_WITHIN_S, at_least_s=LEAST_WAIT_S)
        answer, description = await asyncio.gather(
            ask_status(session.client, row, within_s=left), describe(session.client, row.workflow_id)
        )
        if isinstance(answer, Absence):
            failed = stuck_attempts(description) if description else 0
            _show_without_worker(session, row, answer, failed, as_json=output == "json")
        else:
            heartbeat = observer_heartbeat(session.client, description) if description else None
            _show(session, with_contact(answer, heartbeat), heartbeat, as_json=output == "json")

    with_session(connection, work)


def _show(session: Session, report: StatusReport, heartbeat: ObserveHeartbeat | None, *, as_json: bool) -> None:
    if as_json:
        terminal.data(json.dumps(report_json(report), indent=2))
        return
    attention = report.attention.model_copy(update={"sentence": session.localized(report.attention.sentence)})
    intents = [record.model_copy(update={"sentence": session.localized(record.sentence)}) for record in report.intents]
    conditions = [
        condition.model_copy(update={"sentence": session.localized(condition.sentence)})
        for condition in report.conditions
    ]
    shown = report.model_copy(update={"attention": attention, "intents": intents, "conditions": conditions})
    terminal.show(status_card(shown, heartbeat, datetime.now(UTC)))
    for command in next_commands(session, report):
        terminal.data(f"{'next':<12}{command}")


def next_commands(session: Session, report: StatusReport) -> list[str]:
    """What to type next, ready to paste; ours first where the supervisor suggests a message of the Temporal CLI."""
    suggested = report.attention.next_command
    ours = []
    if report.attention.code is Attention.APPROVAL_WAITING:
        ours.append(session.command("approve", f"{report.sprite}/{report.loop_id}"))
    closing = [opened.next_command for opened in report.divergence if opened.next_command not in (None, suggested)]
    return ours + [session.localized(named(command)) for command in (suggested, *closing) if command]


def named(command: str) -> str:
    """`command` with the name of whoever reads it, as far as this shell knows it."""
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or ""
    return command.replace(PLACEHOLDER, user) if user.isalnum() else command


def _show_without_worker(session: Session, row: Row, absence: Absence, failed: int, *, as_json: bool) -> None:
    sentence = absence_sentence(absence, row.observed_at, datetime.now(UTC))
    if as_json:
        terminal.data(json.dumps(row_report(row, absence), indent=2))
        terminal.warn(sentence)
    else:
        terminal.data(sentence)
        terminal.show(row_card(row))
    if failed:
        history = session.temporal_command("workflow", "show", "--workflow-id", row.workflow_id)
        terminal.warn(f"The supervisor's workflow task failed {failed} times; the reason is in: {history}")
    else:
        terminal.say(f"Nothing is observed or executed meanwhile. Start a worker: {session.command('worker')}")
