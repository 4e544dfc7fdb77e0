"""Who polls a task queue: how anybody sees, from anywhere, whether a worker is there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from worker.connection import RPC_TIMEOUT

SHOWN_WITHIN_S = 3.0
"""A poller that is going to be shown soon is shown within a second."""
_POLL_S = 0.2
_TYPES = (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)


@dataclass(frozen=True)
class Poller:
    """A worker that asked a queue for tasks; the server forgets it five minutes after it asked last.

    A poll waits for up to a minute, so `last_access` (UTC, the server's clock) of a live worker is that old at most.
    """

    identity: str
    last_access: datetime


async def find_pollers(client: Client, task_queue: str) -> list[Poller]:
    """Workers that poll this queue for workflows or activities, the one seen last first; may raise RPCError."""
    found: dict[str, Poller] = {}
    for queue_type in _TYPES:
        request = DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=task_queue), task_queue_type=queue_type
        )
        answer = await client.workflow_service.describe_task_queue(request, timeout=RPC_TIMEOUT)
        for poller in answer.pollers:
            seen = Poller(poller.identity, poller.last_access_time.ToDatetime(tzinfo=UTC))
            known = found.get(seen.identity)
            if known is None or known.last_access < seen.last_access:
                found[seen.identity] = seen
    return sorted(found.values(), key=lambda poller: poller.last_access, reverse=True)


async def wait_for_pollers(client: Client, task_queue: str, identity: str) -> None:
    """Wait until the server shows a poller of this identity on the queue, or has not shown it for `SHOWN_WITHIN_S`.

    The server shows the pollers of one of the queue's four partitions, which hears of one poll on each of the others.
    Where several workers poll, one more is shown only when its poll, which waits for up to a minute, happens to go to
    the right one; it gets tasks all the same. For ever while the server is away; returns at once where the server does
    not let us look.
    """
    clock = asyncio.get_running_loop().time
    until: float | None = None
    while until is None or clock() < until:
        try:
            if any(poller.identity == identity for poller in await find_pollers(client, task_queue)):
                return
            until = until or clock() + SHOWN_WITHIN_S
        except RPCError as error:
            if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED):
                return
        await asyncio.sleep(_POLL_S)
