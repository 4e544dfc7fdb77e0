"""The worker process as a whole: its queues, and a real loop supervised through the local transport."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle

from contract.identifiers import (
    control_task_queue,
    local_task_queue,
    notices_task_queue,
    observe_task_queue,
    workflow_id,
)
from contract.observation import Target
from contract.status import Lifecycle, StatusReport
from contract.supervision import SupervisorStart
from sprite.standin import install_runtime, prepare_repo
from tests.worker.tiny import eventually
from worker import workers
from worker.connection import connect
from worker.embedded import EmbeddedTemporal
from worker.errors import SettingsInvalid
from worker.local import LocalSprite, known_secrets
from worker.pollers import find_pollers
from worker.run import run_worker
from worker.settings import Settings, load_settings
from workflows.supervisor import LoopSupervisor

SPRITE = "acme"


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalSprite]:
    runtime = install_runtime(tmp_path / "bin")
    repo = prepare_repo(tmp_path / "repo")
    with LocalSprite.open(SPRITE, repo, binary=str(runtime), state_dir=tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(task_queue=f"test-{uuid.uuid4()}", data_folder=tmp_path, max_loops=50)


@asynccontextmanager
async def working(client: Client, settings: Settings, local: LocalSprite, **kwargs: bool) -> AsyncIterator[None]:
    stop, ready = asyncio.Event(), asyncio.Event()
    run = run_worker(client, settings, stop=stop, local=local, on_ready=ready.set, **kwargs)
    running = asyncio.create_task(run)
    await asyncio.wait({running, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
    assert ready.is_set(), running
    try:
        yield
    finally:
        stop.set()
        await running


def queues(settings: Settings) -> dict[str, str]:
    base = settings.task_queue
    return {
        "workflows": base,
        "observe": observe_task_queue(base),
        "control": control_task_queue(base),
        "notices": notices_task_queue(base),
        "local": local_task_queue(base, SPRITE),
    }


async def polled(client: Client, settings: Settings) -> set[str]:
    return {name for name, queue in queues(settings).items() if await find_pollers(client, queue)}


async def test_ready_worker_polls_every_queue(
    temporal: EmbeddedTemporal, settings: Settings, local: LocalSprite
) -> None:
    async with connect(temporal.target) as client, working(client, settings, local):
        assert await polled(client, settings) == {"workflows", "observe", "control", "notices", "local"}


async def test_worker_inside_the_sprite_polls_its_local_queue_only(
    temporal: EmbeddedTemporal, settings: Settings, local: LocalSprite
) -> None:
    async with connect(temporal.target) as client, working(client, settings, local, local_only=True):
        assert await polled(client, settings) == {"local"}


async def test_local_only_worker_without_a_sprite_is_refused(client: Client, settings: Settings) -> None:
    with pytest.raises(ValueError, match="needs the sprite"):
        await run_worker(client, settings, stop=asyncio.Event(), local_only=True)


async def test_supervision_goes_on_after_a_graceful_restart_at_the_first_attempt(
    temporal: EmbeddedTemporal, settings: Settings, local: LocalSprite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_WORKFLOWS_FIRST_S", 30.0)  # the order of the ends is what counts, not this machine
    async with connect(temporal.target) as client:
        start = SupervisorStart(
            target=Target(sprite=SPRITE, loop_id="demo"), task_queue=settings.task_queue, local_only=True
        )
        async with working(client, settings, local):
            handle = await client.start_workflow(
                LoopSupervisor.run, start, id=workflow_id(SPRITE, "demo"), task_queue=settings.task_queue
            )
            await eventually(lambda: is_observed(handle), "an observer runs")
        async with working(client, settings, local):
            await eventually(lambda: is_observed(handle), "an observer runs again")
            await run_loop(local)
            await eventually(lambda: has_lifecycle(handle, Lifecycle.COMPLETE), "the loop is seen to complete")
        history = [event async for event in handle.fetch_history_events()]
        started = [e.activity_task_started_event_attributes for e in history if is_activity_start(e.event_type)]
        assert {attributes.attempt for attributes in started} == {1}
        assert not any(e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED for e in history)
        await handle.terminate()


def is_activity_start(event_type: int) -> bool:
    return event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED


async def is_observed(handle: WorkflowHandle[LoopSupervisor, None]) -> bool:
    pending = (await handle.describe()).raw_description.pending_activities
    return [activity.state for activity in pending] == [2]  # PENDING_ACTIVITY_STATE_STARTED


async def has_lifecycle(handle: WorkflowHandle[LoopSupervisor, None], lifecycle: Lifecycle) -> bool:
    report = await handle.query("status", result_type=StatusReport)
    return report.lifecycle is lifecycle


async def run_loop(local: LocalSprite) -> None:
    argv = [str(local.controller.binary), "run", "--repo", str(local.repo), "--loop", "demo"]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("sprite", "repo", "binary", "expected"),
    [
        ("a/b", ".", None, "sprite name"),
        (SPRITE, "gone", None, "gone"),
        (SPRITE, ".", "no-such-superloop.sh", "SUPERLOOP_BIN"),
        (SPRITE, ".", "/bin/false", "--version"),
    ],
)
def test_sprite_that_cannot_be_served_is_refused_at_the_start(
    tmp_path: Path, sprite: str, repo: str, binary: str | None, expected: str
) -> None:
    with pytest.raises(SettingsInvalid, match=expected):
        LocalSprite.open(sprite, tmp_path / repo, binary=binary, state_dir=tmp_path / "state")


def test_known_secrets_are_those_that_settings_flags_and_environment_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("ACME_TOKEN", "from-environment")
    sprites = {"acme": {"service_url": "http://acme", "token": "env:ACME_TOKEN", "edge_auth": "env:NOT_SET_HERE"}}
    settings = load_settings(sprites=sprites)
    found = known_secrets(settings, [f"file:{tmp_path}/token"], {"TEMPORAL_API_KEY": "api-key"})
    assert sorted(found) == ["api-key", "from-environment", "from-file"]


async def test_worker_says_before_it_runs_that_the_proxy_cannot_be_used(
    temporal: EmbeddedTemporal, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    async with connect(temporal.target) as client:
        with pytest.raises(SettingsInvalid, match="ALL_PROXY"):
            await run_worker(client, settings, stop=asyncio.Event())
