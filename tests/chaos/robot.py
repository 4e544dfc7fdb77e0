"""A program that wants a loop cancelled, every two seconds, whatever it is told; and what must come of that.

Nothing of it may happen while automation is frozen. Whether it was is read from what the activities answered and from
the sprite's audit log, never from what the supervisor says about automation.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.service import RPCError

from contract.observation import ActivityName, Transport
from contract.reconciliation import Agreement
from contract.status import IntentStage, StatusReport
from tests.chaos.watching import Watcher, at
from tests.harness_sprite import Sprite, until
from workflows.plugin import data_converter

ROBOT = "robot"
EVERY_S = 2.0
NO_SUCH_RUN = {"runId": "2001-01-01T00:00:00Z"}
"""What a robot expects that must never have an effect, frozen or not."""
NOT_DONE = (IntentStage.REJECTED, IntentStage.EXPIRED)
_MILLISECOND = timedelta(milliseconds=1)


class Robot:
    """Sends an automated `CANCEL_LOOP` every two seconds, each under a key of its own, while it is switched on."""

    def __init__(self, watcher: Watcher, expect: Mapping[str, str] | None = None) -> None:
        self._watcher = watcher
        self._expect = {"expect": dict(expect)} if expect else {}
        self._switched_on: asyncio.Task[None] | None = None
        self.sent: list[str] = []
        """The keys of the messages that arrived."""

    @contextlib.asynccontextmanager
    async def off_in_the_end(self) -> AsyncIterator[None]:
        """It is switched off when the block ends."""
        try:
            yield
        finally:
            await self.switch_off()

    def switch_on(self) -> None:
        """Begin to send."""
        self._switched_on = asyncio.create_task(self._run())

    async def switch_off(self) -> None:
        """Send no more; raises what ended it, if anything did."""
        task, self._switched_on = self._switched_on, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def has_sent(self, more: int) -> None:
        """Wait until it has sent so many messages from now on."""
        wanted = len(self.sent) + more
        await until(lambda: len(self.sent) >= wanted, f"the robot has sent {wanted} messages", timeout_s=150.0)

    async def _run(self) -> None:
        tries = 0
        while True:
            tries += 1
            key = f"robot-{tries}"
            with contextlib.suppress(RPCError):  # the server may be gone just now
                asked = {"by": ROBOT, "automated": True, "idempotencyKey": key, **self._expect}
                await self._watcher.signal("CANCEL_LOOP", asked)
                self.sent.append(key)
            await asyncio.sleep(EVERY_S)


@dataclass(frozen=True)
class Sending:
    """One `execute_control` of the robot, and why it must not be: automation was to be frozen when the message came, or
    when the activity was scheduled (None: it was not).

    `at` is the server's clock, which is the sprite's here.
    """

    key: str
    transport: str
    at: datetime
    frozen: str | None


async def sendings(histories: Sequence[WorkflowHistory]) -> list[Sending]:
    """What was sent for the robot, in all runs of a supervisor."""
    reader = _Reader()
    for history in histories:
        await reader.read(history)
    return reader.found


class _Reader:
    """Goes through histories in order: an event stands behind everything that the workflow knew when it caused it."""

    def __init__(self) -> None:
        self.found: list[Sending] = []
        self._unreconciled: str | None = None
        self._rewritten: str | None = None
        self._asked: dict[int, tuple[str, dict[str, Any]]] = {}
        self._came: dict[str, str | None] = {}
        """Why automation was to be frozen when the message of a key came."""

    async def read(self, history: WorkflowHistory) -> None:
        self._asked = {}
        for event in history.events:
            await self._take(event)

    async def _take(self, event: HistoryEvent) -> None:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled = event.activity_task_scheduled_event_attributes
            name, (asked,) = scheduled.activity_type.name, await _decoded(scheduled.input.payloads)
            self._asked[event.event_id] = name, asked
            if name == ActivityName.EXECUTE_CONTROL and asked["by"] == ROBOT:
                why = self._came[asked["key"]] or self._doubt
                self.found.append(Sending(asked["key"], asked["transport"], at(event), why))
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            signaled = event.workflow_execution_signaled_event_attributes
            (message,) = await _decoded(signaled.input.payloads)
            if message["by"] == ROBOT:
                self._came[message["idempotencyKey"]] = self._doubt
            elif signaled.signal_name == "RESOLVE_DIVERGENCE":
                self._rewritten = None
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED:
            # An observer that was superseded: what it brings from here on is nobody's knowledge.
            self._asked.pop(event.activity_task_cancel_requested_event_attributes.scheduled_event_id, None)
        elif _scheduled_by(event) in self._asked:
            name, asked = self._asked[_scheduled_by(event)]
            completed = event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
            payloads = event.activity_task_completed_event_attributes.result.payloads if completed else []
            results = await _decoded(payloads)
            self._ended(name, asked, results[0] if results else None, f"event {event.event_id}")

    @property
    def _doubt(self) -> str | None:
        return self._unreconciled or self._rewritten

    def _ended(self, name: str, asked: dict[str, Any], result: Any, where: str) -> None:
        through_service = asked.get("transport") == Transport.SPRITE_SERVICE
        if name == ActivityName.OBSERVE and through_service and result is None:
            self._unreconciled = f"the retries of the service ran out ({where})"
        elif name == ActivityName.OBSERVE and result is not None and result.get("reset"):
            self._rewritten = f"the log was found to be another one ({where})"
        elif name == ActivityName.RECONCILE and through_service and result is not None:
            if result["agreement"] in (Agreement.AGREED, Agreement.UNVERIFIABLE):
                self._unreconciled = None
            elif result["agreement"] == Agreement.DIFFERENT:
                self._unreconciled = f"the service was found to differ ({where})"


_ENDINGS = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "activity_task_completed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "activity_task_failed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "activity_task_timed_out_event_attributes",
}


def _scheduled_by(event: HistoryEvent) -> int:
    """The event that scheduled the activity which ends here; 0 where none does, or it was cancelled."""
    name = _ENDINGS.get(event.event_type)
    return int(getattr(event, name).scheduled_event_id) if name else 0


async def _decoded(payloads: Sequence[Any]) -> list[Any]:
    return await data_converter().decode(payloads) if payloads else []


def audited(sprite: Sprite) -> list[dict[str, Any]]:
    """The commands that the sprite's audit log says were begun for the robot."""
    logs = sprite.state_dir.rglob("control-invocations.jsonl*")
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return [line for line in lines if line["phase"] == "begun" and line["by"] == ROBOT]


async def judge_nothing_done(
    robot: Robot, sprite: Sprite, report: StatusReport, told: Sequence[WorkflowHistory]
) -> None:
    """Of all that the robot sent nothing had an effect, or was even tried."""
    assert robot.sent, "the robot never came to word"
    sent, begun = await sendings(told), audited(sprite)
    assert (sent, begun) == ([], []), (sent, begun)
    done = [record for record in report.intents if record.by == ROBOT and record.stage not in NOT_DONE]
    assert not done, done


async def judge_done_once(sprite: Sprite, report: StatusReport, told: Sequence[WorkflowHistory]) -> None:
    """One of its messages had its effect, once, and nothing of it was tried while automation was to be frozen."""
    sent = await sendings(told)
    assert not [sending for sending in sent if sending.frozen], sent
    assert {sending.transport for sending in sent} == {Transport.SPRITE_SERVICE.value}
    (key,) = {line["key"] for line in audited(sprite)}
    for line in audited(sprite):
        assert line["transport"] == Transport.SPRITE_SERVICE, line
        # The audit log tells whole milliseconds. A request whose answer got lost may begin after it was given up.
        began = datetime.fromisoformat(line["at"]) + _MILLISECOND
        assert any(sending.at <= began for sending in sent if sending.key == key), (line, sent)
    for sending in sent:
        assert _word_at(report, sending.at) == "sprite_service", (sending, report.transport.changes)
        assert not _diverged_at(report, sending.at), (sending, report.resolved_divergence)
    records = {record.key: record for record in report.intents if record.by == ROBOT}
    assert records.pop(key).stage is IntentStage.CONFIRMED
    # Of one whose answer got lost nobody may say that nothing was done.
    claimed = [record for record in records.values() if record.stage not in NOT_DONE and record.lost_at is None]
    assert not claimed, claimed


def _word_at(report: StatusReport, moment: datetime) -> str:
    before = [change.to for change in report.transport.changes if change.at <= moment]
    return (
        before[-1]
        if before
        else report.transport.changes[0].from_state
        if report.transport.changes
        else "sprite_service"
    )


def _diverged_at(report: StatusReport, moment: datetime) -> bool:
    found = [*report.divergence, *report.resolved_divergence]
    return any(one.since <= moment and (one.resolved_at is None or moment < one.resolved_at) for one in found)
