"""Counting transport failures across attempts, on a real Temporal server, with the production's retry settings."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities import client as client_module
from activities.bundles import ServiceActivities
from activities.client import SpriteServiceClient
from contract.observation import (
    ActivityName,
    CursorPosition,
    FailureType,
    Observation,
    ObserveHeartbeat,
    ObserveInput,
    ProbeInput,
    ProbeResult,
)
from sprite.processes import LoopRun, ScanResult
from tests.activities.support import append, ask, event_line, target, until
from tests.control.support import fake_runtime
from tests.harness_wire import Wire
from tests.http.support import running
from tests.peers import BasePeer, Fault
from worker.server_binary import find_binary

HEARTBEAT_TIMEOUT = timedelta(seconds=30)


@workflow.defn
class Watch:
    """One `observe`, as the supervisor starts it."""

    @workflow.run
    async def run(self, asked: ObserveInput) -> Observation:
        seen: Observation = await workflow.execute_activity(
            ActivityName.OBSERVE.value,
            asked,
            result_type=Observation,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10)),
        )
        return seen


@workflow.defn
class Probe:
    """One `probe`."""

    @workflow.run
    async def run(self, asked: ProbeInput) -> ProbeResult:
        result: ProbeResult = await workflow.execute_activity(
            ActivityName.PROBE.value,
            asked,
            result_type=ProbeResult,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
        )
        return result


@pytest.fixture(scope="module")
async def temporal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    binary = find_binary(tmp_path_factory.mktemp("temporal"))
    assert binary is not None, "no temporal program: make install brings one"
    async with await WorkflowEnvironment.start_local(
        data_converter=pydantic_data_converter, dev_server_existing_path=str(binary), dev_server_log_level="error"
    ) as environment:
        yield environment.client
    await asyncio.sleep(0.1)


@asynccontextmanager
async def worker(temporal: Client, queue: str, *activities: Any) -> AsyncIterator[None]:
    async with Worker(
        temporal,
        task_queue=queue,
        workflows=[Watch, Probe],
        activities=activities,
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_heartbeat_throttle_interval=timedelta(seconds=10),
        graceful_shutdown_timeout=timedelta(seconds=10),
    ):
        yield


async def start(temporal: Client, queue: str, asked: ObserveInput) -> WorkflowHandle[Any, Observation]:
    return await temporal.start_workflow(Watch.run, asked, id=f"{queue}-{time.monotonic_ns()}", task_queue=queue)


async def failure_of(handle: WorkflowHandle[Any, Any]) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, ActivityError)
    assert isinstance(failed.value.cause.cause, ApplicationError)
    return failed.value.cause.cause


def counting(
    bundle: ServiceActivities, attempts: list[ObserveHeartbeat | None], failed: list[int] | None = None
) -> Any:
    """`observe`, noting what each attempt inherits, and by number which of them failed."""

    @activity.defn(name=ActivityName.OBSERVE.value)
    async def observe(asked: ObserveInput) -> Observation:
        details = activity.info().heartbeat_details
        attempts.append(ObserveHeartbeat.model_validate(details[0]) if details else None)
        try:
            return await bundle.observe(asked)
        except ApplicationError:
            if failed is not None:
                failed.append(activity.info().attempt)
            raise

    return observe


async def test_a_refusing_service_is_exhausted_after_three_failures_within_ten_seconds(
    temporal: Client, client: SpriteServiceClient, peer: BasePeer
) -> None:
    peer.stop()
    attempts: list[ObserveHeartbeat | None] = []
    async with worker(temporal, "refused", counting(ServiceActivities(client), attempts)):
        began = time.monotonic()
        failure = await failure_of(await start(temporal, "refused", ask(target(peer))))
    assert time.monotonic() - began < 10
    assert failure.type == FailureType.TRANSPORT_EXHAUSTED.value
    assert failure.non_retryable
    assert "failed 3 times in a row since 20" in failure.message
    assert "cannot connect to http://127.0.0.1" in failure.message
    # The details given right before an attempt failed reached the next one.
    assert [inherited.transport_failures if inherited else 0 for inherited in attempts] == [0, 1, 2]
    assert attempts[2] is not None
    assert attempts[2].failing_since is not None
    assert "cannot connect" in (attempts[2].last_error or "")


async def test_a_silent_service_is_exhausted(
    temporal: Client, client: SpriteServiceClient, peer: BasePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "READ_MARGIN_S", 0.3)
    peer.fault = Fault.HANG
    async with worker(temporal, "silent", ServiceActivities(client).observe):
        failure = await failure_of(await start(temporal, "silent", ask(target(peer))))
    assert "did not answer in time" in failure.message


@pytest.mark.slow
async def test_a_service_that_falls_silent_in_a_long_poll_is_exhausted_within_a_minute(
    temporal: Client, client: SpriteServiceClient, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running(repo, fake_runtime(tmp_path / "fake"), tmp_path / "state") as service,
        Wire.to(service.port) as wire,
        worker(temporal, "hung", ServiceActivities(client).observe),
    ):
        run = LoopRun(pid=1, start_time="1", loop_id="demo")
        monkeypatch.setattr(service.reader, "_scan_processes", lambda _: ScanResult(runs=(run,), complete=True))
        where = target(service_url=wire.url)
        first = await (await start(temporal, "hung", ask(where))).result()
        asked = ask(where, cursor=first.cursor, known=first.digest, observe_max_s=300, long_poll_wait_s=25)
        handle = await start(temporal, "hung", asked)
        await until(lambda: b"waitSeconds" in wire.sent)
        wire.fall_silent()
        began = time.monotonic()
        failure = await failure_of(handle)
        assert time.monotonic() - began < 60
    assert failure.type == FailureType.TRANSPORT_EXHAUSTED.value


async def test_a_reading_in_between_begins_the_count_anew(
    temporal: Client, client: SpriteServiceClient, peer: BasePeer, repo: Path
) -> None:
    attempts: list[ObserveHeartbeat | None] = []
    failed: list[int] = []
    async with worker(temporal, "reset", counting(ServiceActivities(client), attempts, failed)):
        first = await (await start(temporal, "reset", ask(target(peer)))).result()
        attempts.clear()
        peer.stop()
        asked = ask(target(peer), cursor=first.cursor, known=first.digest, observe_max_s=60)
        handle = await start(temporal, "reset", asked)
        # After a second failure there are two seconds before the next attempt.
        await until(lambda: failed == [1, 2])
        peer.start()
        seen = len(peer.requests)
        await until(lambda: len(peer.requests) > seen + 3)
        peer.stop()
        await until(lambda: failed == [1, 2, 3, 4])
        peer.start()
        append(repo, event_line("loop_start"))
        news = await handle.result()
    assert [event.name for event in news.events] == ["loop_start"]
    assert [inherited.transport_failures if inherited else 0 for inherited in attempts] == [0, 1, 2, 1, 2]


async def test_attempts_that_something_else_consumed_do_not_count(
    temporal: Client, client: SpriteServiceClient, peer: BasePeer
) -> None:
    peer.stop()
    bundle, attempts = ServiceActivities(client), 0

    @activity.defn(name=ActivityName.OBSERVE.value)
    async def observe(asked: ObserveInput) -> Observation:
        nonlocal attempts
        attempts += 1
        if attempts in (1, 3):
            raise ApplicationError("the worker was lost", next_retry_delay=timedelta(seconds=1))
        return await bundle.observe(asked)

    async with worker(temporal, "deploys", observe):
        failure = await failure_of(await start(temporal, "deploys", ask(target(peer))))
    assert "failed 3 times in a row" in failure.message
    assert attempts == 5


async def test_a_living_service_that_refuses_exhausts_nothing(
    temporal: Client, client: SpriteServiceClient, peer: BasePeer
) -> None:
    async with worker(temporal, "alive", ServiceActivities(client).observe):
        handle = await start(temporal, "alive", ask(target(peer, loop_id="nope")))
        told = await handle.result()
    assert told.contact.value == "loop_not_found"


async def test_a_graceful_shutdown_costs_no_attempt(
    temporal: Client, client: SpriteServiceClient, peer: BasePeer
) -> None:
    attempts: list[ObserveHeartbeat | None] = []
    observe = counting(ServiceActivities(client), attempts)
    async with worker(temporal, "deploy", observe):
        first = await (await start(temporal, "deploy", ask(target(peer)))).result()
        attempts.clear()
        asked = ask(target(peer), cursor=first.cursor, known=first.digest, observe_max_s=200, idle_poll_interval_s=100)
        handle = await start(temporal, "deploy", asked)
        await until(lambda: attempts)
        await asyncio.sleep(0.5)
        began = time.monotonic()
    assert time.monotonic() - began < 9  # the grace is ten
    async with worker(temporal, "deploy", observe):
        seen = await handle.result()
    assert len(attempts) == 1
    assert (seen.events, seen.digest) == ([], first.digest)


async def test_a_probe_waits_for_two_good_answers(
    temporal: Client, client: SpriteServiceClient, peer: BasePeer
) -> None:
    peer.stop()
    async with worker(temporal, "probe", ServiceActivities(client).probe):
        asked = ProbeInput(target=target(peer), cursor=CursorPosition(line=33), interval_s=0.2, max_interval_s=0.4)
        handle = await temporal.start_workflow(Probe.run, asked, id="probe", task_queue="probe")
        await asyncio.sleep(1.5)
        peer.start()
        result = await handle.result()
    assert result.recovered
    assert result.attempts > 2
    assert len(peer.asked("/ops/snapshot")) == 2
