"""What the acts see and do: the supervisor's own report, and commands that a person would type."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from temporalio.client import Client
from temporalio.service import RPCError

from cli import paste
from cli.demo.report import ActMissing
from cli.demo.stage import COMMAND, LOOP, SPRITE, Stage
from contract.identifiers import workflow_id
from contract.intents import Intent
from contract.status import IntentRecord, QueryName, StatusReport
from worker.connection import Target, connect
from worker.server_binary import find_binary
from worker.server_state import ServerState, running_server

START_TIMEOUT_S = 60.0
_POLL_S = 0.2
_T = TypeVar("_T")


@dataclass
class Play:
    """The stage with a manager on it."""

    stage: Stage
    client: Client
    server: ServerState
    loop: str = f"{SPRITE}/{LOOP}"

    @property
    def ui(self) -> str:
        """URL of Temporal's UI."""
        return self.server.ui

    @classmethod
    @asynccontextmanager
    async def opened(cls, stage: Stage) -> AsyncIterator[Play]:
        """Start the service, `up` and `watch`, and wait until the loop is supervised."""
        stage.serve()
        # `up` checks the token that the service writes.
        await _first(stage.service_answers, "a sprite service that answers", START_TIMEOUT_S)
        arguments = ["up", "--repo", str(stage.repo), "--service-url", stage.service_url]
        arguments += ["--token", f"file:{stage.token}", "--sprite", SPRITE, "--loop", LOOP, "--data", str(stage.data)]
        stage.start("up", stage.ops_manager(*arguments), shown=paste.ops_manager(*arguments))
        server = await _first(lambda: running_server(stage.data), "an embedded Temporal", START_TIMEOUT_S)
        async with connect(Target(server.address), keep_trying_s=START_TIMEOUT_S) as client:
            play = cls(stage, client, server)
            await play.until(lambda report: report.observed_at is not None, "a first observation", START_TIMEOUT_S)
            watch = ["watch", play.loop, "--address", server.address]
            stage.start("watch", stage.ops_manager(*watch), shown=paste.ops_manager(*watch), to_terminal=True)
            try:
                yield play
            finally:
                stage.end("watch")

    async def report(self) -> StatusReport | None:
        """The supervisor's report; None while it cannot answer."""
        handle = self.client.get_workflow_handle(workflow_id(SPRITE, LOOP))
        try:
            report: StatusReport = await handle.query(
                QueryName.STATUS.value, result_type=StatusReport, rpc_timeout=timedelta(seconds=3)
            )
        except RPCError:
            return None
        return report

    async def until(
        self, condition: Callable[[StatusReport], bool], what: str, timeout_s: float = 30.0
    ) -> StatusReport:
        """The first report for which `condition` holds; raises ActMissing after `timeout_s`."""
        end = time.monotonic() + timeout_s
        last: StatusReport | None = None
        while time.monotonic() < end:
            last = await self.report() or last
            if last and condition(last):
                return last
            await asyncio.sleep(_POLL_S)
        seen = f"last seen {last.lifecycle} ({last.reason}), line {last.cursor.event_line_offset}" if last else "blank"
        raise ActMissing(f"{what} within {timeout_s:.0f} s; {seen}")

    async def intent_until(
        self, intent: Intent, condition: Callable[[IntentRecord], bool], what: str, timeout_s: float = 30.0
    ) -> IntentRecord:
        """The newest record of `intent` once `condition` holds for it."""

        def newest(report: StatusReport) -> IntentRecord | None:
            return next((record for record in reversed(report.intents) if record.intent == intent.value), None)

        def holds(report: StatusReport) -> bool:
            record = newest(report)
            return record is not None and condition(record)

        record = newest(await self.until(holds, what, timeout_s))
        if record is None:
            raise ActMissing(what)
        return record

    async def until_on_stage(self, condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        """Wait for something that can be seen without the supervisor; raises ActMissing after `timeout_s`."""
        await _first(condition, what, timeout_s)

    async def command(self, *arguments: str) -> int:
        """Run a command of ours to its end; returns its exit code."""
        argv = self._reaching_here(arguments)
        return await self._run(self.stage.ops_manager(*argv), shown=paste.ops_manager(*argv))

    def ops_command(self, *arguments: str) -> str:
        """A command of ours, ready to paste."""
        return paste.ops_manager(*self._reaching_here(arguments))

    def _reaching_here(self, arguments: Sequence[str]) -> list[str]:
        # By address, which goes before whatever the shell that it is pasted into is configured for.
        return [*arguments, "--address", self.server.address]

    async def _run(self, argv: list[str], *, shown: str) -> int:
        try:
            return await asyncio.to_thread(self.stage.run, argv, shown=shown)
        except asyncio.CancelledError:
            self.stage.end(COMMAND)
            raise

    def approve_by_signal(self) -> str:
        """The Temporal command line that approves, ready to paste."""
        return paste.temporal(*_APPROVE, address=self.server.address, namespace="default")

    async def signal_approval(self) -> int:
        """Send APPROVE_PENDING by the Temporal CLI; returns its exit code."""
        binary = find_binary(self.stage.data)
        if binary is None:
            raise ActMissing("the temporal program, of which the server was just started")
        argv = [str(binary), *_APPROVE, "--address", self.server.address]
        return await self._run(argv, shown=self.approve_by_signal())


_APPROVE = (
    "workflow", "signal", "--workflow-id", workflow_id(SPRITE, LOOP), "--name", Intent.APPROVE_PENDING.value,
    "--input", '{"by":"ana"}',
)  # fmt: skip


async def _first(look: Callable[[], _T | None], what: str, timeout_s: float) -> _T:
    """The first thing that `look` finds; raises ActMissing after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > end:
            raise ActMissing(f"{what} within {timeout_s:.0f} s")
        await asyncio.sleep(_POLL_S)
    return found
