"""Intents that cannot be sent, or whose answer gets lost: they hold nothing up, and nothing false is said of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from activities.bundles import ServiceActivities
from activities.client import SpriteServiceClient
from contract.identifiers import control_task_queue, observe_task_queue
from contract.observation import (
    ControlInput,
    ControlOutcome,
    ControlOutcomeKind,
    LookUpInput,
    LookUpKind,
    LookUpResult,
    Transport,
)
from contract.status import IntentStage
from tests.harness import FAST, House, Supervised, Supervisors, closed
from tests.harness_sprite import WAITING, Sprite, activities_worker, until
from worker.workers import workflow_worker

QUEUE = "unsent"
ANA = {"by": "ana"}
SHORT = FAST.model_copy(update={"continue_as_new_events": 60})


class Control:
    """The product's control, but while `answers` is set: then nothing is sent, and every try ends so."""

    def __init__(self, service: ServiceActivities) -> None:
        self._service = service
        self.answers: ControlOutcomeKind | None = None
        self.tries = 0

    @activity.defn(name="execute_control")
    async def execute_control(self, asked: ControlInput) -> ControlOutcome:
        self.tries += 1
        if self.answers is None:
            return await self._service.execute_control(asked)
        now = datetime.now(UTC)
        return ControlOutcome(
            kind=self.answers, transport=Transport.SPRITE_SERVICE, sent_at=now, message="so it is told"
        )

    @activity.defn(name="look_up_control")
    async def look_up_control(self, asked: LookUpInput) -> LookUpResult:
        return LookUpResult(kind=LookUpKind.UNKNOWN_KEY, message="never used")

    def fail(self, kind: ControlOutcomeKind) -> None:
        self.answers, self.tries = kind, 0

    async def tried(self, times: int) -> None:
        await until(lambda: self.tries >= times, f"{times} tries")


@pytest_asyncio.fixture
async def control(house: House) -> AsyncIterator[Control]:
    """Control as the tests of this file tell it, on a queue of their own."""
    async with SpriteServiceClient(max_loops=10) as client:
        service = ServiceActivities(client)
        told = Control(service)
        async with (
            workflow_worker(house.client, QUEUE, max_loops=10),
            activities_worker(house.client, observe_task_queue(QUEUE), [service.observe]),
            activities_worker(
                house.client, control_task_queue(QUEUE), [told.execute_control, told.look_up_control, service.probe]
            ),
        ):
            yield told


@asynccontextmanager
async def _waiting(house: House, sprite: Sprite, **options: Any) -> AsyncIterator[Supervised]:
    """A supervised loop that waits for an approval; replayed at the end like every other."""
    sprite.serve()
    sprite.run().wait()
    async with Supervisors(house, queue=QUEUE) as supervise:
        loop = await supervise(sprite, **options)
        await loop.until_lifecycle("awaiting_approval")
        yield loop


async def _pauses(loop: Supervised) -> list[float]:
    """The seconds of the timers before a next try."""
    return [
        event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta().total_seconds()
        for event in (await loop.history()).events
        if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED
        and b"before the next try" in event.user_metadata.summary.data
    ]


async def test_intent_that_cannot_be_sent_lets_a_cancel_pass_and_is_judged_and_sent_afterwards(
    house: House, control: Control, new_sprite: Any
) -> None:
    sprite = new_sprite("passed", WAITING)
    async with _waiting(house, sprite) as loop:
        control.fail(ControlOutcomeKind.NOT_SENT)
        await loop.send("APPROVE_PENDING", ANA)
        await control.tried(2)
        await loop.send("CANCEL_LOOP", ANA)
        cancel = await loop.until_intent(IntentStage.REJECTED, index=1)
        assert "nothing to cancel" in cancel.reason
        assert sprite.decisions() == []
        control.answers = None
        approve = await loop.until_intent(IntentStage.RECORDED, index=0)
    assert [stage.stage.value for stage in approve.stages] == [
        "received", "accepted", "executing", "received", "accepted", "executing", "recorded",
    ]  # fmt: skip
    assert approve.stages[3].evidence == "not sent: so it is told"
    assert len(sprite.decisions()) == 1


async def test_intent_that_cannot_be_sent_is_carried_over_with_its_key_and_sent_by_the_next_run(
    house: House, control: Control, new_sprite: Any
) -> None:
    sprite = new_sprite("carried", WAITING)
    async with _waiting(house, sprite, options=SHORT) as loop:
        control.fail(ControlOutcomeKind.NOT_SENT)
        await loop.send("APPROVE_PENDING", ANA)
        await control.tried(2)
        before = await loop.status()
        while (await loop.status()).as_of.run_id == before.as_of.run_id:
            await loop.handle.signal("APPROVE_PENDING", {})
            await asyncio.sleep(0.1)
        control.answers = None
        recorded = await loop.until_intent(IntentStage.RECORDED, index=0)
    assert recorded.key == before.intents[0].key
    assert len(sprite.decisions()) == 1


async def test_release_does_not_wait_for_an_intent_that_cannot_be_sent(
    house: House, control: Control, new_sprite: Any
) -> None:
    sprite = new_sprite("released", WAITING)
    async with _waiting(house, sprite) as loop:
        control.fail(ControlOutcomeKind.NOT_SENT)
        far = (datetime.now(UTC) + timedelta(days=300)).isoformat()
        await loop.send("APPROVE_PENDING", {**ANA, "notAfter": far})
        await control.tried(3)
        await loop.handle.cancel()
        assert await closed(loop.handle) is WorkflowExecutionStatus.CANCELED
        (record,) = (await loop.status()).intents
        assert record.sentence == "Nothing done: supervision of this loop was released."
        pauses = await _pauses(loop)
        assert pauses[:2] == [2.0, 4.0]
    assert sprite.commands() == []


async def test_intent_that_could_not_be_sent_in_its_time_expires(
    house: House, control: Control, new_sprite: Any
) -> None:
    sprite = new_sprite("expired", WAITING)
    async with _waiting(house, sprite) as loop:
        control.fail(ControlOutcomeKind.NOT_SENT)
        soon = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
        await loop.send("APPROVE_PENDING", {**ANA, "notAfter": soon})
        expired = await loop.until_intent(IntentStage.EXPIRED)
        assert expired.sentence.startswith("Expired, nothing done: it was to start by 2")
    assert sprite.commands() == []


async def test_automated_intent_that_could_not_be_sent_is_not_sent_any_more_once_automation_is_frozen(
    house: House, control: Control, new_sprite: Any
) -> None:
    sprite = new_sprite("frozen", WAITING)
    async with sprite.local_worker(house.client, queue=QUEUE), _waiting(house, sprite) as loop:
        control.fail(ControlOutcomeKind.NOT_SENT)
        await loop.send("APPROVE_PENDING", {"by": "robot", "automated": True})
        await control.tried(2)
        await asyncio.to_thread(sprite.stop_service)
        refused = await loop.until_intent(IntentStage.REJECTED)
        assert "automated intents are frozen: not reconciled" in refused.reason
        # A human's goes through the transport that works.
        await loop.send("APPROVE_PENDING", ANA)
        assert (await loop.until_intent(IntentStage.RECORDED)).transport is Transport.LOCAL
    assert [decision["by"] for decision in sprite.decisions()] == ["ana"]


async def test_automated_cancels_do_not_hold_up_what_a_human_has_sent(
    house: House, control: Control, new_sprite: Any
) -> None:
    sprite = new_sprite("unhindered", WAITING)
    async with _waiting(house, sprite) as loop:
        control.fail(ControlOutcomeKind.NOT_SENT)
        await loop.send("APPROVE_PENDING", ANA)
        await control.tried(1)
        for _ in range(3):
            await loop.send("CANCEL_LOOP", {"by": "robot", "automated": True})
            refused = await loop.until_intent(IntentStage.REJECTED)
            assert "APPROVE_PENDING by ana is in flight" in refused.reason
        control.answers = None
        approve = await loop.until_intent(IntentStage.RECORDED, index=0)
    assert [stage.stage.value for stage in approve.stages] == ["received", "accepted", "executing", "recorded"]


async def test_intent_whose_answer_got_lost_is_unknown_when_its_time_is_over_and_recorded_when_it_arrived(
    house: House, control: Control, new_sprite: Any
) -> None:
    sprite = new_sprite("lost", WAITING)
    async with _waiting(house, sprite) as loop:
        control.fail(ControlOutcomeKind.MAYBE_SENT)
        soon = (datetime.now(UTC) + timedelta(seconds=10)).isoformat()
        await loop.send("APPROVE_PENDING", {**ANA, "notAfter": soon})
        unknown = await loop.until_intent(IntentStage.AMBIGUOUS)
        assert "no answer; the sprite did not know of it when asked, but it may still arrive" in unknown.sentence
        # The service that hung takes what was in its socket.
        sprite.superloop("approve", "--loop", "demo", "--by", "ana")
        recorded = await loop.until_intent(IntentStage.RECORDED)
        assert recorded.late
