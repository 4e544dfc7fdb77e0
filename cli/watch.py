"""`ops-manager watch [LOOP...]`: a plain feed, one line for every change."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import click
from rich.text import Text
from temporalio.service import RPCError, RPCStatusCode

from cli import terminal
from cli.changes import Change, changes
from cli.names import LOOP, LoopName
from cli.resolve import resolve_all
from cli.session import Connection, Session, connection_options, with_session
from cli.supervisors import Absence, Row, ask_status, describe, running_supervisors
from cli.times import full_moment
from contract.status import StatusReport

POLL_S = 1.0
"""Between two rounds. A question costs a worker a task, and history nothing."""
LOOPS_A_ROUND = 20
"""Asked at most in one round; more loops take turns, those first about which visibility shows news."""
_AT_ONCE = 5


class Watcher:
    """Remembers the last look at each loop and prints what is new."""

    def __init__(self, session: Session, named: list[Row] | None) -> None:
        self._session = session
        self._named = named
        self._rows: dict[str, Row] = {}
        self._reports: dict[str, StatusReport] = {}
        self._silent: set[str] = set()
        self._turn: list[str] = []

    async def run(self) -> None:
        """Print changes until cancelled, or until every named loop is released.

        A server that goes away is said once, and waited for.
        """
        away = False
        while self._named is None or self._named:
            try:
                await self._round()
                if away:
                    self._print("*", Change(None, "Temporal is back", "green"))
                away = False
            except RPCError as error:
                if error.status not in (
                    RPCStatusCode.UNAVAILABLE,
                    RPCStatusCode.DEADLINE_EXCEEDED,
                    RPCStatusCode.CANCELLED,
                ):
                    raise
                if not away:
                    self._print("*", Change(None, "Temporal does not answer; waiting for it", "bold red"))
                away = True
            await asyncio.sleep(POLL_S)

    async def _round(self) -> None:
        due = await self._due()
        gate = asyncio.Semaphore(_AT_ONCE)

        async def look(row: Row) -> None:
            async with gate:
                await self._look(row)

        await asyncio.gather(*(look(row) for row in due))

    async def _due(self) -> list[Row]:
        """Which loops to ask now: all while they are few, else those with news and the next in turn."""
        rows = {row.workflow_id: row for row in await self._current()}
        for gone in [name for name in self._rows if name not in rows]:
            self._print(self._rows.pop(gone).name, Change(None, "is released"))
            self._reports.pop(gone, None)
            self._silent.discard(gone)
        news = [name for name, row in rows.items() if self._rows.get(name) != row]
        self._rows = rows
        waiting = [name for name in self._turn if name in rows] + [name for name in rows if name not in self._turn]
        order = list(dict.fromkeys([*news, *waiting]))
        self._turn = order[LOOPS_A_ROUND:] + order[:LOOPS_A_ROUND]
        return [rows[name] for name in order[:LOOPS_A_ROUND]]

    async def _current(self) -> list[Row]:
        if self._named is None:
            return await running_supervisors(self._session.client)
        still: list[Row] = []
        for row in self._named:
            description = await describe(self._session.client, row.workflow_id)
            if description and description.status and description.status.name == "RUNNING":
                still.append(row)
        self._named = still
        return still

    async def _look(self, row: Row) -> None:
        answer = await ask_status(self._session.client, row)
        if isinstance(answer, Absence):
            if row.workflow_id not in self._silent:
                self._print(row.name, Change(None, f"NO WORKER: {answer.detail}", "bold red"))
            self._silent.add(row.workflow_id)
            return
        if row.workflow_id in self._silent:
            self._silent.discard(row.workflow_id)
            self._print(row.name, Change(None, "a worker answers again", "green"))
        for change in changes(self._reports.get(row.workflow_id), answer):
            self._print(row.name, change)
        self._reports[row.workflow_id] = answer

    def _print(self, name: str, change: Change) -> None:
        text = self._session.localized(change.text)
        line = Text.assemble(
            full_moment(change.at or datetime.now(UTC)), "  ", (name, "bold"), "  ", (text, change.style)
        )
        terminal.show_line(line)


@click.command()
@click.argument("loops", metavar="[LOOP]...", type=LOOP, nargs=-1)
@connection_options
def watch(connection: Connection, loops: tuple[LoopName, ...]) -> None:
    """Print one line for every change of the named LOOPs, or of all. Ends with Ctrl-C.

    Times are those of the evidence: an event's own, where an event told the change.
    """

    async def work(session: Session) -> None:
        rows = await resolve_all(session, loops)
        if not rows:
            terminal.say(f"No loop is supervised yet at {session.target.address}; waiting for one.")
        await Watcher(session, rows if loops else None).run()

    with_session(connection, work)
