"""Workers from their making to a shutdown that costs no activity attempt."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from worker.errors import WorkerStopped
from worker.pollers import wait_for_pollers

_LOG = logging.getLogger(__name__)

HEARTBEAT_THROTTLE = timedelta(seconds=10)
"""Longest time between two heartbeats of an activity: within it, an activity learns that it was cancelled. With
thousands of observers every second of it counts on the server."""
OVERLAP_SLOTS = 100
"""An observer that was replaced lives on until its next heartbeat, beside its successor."""
OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""A page of events is tens of thousands of objects for a moment. At the interpreter's 700 the collector would go over
all that lives some hundred times in that moment: a sixth of the time that a backlog takes."""
_WORKFLOWS_FIRST_S = 3.0
_SHUTDOWN_MARGIN_S = 5.0
"""A server that answers nothing, not even that it is gone, would hold up the SDK for 30 s."""

Activity = Callable[..., Any]


def workflow_worker(client: Client, task_queue: str, *, max_loops: int) -> Worker:
    """The worker that supervises: workflows only, as the client's plugin brings them, all of them cached."""
    # A cache smaller than the number of loops replays whole histories at every signal.
    return Worker(client, task_queue=task_queue, max_cached_workflows=max(max_loops, 10))


def activity_worker(
    client: Client, task_queue: str, activities: Sequence[Activity], *, slots: int, grace: timedelta
) -> Worker:
    """A worker of activities only; `grace` is what running ones get to return by themselves at shutdown."""
    return Worker(
        _without_plugins(client),
        task_queue=task_queue,
        activities=activities,
        max_concurrent_activities=slots,
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=grace,
    )


def _without_plugins(client: Client) -> Client:
    """The same client (its data converter included) whose workers do not inherit the plugin's workflows."""
    config = client.config(active_config=True)
    config["plugins"] = []
    return Client(**config)


async def serve(
    workers: Sequence[Worker], stop: asyncio.Event, on_ready: Callable[[], None], *, grace: timedelta
) -> None:
    """Run `workers` until `stop` is set, then shut them down; returns when that is done.

    `on_ready` is called once, when the server shows a poller of each, or has answered for some seconds without showing
    it (`wait_for_pollers`); nothing that workers do waits for it. `grace` is the longest that any of them was
    given. Raises WorkerStopped when a worker ends by itself; the others are shut down first.
    """
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    tasks = {asyncio.create_task(worker.run(), name=worker.task_queue): worker for worker in workers}
    stopping = asyncio.create_task(stop.wait())
    announcing = asyncio.create_task(_announce(workers, on_ready))
    try:
        done, _ = await asyncio.wait({*tasks, stopping, announcing}, return_when=asyncio.FIRST_COMPLETED)
        if done == {announcing} and not _error_of(announcing):
            await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (stopping, announcing):
            task.cancel()
        await asyncio.gather(stopping, announcing, return_exceptions=True)
        await _shut_down(tasks, grace)
    for task, worker in tasks.items():
        error = _error_of(task)
        if error:
            raise WorkerStopped(f"the worker on task queue {worker.task_queue!r} stopped: {error}") from error
    error = _error_of(announcing)
    if error:
        raise error


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


async def _announce(workers: Sequence[Worker], on_ready: Callable[[], None]) -> None:
    await asyncio.gather(
        *(wait_for_pollers(worker.client, worker.task_queue, worker.client.identity) for worker in workers)
    )
    on_ready()


async def _shut_down(tasks: dict[asyncio.Task[None], Worker], grace: timedelta) -> None:
    activities = [task for task, worker in tasks.items() if worker.config().get("activities")]
    workflows = [task for task in tasks if task not in activities]
    # Workflows first: the results that observers hand over at their shutdown then wait for the next worker, instead
    # of being answered with observers that nobody would run.
    ending = [asyncio.create_task(tasks[task].shutdown()) for task in workflows]
    if workflows:
        await asyncio.wait(workflows, timeout=_WORKFLOWS_FIRST_S)
    ending += [asyncio.create_task(tasks[task].shutdown()) for task in activities]
    _, late = await asyncio.wait(tasks, timeout=grace.total_seconds() + _SHUTDOWN_MARGIN_S)
    for task in late:
        _LOG.error("the worker on task queue %s was cut off: Temporal did not answer its farewell", task.get_name())
        task.cancel()
    for waiting in ending:
        waiting.cancel()
    await asyncio.gather(*ending, *tasks, return_exceptions=True)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM, SIGINT or a closed terminal sets; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            sys.stderr.write(f"\n{number.name} again: ending at once, running activities are cut off\n")
            sys.stderr.flush()
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # nohup ignores SIGHUP, and a background job of a plain shell SIGINT: they mean it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, on_signal, number)
    return stop


def raise_file_limit(max_loops: int) -> bool:
    """Allow the process a connection per loop and some more; False (and a warning) if the system allows fewer."""
    wanted = 2 * max_loops + 1_024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _LOG.warning(
            "this system allows %d open files and %d loops may need %d: raise `ulimit -Hn` or lower max_loops",
            allowed,
            max_loops,
            wanted,
        )
    return allowed >= wanted
