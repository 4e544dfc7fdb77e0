"""One command for many loops, and messages that come too late."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from contract.status import IntentStage
from tests.harness import Supervised, Supervisors
from tests.harness_sprite import HANGING, WAITING, Sprite, until

WAITING_LOOPS = 10


async def _supervised(supervise: Supervisors, new_sprite: Any, name: str, *, waits: bool = True) -> Supervised:
    sprite: Sprite = new_sprite(name, WAITING if waits else HANGING)
    sprite.serve()
    run = sprite.run()
    if waits:
        await asyncio.to_thread(run.wait)
    else:
        await sprite.until_role_works()
    loop = await supervise(sprite)
    await loop.until_lifecycle("awaiting_approval" if waits else "running")
    return loop


async def test_batch_of_approvals_is_recorded_where_a_request_waits_and_refused_where_none_does(
    supervise: Supervisors, new_sprite: Any
) -> None:
    names = [f"batch-{number}" for number in range(WAITING_LOOPS)]
    waiting = [await _supervised(supervise, new_sprite, name) for name in names]
    running = await _supervised(supervise, new_sprite, "batch-running", waits=False)
    outside = await _supervised(supervise, new_sprite, "outside")
    query = "WorkflowType = 'LoopSupervisor' AND ExecutionStatus = 'Running' AND WorkflowId STARTS_WITH 'loop:batch-'"

    async def all_are_listed() -> bool:
        return len([found async for found in supervise.client.list_workflows(query)]) == WAITING_LOOPS + 1

    await until(all_are_listed, "the list shows them all")
    done = await supervise.house.temporal(
        "workflow", "signal", "--query", query, "--name", "APPROVE_PENDING", "--input", json.dumps({"by": "ana"}),
        "--reason", "a test", "--yes",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for loop in waiting:
        await loop.until_intent(IntentStage.RECORDED)
        assert [decision["by"] for decision in loop.sprite.decisions()] == ["ana"]
    refused = await running.until_intent(IntentStage.REJECTED)
    assert "no approval is pending; the loop is running" in refused.sentence
    assert (await outside.status()).intents == []
    assert outside.sprite.decisions() == []


async def test_intent_that_waited_for_a_transport_beyond_its_time_expires_and_nothing_is_done(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    await asyncio.to_thread(sprite.run().wait)
    # Nobody serves the sprite yet, so nothing can be seen of it.
    loop = await supervise(sprite, local_only=True)
    soon = datetime.now(UTC) + timedelta(seconds=2)
    await loop.send("APPROVE_PENDING", {"by": "ana", "notAfter": soon.isoformat()})
    await until(lambda: datetime.now(UTC) > soon, "its time is over")
    async with sprite.local_worker(supervise.client):
        expired = await loop.until_intent(IntentStage.EXPIRED)
        await loop.until_lifecycle("awaiting_approval")
    assert expired.sentence.startswith("Expired, nothing done: it was to start by ")
    assert (sprite.decisions(), sprite.commands("approve")) == ([], [])
