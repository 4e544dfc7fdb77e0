"""Small workflows and activities, and waiting for conditions: what the tests of this folder supervise with."""

import asyncio
import sys
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import psutil
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle

from worker.server_state import database_path, serving_processes

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable


@workflow.defn
class Waiting:
    """Waits for one signal and returns what it said."""

    def __init__(self) -> None:
        self.word = ""

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: bool(self.word))
        return self.word

    @workflow.signal
    def say(self, word: str) -> None:
        self.word = word


@workflow.defn
class Observing:
    """Keeps one long activity outstanding, until told that there is nothing more to see."""

    def __init__(self) -> None:
        self.batches: list[str] = []

    @workflow.run
    async def run(self, activity_queue: str) -> list[str]:
        while self.batches[-1:] != ["end"]:
            batch = await workflow.execute_activity(
                watch,
                task_queue=activity_queue,
                heartbeat_timeout=timedelta(seconds=30),
                start_to_close_timeout=timedelta(hours=1),
            )
            self.batches.append(batch)
        return self.batches

    @workflow.query
    def seen(self) -> list[str]:
        return self.batches


NEWS: "asyncio.Queue[str]" = asyncio.Queue()


@activity.defn
async def watch() -> str:
    """Returns upon news, or an empty batch when its worker shuts down: the cooperation that costs no attempt."""
    news = asyncio.create_task(NEWS.get())
    leaving = asyncio.create_task(activity.wait_for_worker_shutdown())
    activity.heartbeat()
    try:
        await asyncio.wait({news, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return news.result() if news.done() else "worker leaves"
    finally:
        news.cancel()
        leaving.cancel()


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, within_s: float = 30.0) -> None:
    """Wait until `condition` holds; fails naming `what` did not happen."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + within_s
    while not await condition():
        assert loop.time() < give_up_at, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.05)


async def start_waiting(client: Client) -> WorkflowHandle[Waiting, str]:
    """A running workflow that nobody works on yet."""
    return await client.start_workflow(Waiting.run, id=f"waiting-{uuid.uuid4()}", task_queue="tiny")


def servers_of(data_folder: Path) -> list[psutil.Process]:
    """Processes that serve the database of this folder."""
    return list(serving_processes(database_path(data_folder)))


HOLDER = """
import asyncio, sys
from pathlib import Path
from worker.embedded import EmbeddedTemporal

async def main():
    folder, ends_with_parent = Path(sys.argv[1]), sys.argv[2] == "bound"
    async with EmbeddedTemporal(folder, ends_with_parent=ends_with_parent) as server:
        print(server.address, server.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def start_holder(data_folder: Path, binding: str) -> tuple[asyncio.subprocess.Process, str, int]:
    """Another process that holds an embedded server (`bound` to it or `unbound`): it, its address, its pid."""
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-c", HOLDER, str(data_folder), binding, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    address, pid = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().split()
    return process, address, int(pid)
