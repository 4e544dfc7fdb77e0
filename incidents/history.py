"""What a workflow history says: the runs of a supervisor, and what became of every activity in them.

Times are the Temporal server's. Payloads are read by the contract's models; nothing here needs a server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TypeVar

from google.protobuf.json_format import ParseError
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import EventType, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from contract.supervision import SupervisorStart
from workflows.state import SupervisorState

_M = TypeVar("_M", bound=BaseModel)

_CLOSING = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: "continued_as_new",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "released",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: "terminated",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "failed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "completed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "timed_out",
}


class HistoryInvalid(Exception):
    """This is no history of a supervisor. The message says what is missing."""


def instant(stamp: Timestamp) -> datetime:
    """A protobuf timestamp as a UTC datetime."""
    return stamp.ToDatetime(UTC)


def read_payload(payload: Payload, model: type[_M]) -> _M:
    """A payload as one of the contract's models; raises pydantic's ValidationError."""
    return model.model_validate_json(payload.data)


@dataclass
class ActivityRecord:
    """One activity from its scheduling to its end; the times and ids of what has not happened are None.

    `outcome`: completed, failed, timed_out or cancelled; None while it runs. `retried_for`: why the attempt before the
    last one failed. `cancel_requested`: the event in which the workflow gave it up.
    """

    name: str
    event_id: int
    scheduled_at: datetime
    input: Payload | None
    task_queue: str = ""
    started_at: datetime | None = None
    attempts: int = 1
    retried_for: str = ""
    cancel_requested: int | None = None
    outcome: str | None = None
    closed_at: datetime | None = None
    closed_event: int | None = None
    result: Payload | None = None
    failure: str = ""

    @property
    def is_news_to_nobody(self) -> bool:
        """Its result came after the workflow had given it up, so nothing of it was believed."""
        return bool(self.cancel_requested and self.closed_event and self.cancel_requested < self.closed_event)


@dataclass(frozen=True)
class Reset:
    """Where a run branched off from another one, whose events up to there are its own as well: at `event_id`."""

    event_id: int
    at: datetime
    run_id: str
    identity: str
    reason: str


@dataclass
class Run:
    """One run of a supervisor, with its history as far as it is known."""

    workflow_id: str
    history: WorkflowHistory = field(repr=False)

    def __post_init__(self) -> None:
        events = self.history.events
        if not events or events[0].event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            raise HistoryInvalid(f"the history of {self.workflow_id} does not begin with the start of a run")

    @classmethod
    def from_json(cls, workflow_id: str, text: str | bytes) -> Run:
        """Read what `to_json` or `temporal workflow show -o json` wrote; raises HistoryInvalid."""
        try:
            parsed = json.loads(text)
            return cls(workflow_id, WorkflowHistory.from_json(workflow_id, parsed))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ParseError) as error:
            raise HistoryInvalid(f"not a history of {workflow_id}: {str(error)[:200]}") from None

    def to_json(self) -> str:
        """The history as JSON, as the Temporal CLI writes it."""
        return self.history.to_json()

    @property
    def events(self) -> Sequence[HistoryEvent]:
        """The history's events, in order."""
        return self.history.events

    @cached_property
    def run_id(self) -> str:
        """The run's id; after a reset the history begins with the id of the run that was reset."""
        return self.reset.run_id if self.reset else self.history.run_id

    @cached_property
    def reset(self) -> Reset | None:
        """The reset that this run came from, the last one if there were several."""
        for event in reversed(self.events):
            failed = event.workflow_task_failed_event_attributes
            if failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW:
                at = instant(event.event_time)
                return Reset(event.event_id, at, failed.new_run_id, failed.identity, failed.failure.message)
        return None

    @cached_property
    def first_run_id(self) -> str:
        """The id of the first run of its continue-as-new chain."""
        return self.events[0].workflow_execution_started_event_attributes.first_execution_run_id

    @cached_property
    def continued_from(self) -> str | None:
        """The id of the run before it in its chain, if there is one."""
        return self.events[0].workflow_execution_started_event_attributes.continued_execution_run_id or None

    @cached_property
    def start(self) -> SupervisorStart:
        """What the run was started with; raises HistoryInvalid when that is no supervisor's input."""
        payloads = self.events[0].workflow_execution_started_event_attributes.input.payloads
        try:
            return read_payload(payloads[0], SupervisorStart)
        except (IndexError, ValueError):
            raise HistoryInvalid(f"run {self.run_id} was not started as a supervisor") from None

    @cached_property
    def carried(self) -> SupervisorState | None:
        """The state that the run before handed over; raises HistoryInvalid when that is none."""
        if self.start.carried is None:
            return None
        try:
            return SupervisorState.model_validate(self.start.carried)
        except ValueError:
            raise HistoryInvalid(f"run {self.run_id} was handed no state of a supervisor") from None

    @property
    def replayable(self) -> WorkflowHistory:
        """The history up to the last workflow task that was completed: what has not been decided yet is left out."""
        if self.ending:
            return self.history
        completed = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
        last = max((at for at, event in enumerate(self.events, 1) if event.event_type == completed), default=1)
        return WorkflowHistory(self.workflow_id, list(self.events[:last]))

    @property
    def started_at(self) -> datetime:
        """When the run began."""
        return instant(self.events[0].event_time)

    @property
    def began_at(self) -> datetime:
        """From when on it was the run that answered: its start, or the reset that it came from."""
        return self.reset.at if self.reset else self.started_at

    @property
    def last_at(self) -> datetime:
        """The time of its last event."""
        return instant(self.events[-1].event_time)

    @property
    def ending(self) -> str | None:
        """How it ended: continued_as_new, released, terminated, ...; None while it runs, or where that is not kept."""
        return _CLOSING.get(self.events[-1].event_type)

    @cached_property
    def activities(self) -> list[ActivityRecord]:
        """Every activity in the order of its scheduling."""
        return list(_activities(self.events))

    @cached_property
    def tasks(self) -> list[tuple[int, datetime]]:
        """The completed workflow tasks: the id of their started event, and when they were completed."""
        completed = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
        return [
            (event.workflow_task_completed_event_attributes.started_event_id, instant(event.event_time))
            for event in self.events
            if event.event_type == completed
        ]

    def task_done_at(self, event_id: int) -> datetime | None:
        """When the workflow task that handled the event of this id was completed: known from then on."""
        return next((done for started, done in self.tasks if started > event_id), None)


def chains(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs grouped by continue-as-new chain, in the order in which they began."""
    grouped: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.began_at):
        grouped.setdefault(run.first_run_id, []).append(run)
    return list(grouped.values())


def _activities(events: Sequence[HistoryEvent]) -> Iterator[ActivityRecord]:
    known: dict[int, ActivityRecord] = {}
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            known[event.event_id] = _scheduled(event)
        elif event.event_type in _FOLLOWING:
            attributes = getattr(event, _FOLLOWING[event.event_type])
            record = known.get(attributes.scheduled_event_id)
            if record is not None:
                _follow(record, event, attributes)
    yield from known.values()


def _scheduled(event: HistoryEvent) -> ActivityRecord:
    attributes = event.activity_task_scheduled_event_attributes
    return ActivityRecord(
        name=attributes.activity_type.name,
        event_id=event.event_id,
        scheduled_at=instant(event.event_time),
        input=_first(attributes.input),
        task_queue=attributes.task_queue.name,
    )


_FOLLOWING = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED: "activity_task_started_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "activity_task_completed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "activity_task_failed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "activity_task_timed_out_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: "activity_task_canceled_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED: "activity_task_cancel_requested_event_attributes",
}


def _follow(record: ActivityRecord, event: HistoryEvent, attributes: object) -> None:
    at = instant(event.event_time)
    match event.event_type:
        case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            record.started_at, record.attempts = at, max(1, started.attempt)
            record.retried_for = failure_text(started.last_failure)
        case EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED:
            record.cancel_requested = event.event_id
        case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            record.outcome, record.closed_at, record.closed_event = "completed", at, event.event_id
            record.result = _first(event.activity_task_completed_event_attributes.result)
        case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
            record.outcome, record.closed_at, record.closed_event = "failed", at, event.event_id
            record.failure = failure_text(event.activity_task_failed_event_attributes.failure)
        case EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
            record.outcome, record.closed_at, record.closed_event = "timed_out", at, event.event_id
            record.failure = failure_text(event.activity_task_timed_out_event_attributes.failure)
        case EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
            record.outcome, record.closed_at, record.closed_event = "cancelled", at, event.event_id


def _first(payloads: Payloads) -> Payload | None:
    return payloads.payloads[0] if payloads.payloads else None


_TIMEOUTS = {
    TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START: "no worker took the task in time",
    TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE: "it took too long",
    TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE: "there was no result in time",
    TimeoutType.TIMEOUT_TYPE_HEARTBEAT: "its worker was not heard of any more",
}


def failure_text(failure: Failure) -> str:
    """A failure in one line; empty for none."""
    if failure.HasField("timeout_failure_info"):
        return _TIMEOUTS.get(failure.timeout_failure_info.timeout_type, failure.message)
    return failure.message
