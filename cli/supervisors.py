"""What Temporal knows about supervisors: rows from search attributes, answers of the workflow, pollers.

Two sources, never mixed up: visibility answers always and at once, but is as old as `observed_at`; a query is as new
as the workflow itself, and needs a worker that polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import ValidationError
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionDescription,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode

from contract.errors import IdentifierInvalid
from contract.identifiers import split_workflow_id
from contract.observation import ActivityName, ObserveHeartbeat
from contract.status import WORKFLOW_TYPE, Attention, Lifecycle, QueryName, SearchAttribute, StatusReport, UpdateName
from worker.connection import QUERY_TIMEOUT, RPC_TIMEOUT
from worker.pollers import find_pollers

RUNNING = f"WorkflowType = '{WORKFLOW_TYPE}' AND ExecutionStatus = 'Running'"
"""Always with the status: the SDK cannot read a list that holds a paused execution."""
POLL_AGE_LIMIT = timedelta(seconds=75)
"""A poll lasts up to 60 s, so a worker that lives has begun one within this."""

LOOK_TIMEOUT = timedelta(seconds=12)
"""A little longer than a supervisor takes at most to look at its loop."""
NOBODY_POLLS = "no worker polls its task queue"
NEW_POLLER_S = 0.7
"""A worker that has just begun, or a server that has, does not know of its polls yet."""

_URGENCY = {attention: rank for rank, attention in enumerate(Attention)}
_NO_ANSWER = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.FAILED_PRECONDITION)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Row:
    """One supervised loop as its search attributes tell it; `observed_at` says as of when."""

    workflow_id: str
    run_id: str
    task_queue: str
    sprite: str
    loop_id: str
    status: Lifecycle = Lifecycle.UNKNOWN
    attention: Attention = Attention.NONE
    transport: str = ""
    observed_at: datetime | None = None
    sprite_id: str | None = None

    @property
    def name(self) -> str:
        """`sprite/loop`."""
        return f"{self.sprite}/{self.loop_id}"


@dataclass(frozen=True)
class Absence:
    """No worker answers. `since` is the last sign of one; None when the server remembers none."""

    since: datetime | None
    detail: str


class NoAnswer(Exception):
    """A query that no worker answered in time; `str()` says how that showed."""


def row_of(execution: WorkflowExecution) -> Row | None:
    """The row of an execution; None when its id is no supervisor's."""
    try:
        sprite, loop_id = split_workflow_id(execution.id)
    except IdentifierInvalid:
        return None
    found = {pair.key.name: pair.value for pair in execution.typed_search_attributes.search_attributes}
    observed = found.get(SearchAttribute.LOOP_OBSERVED_AT)
    return Row(
        workflow_id=execution.id,
        run_id=execution.run_id,
        task_queue=execution.task_queue,
        sprite=sprite,
        loop_id=loop_id,
        # A newer supervisor may know more words than this command.
        status=_known(Lifecycle, found.get(SearchAttribute.LOOP_STATUS), Lifecycle.UNKNOWN),
        attention=_known(Attention, found.get(SearchAttribute.LOOP_ATTENTION), Attention.NONE),
        transport=str(found.get(SearchAttribute.LOOP_TRANSPORT, "")),
        observed_at=observed.astimezone(UTC) if isinstance(observed, datetime) else None,
        sprite_id=found.get(SearchAttribute.SPRITE_ID),
    )


def _known(kind: type[_T], value: object, otherwise: _T) -> _T:
    try:
        return kind(value)  # type: ignore[call-arg]
    except ValueError:
        return otherwise


def by_attention(rows: Iterable[Row]) -> list[Row]:
    """The most urgent first (the order of `Attention`), then by name."""
    return sorted(rows, key=lambda row: (_URGENCY[row.attention], row.sprite, row.loop_id))


async def running_supervisors(client: Client, condition: str = "") -> list[Row]:
    """The rows of all running supervisors for which the visibility `condition` holds."""
    query = f"{RUNNING} AND {condition}" if condition else RUNNING
    found = [row_of(execution) async for execution in client.list_workflows(query, rpc_timeout=RPC_TIMEOUT)]
    return [row for row in found if row is not None]


def quoted(text: str) -> str:
    """`text` as a string literal of a visibility query."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


async def describe(client: Client, workflow_id: str) -> WorkflowExecutionDescription | None:
    """The execution's description, or None when there is none of that id."""
    try:
        return await client.get_workflow_handle(workflow_id).describe(rpc_timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def query(client: Client, workflow_id: str, name: QueryName, result: type[_T], within_s: float) -> _T:
    """The workflow's answer to a query; raises NoAnswer when none came within `within_s` seconds."""
    handle = client.get_workflow_handle(workflow_id)
    try:
        # Both, because the server may take a second over its own refusal.
        return await asyncio.wait_for(
            handle.query(name.value, result_type=result, rpc_timeout=timedelta(seconds=within_s)), within_s + 0.1
        )
    except TimeoutError:
        raise NoAnswer(f"no answer within {within_s:.1f} s") from None
    except WorkflowQueryFailedError as error:
        raise NoAnswer(f"the supervisor could not answer: {error}") from None
    except ValidationError:
        raise NoAnswer(
            "the supervisor's answer is of another version: update the older of worker and command"
        ) from None
    except RPCError as error:
        if error.status not in _NO_ANSWER:
            raise
        nobody = error.status is RPCStatusCode.FAILED_PRECONDITION
        raise NoAnswer(NOBODY_POLLS if nobody else f"no answer within {within_s:.1f} s") from None


async def ask_status(
    client: Client, row: Row, *, within_s: float = QUERY_TIMEOUT.total_seconds()
) -> StatusReport | Absence:
    """The supervisor's report, or why there is none; given up soon when the server knows of no poller."""
    asked = asyncio.create_task(query(client, row.workflow_id, QueryName.STATUS, StatusReport, within_s))
    polls = asyncio.create_task(last_poll(client, row.task_queue))
    try:
        await asyncio.wait({asked, polls}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done() and await polls is None:
            await asyncio.wait({asked}, timeout=NEW_POLLER_S)
            if not asked.done():
                return Absence(None, NOBODY_POLLS)
        try:
            return await asked
        except NoAnswer as error:
            last = await polls
            return Absence(last, str(error) if last else NOBODY_POLLS)
    finally:
        await _drop(asked, polls)


async def look_now(client: Client, row: Row) -> StatusReport | Absence:
    """The supervisor's report after a look at the loop now, or as it is where that takes long; or why there is none."""
    answer = await ask_status(client, row)
    if isinstance(answer, Absence):
        return answer
    handle = client.get_workflow_handle(row.workflow_id)
    with suppress(RPCError, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError):
        answer = await handle.execute_update(UpdateName.OBSERVE_NOW, result_type=StatusReport, rpc_timeout=LOOK_TIMEOUT)
    return answer


async def worker_absence(client: Client, rows: Iterable[Row], *, within_s: float) -> Absence | None:
    """Whether the supervisors of `rows` lack a worker: None when one answers for any of them.

    The server remembers a poller for minutes after its death, so one that was seen lately is put to the proof: three
    supervisors are asked, because one alone may be stuck for a reason of its own.
    """
    sample = list(rows)[:3]
    if not sample:
        return None
    asked = [asyncio.create_task(ask_status(client, row, within_s=within_s)) for row in sample]
    absence: Absence | None = None
    try:
        for answer in asyncio.as_completed(asked):
            found = await answer
            if not isinstance(found, Absence):
                return None
            absence = found
        return absence
    finally:
        await _drop(*asked)


async def _drop(*tasks: asyncio.Task[object] | asyncio.Task[StatusReport] | asyncio.Task[datetime | None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def last_poll(client: Client, task_queue: str) -> datetime | None:
    """When a worker last began to poll this queue; None: not in the last five minutes."""
    pollers = await find_pollers(client, task_queue)
    return pollers[0].last_access if pollers else None


def is_recent(poll: datetime | None) -> bool:
    """Whether a worker that began its last poll then may still be polling, by this machine's clock."""
    return poll is not None and datetime.now(UTC) - poll <= POLL_AGE_LIMIT


def observer_heartbeat(client: Client, description: WorkflowExecutionDescription) -> ObserveHeartbeat | None:
    """The details of the observer's last heartbeat: contact that was no news; None when there is none to read."""
    for activity in description.raw_description.pending_activities:
        if activity.activity_type.name != ActivityName.OBSERVE or not activity.heartbeat_details.payloads:
            continue
        # Written by any version of the worker: details that cannot be read tell nothing.
        with suppress(Exception):
            payload = activity.heartbeat_details.payloads[0]
            converter = client.data_converter.payload_converter
            return converter.from_payload(payload, ObserveHeartbeat)
    return None


def stuck_attempts(description: WorkflowExecutionDescription) -> int:
    """How often the supervisor's current workflow task failed: above 0, its worker cannot run it."""
    task = description.raw_description.pending_workflow_task
    return max(0, task.attempt - 1)
