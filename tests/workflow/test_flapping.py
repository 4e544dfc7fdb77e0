"""A service that stands the probe and not the observer: going back to it costs less and less."""

from typing import Any

from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.exceptions import ApplicationError

from contract.identifiers import control_task_queue, observe_task_queue
from contract.observation import (
    FailureType,
    Observation,
    ObserveInput,
    ProbeInput,
    ProbeResult,
)
from contract.reconciliation import Agreement, ReconcileInput, ReconcileResult
from tests.harness import House, Supervised, Supervisors
from tests.harness_sprite import activities_worker, until
from worker.workers import workflow_worker

QUEUE = "flapping"


class Service:
    """Answers every probe, and no observer."""

    def __init__(self) -> None:
        self.probes = 0

    @activity.defn(name="observe")
    async def observe(self, asked: ObserveInput) -> Observation:
        raise ApplicationError("a page that is invalid", type=FailureType.TRANSPORT_EXHAUSTED, non_retryable=True)

    @activity.defn(name="probe")
    async def probe(self, asked: ProbeInput) -> ProbeResult:
        self.probes += 1
        return ProbeResult(recovered=True, attempts=2)

    @activity.defn(name="reconcile")
    async def reconcile(self, asked: ReconcileInput) -> ReconcileResult:
        return ReconcileResult(agreement=Agreement.AGREED, from_line=0, to_line=0)


async def _pauses(loop: Supervised) -> list[int]:
    """The whole seconds of the timers before a further probe, as far as they were started."""
    return [
        round(event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta().total_seconds())
        for event in (await loop.history()).events
        if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED
        and b"what the probe found well" in event.user_metadata.summary.data
    ]


async def test_service_that_fails_its_observer_at_once_is_probed_at_growing_intervals(
    house: House, new_sprite: Any
) -> None:
    service, sprite = Service(), new_sprite("flapping")
    async with (
        workflow_worker(house.client, QUEUE, max_loops=10),
        activities_worker(house.client, observe_task_queue(QUEUE), [service.observe]),
        activities_worker(house.client, control_task_queue(QUEUE), [service.probe, service.reconcile]),
        Supervisors(house, queue=QUEUE) as supervise,
    ):
        loop = await supervise(sprite)

        async def paused_twice() -> bool:
            return len(await _pauses(loop)) == 2

        await until(paused_twice, "the second pause has begun")
        assert service.probes == 2
        first, second = await _pauses(loop)
        assert 8 <= first <= 10
        assert 18 <= second <= 20
