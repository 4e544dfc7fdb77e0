"""What a supervisor says and what Temporal has written down about it, seen from outside."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowHistory
from temporalio.service import RPCError

from contract.status import IntentRecord, StatusReport
from tests.harness_sprite import until

PATIENCE_S = 120.0
"""A worker that died is missed after 30 s, its command after 75 s; the rest is for a machine with much else to do."""
RPC_S = timedelta(seconds=5)

_TASK_SCHEDULED = EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED
_TASK_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED


class Watcher:
    """Watches one supervisor through a client that outlives every process that is killed."""

    def __init__(self, client: Client, workflow_id: str) -> None:
        self._client = client
        self._id = workflow_id

    async def status(self) -> StatusReport | None:
        """The supervisor's report; None while nobody can answer."""
        handle = self._client.get_workflow_handle(self._id)
        try:
            report: StatusReport = await handle.query("status", result_type=StatusReport, rpc_timeout=RPC_S)
        except RPCError:
            return None
        return report

    async def until(
        self, condition: Callable[[StatusReport], bool], what: str, timeout_s: float = PATIENCE_S
    ) -> StatusReport:
        """The first report for which `condition` holds."""
        deadline = time.monotonic() + timeout_s
        last: StatusReport | None = None
        while True:
            report = await self.status()
            if report is not None and condition(report):
                return report
            last = report or last
            assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for {what}; last: {_told(last)}"
            await asyncio.sleep(0.1)

    async def intent(self, key: str, condition: Callable[[IntentRecord], bool], what: str) -> IntentRecord:
        """The record of the intent with this idempotency key, once `condition` holds for it."""

        def holds(report: StatusReport) -> bool:
            return any(record.key == key and condition(record) for record in report.intents)

        report = await self.until(holds, f"{key}: {what}")
        return next(record for record in report.intents if record.key == key)

    async def signal(self, name: str, message: dict[str, object]) -> None:
        """Send a signal as the Temporal CLI does."""
        await self._client.get_workflow_handle(self._id).signal(name, message)

    async def past(self, bound: int, timeout_s: float = 20.0) -> None:
        """Wait until the history has so many events: the supervisor would leave if nothing kept it."""

        async def reached() -> bool:
            return (await self._described()).history_length >= bound

        await until(reached, f"{bound} history events", timeout_s=timeout_s)

    async def leaving(self, bound: int) -> None:
        """Wait until the supervisor is about to continue as new: the task in which it will is scheduled or further."""
        handle = self._client.get_workflow_handle(self._id, run_id=(await self._described()).run_id)
        async with asyncio.timeout(PATIENCE_S):
            async for event in handle.fetch_history_events(wait_new_event=True):
                if _may_leave(event, bound):
                    return

    async def _described(self) -> WorkflowExecutionDescription:
        return await self._client.get_workflow_handle(self._id).describe(rpc_timeout=RPC_S)

    async def histories(self) -> list[WorkflowHistory]:
        """The history of every run of the supervisor, oldest first."""
        found: list[WorkflowHistory] = []
        run_id: str | None = (await self._described()).run_id
        while run_id:
            history = await self._client.get_workflow_handle(self._id, run_id=run_id).fetch_history()
            found.insert(0, history)
            run_id = history.events[0].workflow_execution_started_event_attributes.continued_execution_run_id
        return found

    async def at_rest(self) -> tuple[StatusReport, list[WorkflowHistory]]:
        """What the supervisor says when it has nothing more to say, and all that led to it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                before = await self.until(lambda report: report.cursor.at_head, "the head of the log")
                histories = await self.histories()
                if before == await self.status():
                    return before, histories


def is_leaving_at(moment: datetime, histories: Sequence[WorkflowHistory], bound: int) -> bool:
    """Whether `moment` falls into a continue-as-new.

    That is from the scheduling of the task that finds the history long enough to the next run's first completed task.
    """
    for left, entered in itertools.zip_longest(histories, histories[1:]):
        begin = next((at(event) for event in left.events if _may_leave(event, bound)), None)
        arrived = (
            (at(event) for event in entered.events if event.event_type == _TASK_COMPLETED) if entered else iter(())
        )
        if begin and begin <= moment <= next(arrived, moment):
            return True
    return False


def _may_leave(event: HistoryEvent, bound: int) -> bool:
    # The task starts with the next event, and the supervisor looks at the length as of then.
    return event.event_type == _TASK_SCHEDULED and event.event_id >= bound - 1


def at(event: HistoryEvent) -> datetime:
    """When Temporal wrote an event down."""
    return event.event_time.ToDatetime(tzinfo=UTC)


def _told(report: StatusReport | None) -> str:
    return report.model_dump_json(exclude={"transitions", "gates", "process"}) if report else "no answer"
