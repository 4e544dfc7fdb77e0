"""How the workflow calls its activities: queues, timeouts, retries. Every number of that kind is here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType

with workflow.unsafe.imports_passed_through():
    from contract.archives import ArchiveInput, ArchiveResult
    from contract.identifiers import control_task_queue, local_task_queue, notices_task_queue, observe_task_queue
    from contract.notices import DeliverInput, DeliverResult
    from contract.observation import (
        ActivityName,
        ControlInput,
        ControlOutcome,
        FailureType,
        LookUpInput,
        LookUpResult,
        Observation,
        ObserveInput,
        ProbeInput,
        ProbeResult,
        Transport,
    )
    from contract.reconciliation import ChainsInput, ChainsResult, ReconcileInput, ReconcileResult

HEARTBEAT_TIMEOUT = timedelta(seconds=30)
"""Also the failover time after a worker's death; outages of the server shorter than this cost no attempt."""
LOCAL_SCHEDULE_TO_START = timedelta(seconds=30)
"""Nobody serves the sprite's local queue: noticed after this long."""
CONTROL_TIMEOUT = timedelta(seconds=75)
"""The runtime's command may take 30 s; the answer has to come back too."""
LOOK_UP_TIMEOUT = timedelta(seconds=20)
DELIVER_TIMEOUT = timedelta(seconds=10)
"""One try: a receiver that hangs must not hold a slot for longer."""
ARCHIVE_TIMEOUT = timedelta(minutes=2)
RELEASE_ARCHIVE_LIMIT = timedelta(seconds=10)
"""Of everything together, waiting for a worker included: a release is not held up for longer."""
CHAINS_TIMEOUT = timedelta(minutes=30)
SLOWEST_LINE = timedelta(seconds=0.5)
"""A service that shows no chain is read over again, at its own pace; what is cut off begins anew, for ever."""
_MARGIN = timedelta(minutes=2)

# Deploys and crashes consume attempts, so they are unlimited; `observe` counts what the transport fails by itself.
_KEEP_TRYING = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=10),
    non_retryable_error_types=[FailureType.TRANSPORT_EXHAUSTED.value],
)
_SLOWER_AND_SLOWER = RetryPolicy(
    initial_interval=timedelta(seconds=1), backoff_coefficient=2.0, maximum_interval=timedelta(minutes=5)
)
# A full disk may take a day to be noticed; meanwhile the server still has the history.
_KEEP_TRYING_SLOWLY = RetryPolicy(
    initial_interval=timedelta(seconds=5), backoff_coefficient=2.0, maximum_interval=timedelta(minutes=10)
)
_ONCE = RetryPolicy(maximum_attempts=1)


def _local(transport: Transport, queue: str, sprite: str, service_queue: str) -> dict[str, Any]:
    if transport is Transport.LOCAL:
        return {"task_queue": local_task_queue(queue, sprite), "schedule_to_start_timeout": LOCAL_SCHEDULE_TO_START}
    return {"task_queue": service_queue}


def start_observe(request: ObserveInput, queue: str) -> workflow.ActivityHandle[Observation]:
    """Start the one outstanding observer."""
    return workflow.start_activity(
        ActivityName.OBSERVE.value,
        request,
        result_type=Observation,
        start_to_close_timeout=timedelta(seconds=request.observe_max_s) + _MARGIN,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=_KEEP_TRYING,
        cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
        summary=f"observer {request.observer} through {request.transport.value}",
        **_local(request.transport, queue, request.target.sprite, observe_task_queue(queue)),
    )


async def execute_control(request: ControlInput, queue: str) -> ControlOutcome:
    """Send one intent, once: Temporal never retries it."""
    outcome: ControlOutcome = await workflow.execute_activity(
        ActivityName.EXECUTE_CONTROL.value,
        request,
        result_type=ControlOutcome,
        start_to_close_timeout=CONTROL_TIMEOUT,
        retry_policy=_ONCE,
        summary=f"{request.intent.value} by {request.by}",
        **_local(request.transport, queue, request.target.sprite, control_task_queue(queue)),
    )
    return outcome


async def look_up_control(request: LookUpInput, queue: str) -> LookUpResult:
    """Ask the sprite what it knows about a key."""
    outcome: LookUpResult = await workflow.execute_activity(
        ActivityName.LOOK_UP_CONTROL.value,
        request,
        result_type=LookUpResult,
        start_to_close_timeout=LOOK_UP_TIMEOUT,
        retry_policy=_ONCE,
        summary=f"what became of {request.key}?"[:200],
        **_local(request.transport, queue, request.target.sprite, control_task_queue(queue)),
    )
    return outcome


async def probe(request: ProbeInput, queue: str) -> ProbeResult:
    """Wait until the service answers again."""
    outcome: ProbeResult = await workflow.execute_activity(
        ActivityName.PROBE.value,
        request,
        result_type=ProbeResult,
        task_queue=control_task_queue(queue),
        start_to_close_timeout=timedelta(seconds=request.probe_max_s) + _MARGIN,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=_KEEP_TRYING,
        summary="does the sprite service answer again?",
    )
    return outcome


async def deliver(request: DeliverInput, queue: str, within: timedelta) -> DeliverResult:
    """Hand one notice to its receiver, trying again until `within` is over."""
    notice = request.message.notice
    outcome: DeliverResult = await workflow.execute_activity(
        ActivityName.DELIVER.value,
        request,
        result_type=DeliverResult,
        task_queue=notices_task_queue(queue),
        start_to_close_timeout=DELIVER_TIMEOUT,
        schedule_to_close_timeout=within,
        retry_policy=_SLOWER_AND_SLOWER,
        summary=f"{notice.type.value}: {notice.kind.value}",
    )
    return outcome


async def reconcile(request: ReconcileInput, queue: str) -> ReconcileResult:
    """Replay a log and compare it with what was ingested."""
    outcome: ReconcileResult = await workflow.execute_activity(
        ActivityName.RECONCILE.value,
        request,
        result_type=ReconcileResult,
        start_to_close_timeout=time_to_read(
            request.cursor.line - request.start.line, timedelta(seconds=request.reconcile_max_s)
        ),
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=_KEEP_TRYING,
        summary=f"replay through {request.transport.value} from line {request.start.line + 1}",
        **_local(request.transport, queue, request.target.sprite, control_task_queue(queue)),
    )
    return outcome


async def chains(request: ChainsInput, queue: str) -> ChainsResult:
    """The chains at some lines of a log."""
    outcome: ChainsResult = await workflow.execute_activity(
        ActivityName.CHAINS.value,
        request,
        result_type=ChainsResult,
        start_to_close_timeout=time_to_read(max(request.lines) - request.start.line, CHAINS_TIMEOUT),
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=_KEEP_TRYING,
        summary=f"chains of {request.transport.value} at {len(request.lines)} lines",
        **_local(request.transport, queue, request.target.sprite, control_task_queue(queue)),
    )
    return outcome


def time_to_read(lines: int, at_least: timedelta) -> timedelta:
    """How long so many lines may take."""
    return max(at_least, lines * SLOWEST_LINE)


def why_undelivered(error: ActivityError) -> str:
    """Why a notice was not taken: the last reason known."""
    cause: BaseException | None = error.cause
    while cause is not None:
        if isinstance(cause, ApplicationError):
            return str(cause.message)[:400]
        if isinstance(cause, TimeoutError) and cause.type is TimeoutType.START_TO_CLOSE:
            return f"no answer within {DELIVER_TIMEOUT.seconds} s"
        cause = cause.__cause__
    return "no worker that delivers notices has taken it: does an older one run?"


async def archive(request: ArchiveInput, queue: str) -> ArchiveResult:
    """Keep the history of a run, however long that takes."""
    kept: ArchiveResult = await workflow.execute_activity(
        ActivityName.ARCHIVE.value,
        request,
        result_type=ArchiveResult,
        task_queue=control_task_queue(queue),
        start_to_close_timeout=ARCHIVE_TIMEOUT,
        retry_policy=_KEEP_TRYING_SLOWLY,
        summary="keep the history of the run before",
    )
    return kept


async def archive_at_once(request: ArchiveInput, queue: str) -> ArchiveResult:
    """Keep the history of a run that is about to end, if that can be done at once."""
    kept: ArchiveResult = await workflow.execute_activity(
        ActivityName.ARCHIVE.value,
        request,
        result_type=ArchiveResult,
        task_queue=control_task_queue(queue),
        schedule_to_close_timeout=RELEASE_ARCHIVE_LIMIT,
        summary="keep the history of this run before its release",
    )
    return kept


def never_started(error: ActivityError) -> bool:
    """Whether the activity was never picked up by a worker, so that nothing can have happened."""
    cause = error.cause
    return isinstance(cause, TimeoutError) and cause.type in (
        TimeoutType.SCHEDULE_TO_START,
        TimeoutType.SCHEDULE_TO_CLOSE,
    )


def why(error: ActivityError) -> str:
    """The reason of an activity's failure, in words."""
    if never_started(error):
        return f"no worker took the task within {LOCAL_SCHEDULE_TO_START.seconds} s"
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return str(cause.message)[:400]
    return str(cause or error)[:400]
