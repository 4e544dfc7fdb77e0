"""The worker process: which workers it has, on which queues, with which bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from activities.archive import ArchiveActivities
from activities.bundles import LocalActivities, ServiceActivities
from activities.deliver import NoticeActivities
from contract.archives import ARCHIVES_FOLDER
from contract.identifiers import control_task_queue, local_task_queue, notices_task_queue, observe_task_queue
from worker.bootstrap import ensure_search_attributes
from worker.local import LocalSprite
from worker.service_client import sprite_service_client
from worker.settings import Settings
from worker.workers import OVERLAP_SLOTS, activity_worker, raise_file_limit, serve, workflow_worker

CONTROL_GRACE = timedelta(seconds=50)
"""A command that has been sent is waited for at shutdown, rather than left in doubt: it may run for 30 s, its answer
may take 15 s more. Where none is running, this costs nothing."""
_CONTROL_SLOTS = 100
"""Commands and look-ups at a time. Probes hold a slot for up to an hour each, so there is one more for every loop."""

_NOTICE_SLOTS = 100
"""Notices at a time. A receiver that hangs holds a slot for seconds, and then for minutes none."""


async def run_worker(
    client: Client,
    settings: Settings,
    *,
    stop: asyncio.Event,
    local: LocalSprite | None = None,
    local_only: bool = False,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Supervise until `stop` is set, then leave without costing an activity attempt.

    One worker each for workflows, observation, control, notices, and (with `local`) that sprite's local transport.
    `local_only` is for a worker inside the sprite: it serves nothing but its local queue. `client` has to be one of
    `worker.connection.connect`. `on_ready` is called when every queue has its poller, as far as the server shows.
    `local` is the caller's to close.

    Raises SearchAttributesMissing and SettingsInvalid before anything runs, and WorkerStopped when a worker ends by
    itself.
    """
    if local_only and local is None:
        raise ValueError("a worker that serves a local queue only needs the sprite whose queue that is")
    raise_file_limit(settings.max_loops)
    async with AsyncExitStack() as resources:
        workers = [] if local is None else [_local_worker(client, settings, local)]
        if not local_only:
            service = await resources.enter_async_context(sprite_service_client(_observers(settings)))
            await ensure_search_attributes(client)
            notices = await resources.enter_async_context(NoticeActivities())
            archives = ArchiveActivities(settings.data_folder / ARCHIVES_FOLDER)
            workers += _service_workers(client, settings, ServiceActivities(service), notices, archives)
        await serve(workers, stop, on_ready, grace=max(CONTROL_GRACE, settings.graceful_shutdown))


def _observers(settings: Settings) -> int:
    return settings.max_loops + OVERLAP_SLOTS


def _service_workers(
    client: Client,
    settings: Settings,
    service: ServiceActivities,
    notices: NoticeActivities,
    archives: ArchiveActivities,
) -> list[Worker]:
    queue = settings.task_queue
    # Observation and control never share a queue or a worker: a thousand observers must not starve a cancel.
    return [
        workflow_worker(client, queue, max_loops=settings.max_loops),
        activity_worker(
            client,
            observe_task_queue(queue),
            [service.observe],
            slots=_observers(settings),
            grace=settings.graceful_shutdown,
        ),
        activity_worker(
            client,
            control_task_queue(queue),
            [
                service.execute_control,
                service.look_up_control,
                service.probe,
                service.reconcile,
                service.chains,
                archives.archive,
            ],
            slots=settings.max_loops + _CONTROL_SLOTS,
            grace=CONTROL_GRACE,
        ),
        activity_worker(
            client,
            notices_task_queue(queue),
            [notices.deliver],
            slots=_NOTICE_SLOTS,
            grace=settings.graceful_shutdown,
        ),
    ]


def _local_worker(client: Client, settings: Settings, local: LocalSprite) -> Worker:
    activities = LocalActivities(local.reader, local.controller, local.sprite)
    return activity_worker(
        client,
        local_task_queue(settings.task_queue, local.sprite),
        [
            activities.observe,
            activities.execute_control,
            activities.look_up_control,
            activities.probe,
            activities.reconcile,
            activities.chains,
        ],
        slots=_observers(settings) + _CONTROL_SLOTS,
        grace=CONTROL_GRACE,
    )
