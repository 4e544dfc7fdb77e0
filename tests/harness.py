"""A house for tests: a real Temporal dev server, the product's workers, and supervisors that can be asked and awaited.

Every supervisor that a test starts is replayed when the test ends: the code has to make the recorded commands again
and come to the state that the live workflow reported.
"""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from activities.archive import ArchiveActivities
from activities.bundles import ServiceActivities
from activities.client import SpriteServiceClient
from activities.deliver import NoticeActivities
from contract.archives import ARCHIVES_FOLDER
from contract.identifiers import control_task_queue, notices_task_queue, observe_task_queue, workflow_id
from contract.notices import WebhookTarget
from contract.observation import Target
from contract.status import WORKFLOW_TYPE, IntentRecord, IntentStage, StatusReport
from contract.supervision import SupervisorOptions, SupervisorStart
from incidents.replay import replay
from tests.harness_history import failed_tasks
from tests.harness_sprite import GRACE, QUEUE, TOKEN, Activity, Sprite, activities_worker
from worker.server_binary import find_binary
from worker.workers import serve, workflow_worker
from workflows.plugin import ops_manager_plugin
from workflows.report import status_report
from workflows.search_attributes import ALL
from workflows.state import SupervisorState

FAST = SupervisorOptions(
    idle_poll_interval_s=0.5,
    running_poll_interval_s=0.5,
    prompt_interval_s=0.3,
    recorded_wait_s=10.0,
    cancel_confirm_wait_s=20.0,
    probe_interval_s=0.5,
    probe_max_interval_s=1.0,
)
"""Short intervals, for tests that wait for the next look; what decides (limits, rechecks, long polls) is as always."""

TIMEOUT_S = 60.0
QUERY_TIMEOUT_S = 10.0
"""A query that is not answered by then: the workflow is wedged, or its worker has ended."""
_ASK_EVERY_S = 0.15

Report = Callable[[StatusReport], object]


class House:
    """The server, a client with the product's plugin, and the workers for workflows, observation and control."""

    def __init__(self, environment: WorkflowEnvironment, client: Client, binary: Path, archives: Path) -> None:
        self.client = client
        self.archives = archives
        self.binary = binary
        self.address = environment.client.service_client.config.target_host
        self._serving: asyncio.Task[None]

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder: Path, *, identity: str | None = None) -> AsyncIterator["House"]:
        """Start everything, and end it in the right order."""
        binary = find_binary(folder)
        assert binary is not None, "no temporal program: make install brings one"
        async with (
            await WorkflowEnvironment.start_local(
                dev_server_existing_path=str(binary),
                dev_server_log_level="error",
                search_attributes=ALL,
                # Retries and short timers keep the time they were given instead of the server's one second.
                dev_server_extra_args=["--dynamic-config-value", 'history.timerProcessorMaxTimeShift="10ms"'],
            ) as environment,
            SpriteServiceClient(max_loops=100) as service,
            NoticeActivities() as notices,
        ):
            client = await Client.connect(
                environment.client.service_client.config.target_host, plugins=[ops_manager_plugin()], identity=identity
            )
            house = cls(environment, client, binary, folder / ARCHIVES_FOLDER)
            async with house._workers(ServiceActivities(service), notices):
                yield house
            # The SDK's threads still hold what they just sent; without this the process may abort at its exit.
            await asyncio.sleep(0.1)

    @contextlib.asynccontextmanager
    async def _workers(self, service: ServiceActivities, notices: NoticeActivities) -> AsyncIterator[None]:
        archive = ArchiveActivities(self.archives).archive
        control: list[Activity] = [
            service.execute_control,
            service.look_up_control,
            service.probe,
            service.reconcile,
            service.chains,
            archive,
        ]
        workers = [
            workflow_worker(self.client, QUEUE, max_loops=200),
            activities_worker(self.client, observe_task_queue(QUEUE), [service.observe]),
            activities_worker(self.client, control_task_queue(QUEUE), control),
            activities_worker(self.client, notices_task_queue(QUEUE), [notices.deliver]),
        ]
        stop, ready = asyncio.Event(), asyncio.Event()
        self._serving = asyncio.create_task(serve(workers, stop, ready.set, grace=GRACE))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        self.check_workers()
        try:
            yield
        finally:
            stop.set()
            await self._serving

    def check_workers(self) -> None:
        """Raise what ended the workers, if they have ended."""
        if self._serving.done():
            self._serving.result()

    async def temporal(self, *arguments: str, timeout_s: float = TIMEOUT_S) -> "subprocess.CompletedProcess[str]":
        """Run a command of the Temporal CLI against this server."""
        argv = [str(self.binary), *arguments, "--address", self.address]

        def run() -> "subprocess.CompletedProcess[str]":
            return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout_s)

        return await asyncio.to_thread(run)

    async def runs(self, supervised_id: str, *, since: str) -> list[str]:
        """The ids of the runs that a workflow id had from the run `since` on, in the order in which they began."""
        query = f"WorkflowId = '{supervised_id}'"
        found = [(run.start_time, run.run_id) async for run in self.client.list_workflows(query)]
        run_ids = [run_id for _, run_id in sorted(found)]
        return run_ids[run_ids.index(since) :]


@dataclass(frozen=True)
class Supervised:
    """A running supervisor."""

    house: House
    sprite: Sprite
    handle: WorkflowHandle[Any, Any]
    first_run_id: str

    @property
    def id(self) -> str:
        """The workflow id."""
        return self.handle.id

    async def status(self) -> StatusReport:
        """What the query `status` answers."""
        return await ask_status(self.handle)

    async def until(self, holds: Report, what: str, *, timeout_s: float = TIMEOUT_S) -> StatusReport:
        """Wait until the status report satisfies `holds`; return it."""
        return await await_status(self.handle, holds, what, timeout_s=timeout_s)

    async def until_lifecycle(self, lifecycle: str, reason: str | None = None, **options: Any) -> StatusReport:
        """Wait for a lifecycle."""

        def there(seen: StatusReport) -> bool:
            return seen.lifecycle == lifecycle and reason in (None, seen.reason) and seen.cursor.at_head

        return await self.until(there, f"lifecycle {lifecycle} ({reason or 'any reason'})", **options)

    async def until_intent(self, *stages: IntentStage, index: int = -1, **options: Any) -> IntentRecord:
        """Wait until an intent, the newest unless `index` says another, is in one of `stages`; return its record."""

        def there(seen: StatusReport) -> bool:
            known = seen.intents[index : index + 1 or None]
            return bool(known) and known[0].stage in stages

        return (await self.until(there, f"intent {index} is one of {stages}", **options)).intents[index]

    async def send(self, intent: str, message: object) -> int:
        """Send an intent as the SDK does; return the index that its record will have if it is a new one."""
        index = len((await self.status()).intents)
        await self.handle.signal(intent, message)
        return index

    async def direct(self, name: str, message: object) -> IntentRecord:
        """Ask the supervisor itself for something, as an update; return its record."""
        record: IntentRecord = await self.handle.execute_update(name, message, result_type=IntentRecord)
        return record

    async def send_by_cli(self, intent: str, *inputs: str) -> "subprocess.CompletedProcess[str]":
        """Send an intent as an operator does: `temporal workflow signal`, with further arguments as given."""
        return await self.house.temporal("workflow", "signal", "--workflow-id", self.id, "--name", intent, *inputs)

    async def release(self) -> None:
        """Cancel the workflow and wait until it is gone."""
        await self.handle.cancel()
        await closed(self.handle)

    async def runs(self) -> list[str]:
        """The ids of its runs: one, more after a reset or a continue-as-new."""
        return await self.house.runs(self.id, since=self.first_run_id)

    async def history(self, run_id: str | None = None) -> WorkflowHistory:
        """The history of a run; of the newest by default."""
        return await self.house.client.get_workflow_handle(self.id, run_id=run_id).fetch_history()


async def ask_status(handle: WorkflowHandle[Any, Any]) -> StatusReport:
    """What the query `status` of a supervisor answers."""
    report: StatusReport = await handle.query(
        "status", result_type=StatusReport, rpc_timeout=timedelta(seconds=QUERY_TIMEOUT_S)
    )
    return report


async def await_status(
    handle: WorkflowHandle[Any, Any], holds: Report, what: str, *, timeout_s: float = TIMEOUT_S
) -> StatusReport:
    """Wait until the status report of `handle` satisfies `holds`; a failure prints the last report."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + timeout_s
    while True:
        seen = await ask_status(handle)
        if holds(seen):
            return seen
        if clock() > deadline:
            shown = json.dumps(seen.model_dump(mode="json", by_alias=True, exclude_defaults=True), indent=1)
            raise AssertionError(f"waited {timeout_s} s in vain until {handle.id}: {what}\n{shown}")
        await asyncio.sleep(_ASK_EVERY_S)


async def closed(handle: WorkflowHandle[Any, Any]) -> WorkflowExecutionStatus:
    """Wait until a workflow has closed; return how."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + TIMEOUT_S
    while True:
        status = (await handle.describe()).status
        if status is not None and status is not WorkflowExecutionStatus.RUNNING:
            return status
        assert clock() < deadline, f"{handle.id} has not closed within {TIMEOUT_S} s"
        await asyncio.sleep(0.05)


class Supervisors:
    """Starts supervisors; at the end of the block replays and releases every one of them."""

    def __init__(self, house: House, *, queue: str = QUEUE) -> None:
        self.house = house
        self.started: list[Supervised] = []
        self._queue = queue

    @property
    def client(self) -> Client:
        """The client of the house."""
        return self.house.client

    async def __aenter__(self) -> "Supervisors":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                for supervised in self.started:
                    await check_replays(supervised)
        finally:
            for supervised in self.started:
                await _terminate(supervised.handle)

    async def __call__(
        self,
        sprite: Sprite,
        *,
        target: Target | None = None,
        local_only: bool = False,
        options: SupervisorOptions = FAST,
        webhook: WebhookTarget | None = None,
        start_signal: str | None = None,
        start_signal_args: tuple[object, ...] = (),
    ) -> Supervised:
        """Supervise the loop of `target` (by default the sprite's `demo`, through its service or, alone, its disk)."""
        self.house.check_workers()
        target = target or (sprite.local_target() if local_only else sprite.target())
        handle = await self.house.client.start_workflow(
            WORKFLOW_TYPE,
            SupervisorStart(
                target=target, task_queue=self._queue, local_only=local_only, options=options, webhook=webhook
            ),
            id=workflow_id(target.sprite, target.loop_id),
            task_queue=self._queue,
            start_signal=start_signal,
            start_signal_args=start_signal_args,
        )
        first_run_id = str(handle.result_run_id)
        supervised = Supervised(self.house, sprite, self.client.get_workflow_handle(handle.id), first_run_id)
        self.started.append(supervised)
        return supervised


async def _terminate(handle: WorkflowHandle[Any, Any]) -> None:
    try:
        await handle.terminate("the test has ended")
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


async def check_replays(supervised: Supervised) -> None:
    """Replay every run of a supervisor: each ends in what the next one was given, the last in the live report.

    Besides, no workflow task ever failed, and no history holds the token (D22).
    """
    status, newest = await settled(supervised)
    # Another run may have begun since.
    earlier = list(takewhile(lambda run_id: run_id != status.as_of.run_id, await supervised.runs()))
    histories = [*[await supervised.history(run_id) for run_id in earlier], newest]
    following: list[WorkflowHistory | None] = [*histories[1:], None]
    for history, successor in zip(histories, following, strict=True):
        where = f"{history.workflow_id} {history.run_id} of {len(histories)} runs"
        failures = failed_tasks(history)
        assert not failures, (where, failures)
        assert not [event.event_id for event in history.events if TOKEN in str(event)], where
        replayed = await replay(history)
        assert replayed.failure is None, f"{where} does not replay: {replayed.failure}"
        assert replayed.status is not None, where
        if successor is None:
            assert comparable(replayed.status) == comparable(status), f"{where} replays to another state"
        elif _continued(history):
            assert comparable(replayed.status) == comparable(carried_report(successor)), f"{where} lost something"


def _continued(history: WorkflowHistory) -> bool:
    return history.events[-1].event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW


def carried_report(history: WorkflowHistory) -> StatusReport:
    """The report on the state that a run was given by the one before it."""
    start = started_with(history)
    state = SupervisorState.model_validate(start.carried)
    return status_report(state, local_only=start.local_only, run_id="", history_length=0)


def started_with(history: WorkflowHistory) -> SupervisorStart:
    """What a run was given by the one before it."""
    (payload,) = history.events[0].workflow_execution_started_event_attributes.input.payloads
    start = SupervisorStart.model_validate_json(payload.data)
    assert start.carried is not None
    return start


async def settled(supervised: Supervised) -> tuple[StatusReport, WorkflowHistory]:
    """A live status report and the history of the same instant."""
    for _ in range(100):
        before = await supervised.status()
        history = await supervised.history()
        after = await supervised.status()
        if before.as_of == after.as_of and _all_processed(history):
            return after, history
        await asyncio.sleep(0.05)
    last = [(event.event_id, EventType.Name(event.event_type)) for event in history.events[-3:]]
    raise AssertionError(f"{supervised.id} never stands still: {after.as_of}; history ends {last}")


_NOT_YET_SEEN = (
    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
    EventType.EVENT_TYPE_TIMER_FIRED,
)


def _all_processed(history: WorkflowHistory) -> bool:
    return history.events[-1].event_type not in _NOT_YET_SEEN


def comparable(status: StatusReport) -> dict[str, Any]:
    """Everything in a report but `asOf`: a history says neither the id of a reset run nor what its last task saw."""
    return status.model_dump(mode="json", by_alias=True, exclude={"as_of"})
