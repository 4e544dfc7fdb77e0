"""Messages that waited for a worker are all taken in one workflow task, which has two seconds."""

import asyncio
from typing import Any

import pytest
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from contract.status import IntentStage
from tests.harness import House, Supervisors
from workflows.report import card
from workflows.state import MAX_INTENTS, SupervisorState

QUEUE = "flood"
MESSAGES = 500


async def test_messages_that_waited_for_a_worker_are_all_recorded_and_shown_once(
    house: House, new_sprite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def counted(state: SupervisorState) -> str:
        shown.append(card(state))
        return shown[-1]

    monkeypatch.setattr("workflows.supervisor.card", counted)
    # Outside the sandbox, which has modules of its own, so that what is shown can be counted.
    worker = Worker(house.client, task_queue=QUEUE, workflow_runner=UnsandboxedWorkflowRunner())
    supervise = Supervisors(house, queue=QUEUE)
    loop = await supervise(new_sprite("flooded"))
    await asyncio.gather(*(loop.handle.signal("APPROVE_PENDING", {"by": number}) for number in range(MESSAGES)))
    async with worker, supervise:
        seen = await loop.until(lambda seen: seen.intents and seen.intents[-1].sequence == MESSAGES, "all are recorded")
        assert {record.stage for record in seen.intents} == {IntentStage.REJECTED}
        assert len(seen.intents) == MAX_INTENTS
        # At its start, and once for all of them.
        assert len(shown) <= 3
        assert shown[-1].count("Nothing done: by should be a valid string") == 5
