"""Who sent what: messages in a history with the identity of the client that sent them, which nobody can type.

`by` in a message is a label that its sender chose. The identity beside it is what Temporal noted of the process that
sent it, such as `temporal-cli:ana@laptop`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from contract.status import UpdateName
from incidents.history import Run, instant


@dataclass(frozen=True)
class Sent:
    """A message: its number among all messages of the supervisor, by which its record is found."""

    sequence: int
    name: str
    identity: str
    at: datetime
    event_id: int


def sent(run: Run) -> list[Sent]:
    """The signals and updates of a run in the order in which the workflow handled them."""
    before = run.start.carried.get("messages") if run.start.carried else 0
    first = before if isinstance(before, int) else 0
    found = sorted(_messages(run.events), key=lambda entry: entry[0])
    return [
        Sent(first + number, name, identity, instant(event.event_time), event.event_id)
        for number, (_, name, identity, event) in enumerate(found, 1)
    ]


def _messages(events: Sequence[HistoryEvent]) -> list[tuple[float, str, str, HistoryEvent]]:
    found = []
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            signal = event.workflow_execution_signaled_event_attributes
            found.append((float(event.event_id), signal.signal_name, signal.identity, event))
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
            accepted = event.workflow_execution_update_accepted_event_attributes
            name = accepted.accepted_request.input.name
            if name != UpdateName.OBSERVE_NOW:
                # It is written down after the task that handled it, but came before that task began.
                order = accepted.accepted_request_sequencing_event_id + 0.5
                found.append((order, name, accepted.accepted_request.meta.identity, event))
    return found


def starter(run: Run) -> str:
    """The identity of whoever began the supervision."""
    return run.events[0].workflow_execution_started_event_attributes.identity


def ender(run: Run) -> tuple[str, str]:
    """The identity of whoever released or terminated the supervisor, and the reason given; empty where nobody did."""
    for event in reversed(run.events):
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
            terminated = event.workflow_execution_terminated_event_attributes
            return terminated.identity, terminated.reason
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
            cancelled = event.workflow_execution_cancel_requested_event_attributes
            return cancelled.identity, cancelled.cause
    return "", ""
