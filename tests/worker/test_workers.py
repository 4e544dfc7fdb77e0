"""Workers: ready when the server knows them, gone without costing an activity attempt."""

import asyncio
import os
import resource
import signal
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from tests.worker.tiny import NEWS, PYTHON, ROOT, Observing, eventually, start_holder, watch
from worker import pollers
from worker.connection import Target, connect
from worker.embedded import EmbeddedTemporal
from worker.errors import WorkerStopped
from worker.pollers import find_pollers
from worker.workers import activity_worker, raise_file_limit, serve

GRACE = timedelta(seconds=10)


def workers_for(client: Client, queue: str) -> list[Worker]:
    """What a process runs: a worker of workflows and one of activities, on queues of their own."""
    return [
        Worker(client, task_queue=queue, workflows=[Observing]),
        activity_worker(client, f"{queue}-observe", [watch], slots=10, grace=GRACE),
    ]


@asynccontextmanager
async def serving(client: Client, queue: str) -> AsyncIterator[asyncio.Event]:
    """Workers that are ready, until the block ends or the event is set."""
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(serve(workers_for(client, queue), stop, ready.set, grace=GRACE))
    await asyncio.wait_for(ready.wait(), 30)
    try:
        yield stop
    finally:
        stop.set()
        await running


async def is_watched(handle: WorkflowHandle[Observing, list[str]]) -> bool:
    pending = (await handle.describe()).raw_description.pending_activities
    return [activity.state for activity in pending] == [2]  # PENDING_ACTIVITY_STATE_STARTED


async def event_types(handle: WorkflowHandle[Observing, list[str]]) -> list[int]:
    return [event.event_type async for event in handle.fetch_history_events()]


async def test_ready_is_said_when_the_server_knows_every_queue(client: Client) -> None:
    queue = f"tiny-{uuid.uuid4()}"
    assert await find_pollers(client, queue) == []
    async with serving(client, queue):
        for name in (queue, f"{queue}-observe"):
            assert [poller.identity for poller in await find_pollers(client, name)] == [client.identity]


async def test_worker_whose_poll_the_server_does_not_show_is_ready_after_a_bounded_wait(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pollers, "SHOWN_WITHIN_S", 0.3)
    queue = f"tiny-{uuid.uuid4()}"
    # As if each poll had gone to another partition than the one that the server looks at.
    monkeypatch.setattr(pollers, "find_pollers", nobody := AsyncMock(return_value=[]))
    async with serving(client, queue):
        assert nobody.await_count >= 2


async def test_worker_is_not_called_ready_while_the_server_is_away(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pollers, "SHOWN_WITHIN_S", 0.0)
    away = RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")
    monkeypatch.setattr(pollers, "find_pollers", answers := AsyncMock(side_effect=[away, away, away, []]))
    await asyncio.wait_for(pollers.wait_for_pollers(client, "tiny", "nobody"), 30)
    assert answers.await_count == 4


async def test_shutdown_costs_no_activity_attempt_and_takes_no_grace(client: Client) -> None:
    queue = f"tiny-{uuid.uuid4()}"
    handle = await client.start_workflow(Observing.run, f"{queue}-observe", id=queue, task_queue=queue)
    async with serving(client, queue) as stop:
        await eventually(lambda: is_watched(handle), "an observer runs")
        began = time.monotonic()
        stop.set()
    assert time.monotonic() - began < GRACE.total_seconds() / 2
    async with serving(client, queue):
        await eventually(lambda: is_watched(handle), "an observer runs again")
        (pending,) = (await handle.describe()).raw_description.pending_activities
        assert pending.attempt == 1
        NEWS.put_nowait("end")
        assert await handle.result() == ["worker leaves", "end"]
    history = await event_types(handle)
    assert EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT not in history
    assert EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED not in history
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in history
    started = [event async for event in handle.fetch_history_events() if event.event_type == 11]
    assert [event.activity_task_started_event_attributes.attempt for event in started] == [1, 1]


async def test_shutdown_while_the_server_is_gone_ends_at_once_and_keeps_stdout_clean(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    holder, address, server = await start_holder(tmp_path, "bound")
    async with connect(Target(address), plugins=[]) as client:
        async with serving(client, "tiny"):
            holder.kill()
            os.kill(server, signal.SIGKILL)
            await holder.wait()
            began = time.monotonic()
        assert time.monotonic() - began < 5
    # The SDK core may complain that it could not say good-bye, by its own choice on stdout, where commands print data.
    assert capfd.readouterr().out == ""


@pytest.mark.slow
async def test_shutdown_while_the_server_hangs_ends_after_the_grace(tmp_path: Path) -> None:
    async with EmbeddedTemporal(tmp_path) as server, connect(server.target, plugins=[]) as client:
        async with serving(client, "tiny"):
            assert server.pid
            frozen, began = server.pid, time.monotonic()
            os.kill(frozen, signal.SIGSTOP)
        assert time.monotonic() - began < GRACE.total_seconds() + 12
        os.kill(frozen, signal.SIGCONT)


async def test_worker_that_the_server_refuses_ends_the_others_and_says_which(client: Client) -> None:
    elsewhere = client.config()
    elsewhere["namespace"] = f"gone-{uuid.uuid4()}"
    queue = f"tiny-{uuid.uuid4()}"
    workers = [*workers_for(client, queue), *workers_for(Client(**elsewhere), "refused")]
    with pytest.raises(WorkerStopped, match="refused"):
        await serve(workers, asyncio.Event(), lambda: None, grace=GRACE)
    assert not any(worker.is_running for worker in workers)


async def test_caller_that_fails_when_told_ready_ends_the_workers(client: Client) -> None:
    def fail() -> None:
        raise OSError("the terminal is gone")

    workers = workers_for(client, f"tiny-{uuid.uuid4()}")
    with pytest.raises(OSError, match="the terminal is gone"):
        await serve(workers, asyncio.Event(), fail, grace=GRACE)
    assert not any(worker.is_running for worker in workers)


async def test_activity_worker_takes_no_workflows_from_the_plugin(temporal: EmbeddedTemporal) -> None:
    async with connect(temporal.target) as client:
        worker = activity_worker(client, "tiny", [watch], slots=10, grace=GRACE)
        assert worker.config(active_config=True).get("workflows") == []
        assert worker.config(active_config=True)["client"].data_converter is client.data_converter


def test_file_limit_is_raised_as_far_as_needed_and_allowed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert raise_file_limit(max_loops=100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1_224
        assert not raise_file_limit(max_loops=hard)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


SIGNALLED = """
import asyncio
from worker.workers import stop_on_signals

async def main():
    stop = stop_on_signals()
    print("ready", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_first_signal_stops_and_second_ends_at_once(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-c", SIGNALLED, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        async with asyncio.timeout(30):
            assert (await process.stdout.readline()).strip() == b"ready"
            process.send_signal(number)
            assert (await process.stdout.readline()).strip() == b"stopping"
            process.send_signal(number)
            _, talk = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 128 + number
    assert b"again" in talk
