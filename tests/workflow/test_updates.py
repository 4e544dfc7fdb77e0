"""Intents as updates: the caller waits, and is answered what became of it."""

import asyncio
import json
import subprocess
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowUpdateFailedError

from contract.status import IntentRecord, IntentStage
from tests.harness import FAST, Supervised, Supervisors
from tests.harness_sprite import HANGING, WAITING

ANA = {"by": "ana"}


async def ask(loop: Supervised, intent: str, message: object, **options: Any) -> IntentRecord:
    record: IntentRecord = await loop.handle.execute_update(intent, message, result_type=IntentRecord, **options)
    return record


async def waiting(supervise: Supervisors, new_sprite: Any, **options: Any) -> Supervised:
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    sprite.run().wait()
    loop = await supervise(sprite, **options)
    await loop.until_lifecycle("awaiting_approval")
    return loop


async def test_approval_as_an_update_is_answered_when_it_is_recorded(supervise: Supervisors, new_sprite: Any) -> None:
    loop = await waiting(supervise, new_sprite)
    record = await ask(loop, "APPROVE_PENDING", {**ANA, "note": "looks good"})
    assert (record.stage, record.by, record.note) == (IntentStage.RECORDED, "ana", "looks good")
    assert record.sentence.startswith("Recorded: ana approved run ")
    assert [kept.key for kept in (await loop.status()).intents] == [record.key]
    assert len(loop.sprite.decisions()) == 1


async def test_cancel_as_an_update_by_the_cli_is_answered_when_it_is_confirmed(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", HANGING)
    sprite.serve()
    sprite.run()
    await sprite.until_role_works()
    loop = await supervise(sprite)
    await loop.until_lifecycle("running")
    arguments = ["--workflow-id", loop.id, "--name", "CANCEL_LOOP", "--input", json.dumps(ANA)]
    done = await loop.house.temporal("workflow", "update", "execute", *arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["stage"] == "confirmed"


async def test_precondition_that_fails_is_answered_and_recorded(supervise: Supervisors, new_sprite: Any) -> None:
    loop = await waiting(supervise, new_sprite)
    record = await ask(loop, "APPROVE_PENDING", {**ANA, "expect": {"runId": "2020-01-01T00:00:00Z"}})
    assert record.stage is IntentStage.REJECTED
    assert "expected 2020-01-01T00:00:00Z" in record.reason
    assert [kept.stage for kept in (await loop.status()).intents] == [IntentStage.REJECTED]


@pytest.mark.parametrize(
    "message", [None, {}, "ana", 7, [ANA], {"by": 7}, {"by": "ana", "expct": {}}, {"by": "YOUR-NAME"}]
)
async def test_what_is_no_message_is_refused_and_leaves_no_trace(
    supervise: Supervisors, new_sprite: Any, message: object
) -> None:
    loop = await waiting(supervise, new_sprite)
    with pytest.raises(WorkflowUpdateFailedError) as raised:
        await ask(loop, "REJECT_PENDING", message)
    assert '{"by":"ana"}' in str(raised.value.cause)
    assert (await loop.status()).intents == []
    kinds = {EventType.Name(event.event_type) for event in (await loop.history()).events}
    assert not [kind for kind in kinds if "UPDATE" in kind and "SEARCH_ATTRIBUTES" not in kind]


async def test_wrong_number_of_arguments_is_refused_and_wedges_nothing(supervise: Supervisors, new_sprite: Any) -> None:
    loop = await waiting(supervise, new_sprite)

    async def update(*inputs: str) -> "subprocess.CompletedProcess[str]":
        given = [part for one in inputs for part in ("--input", one)]
        arguments = ["--workflow-id", loop.id, "--name", "APPROVE_PENDING", *given]
        return await loop.house.temporal("workflow", "update", "execute", *arguments)

    for inputs in ([], ['{"by":"ana"}', '{"by":"bo"}']):
        assert (await update(*inputs)).returncode != 0
    assert (await loop.status()).intents == []
    assert (await ask(loop, "APPROVE_PENDING", ANA)).stage is IntentStage.RECORDED


async def test_update_id_is_the_key_of_a_message_without_one(supervise: Supervisors, new_sprite: Any) -> None:
    loop = await waiting(supervise, new_sprite)
    first = await ask(loop, "APPROVE_PENDING", ANA, id="my-id")
    assert first.key == "my-id"
    # A later run of the workflow, whose server knows nothing of the update, knows the key.
    await loop.send("APPROVE_PENDING", {**ANA, "idempotencyKey": "my-id"})
    again = await loop.until(lambda seen: seen.intents[0].received == 2, "the repetition is recognised")
    assert len(again.intents) == 1
    named = await ask(loop, "APPROVE_PENDING", {**ANA, "idempotencyKey": "named"}, id="another-id")
    assert named.key == "named"


async def test_answer_that_takes_long_is_the_stage_reached(supervise: Supervisors, new_sprite: Any) -> None:
    sprite = new_sprite("acme", WAITING)
    loop = await supervise(sprite, local_only=True)  # and nobody serves its queue
    record = await asyncio.wait_for(ask(loop, "APPROVE_PENDING", ANA), 60)
    assert record.stage is IntentStage.RECEIVED


async def test_updates_around_continue_as_new_are_all_answered(supervise: Supervisors, new_sprite: Any) -> None:
    loop = await waiting(supervise, new_sprite, options=FAST.model_copy(update={"continue_as_new_events": 40}))
    never = {**ANA, "expect": {"runId": "2020-01-01T00:00:00Z"}}
    answers = []
    while len(await loop.runs()) < 3:
        answers.append(await ask(loop, "APPROVE_PENDING", never))
    # One that was asked while the supervisor was leaving was answered with the stage reached, and went on.
    kept = await loop.until(
        lambda seen: [record.stage for record in seen.intents] == [IntentStage.REJECTED] * len(answers),
        "all are judged",
    )
    assert [record.key for record in kept.intents] == [record.key for record in answers]
