"""Release, supervise again, and reset: none of them touches a loop or repeats an effect."""

from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from contract.status import IntentStage, StatusReport
from tests.harness import Supervised, Supervisors, closed
from tests.harness_history import failed_tasks
from tests.harness_sprite import HANGING, Sprite

ANA = {"by": "ana"}


async def _running(supervise: Supervisors, sprite: Sprite) -> Supervised:
    sprite.serve()
    sprite.run()
    await sprite.until_role_works()
    loop = await supervise(sprite)
    await loop.until_lifecycle("running")
    return loop


async def test_release_ends_the_supervision_and_leaves_the_running_loop_alone(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", HANGING)
    loop = await _running(supervise, sprite)
    before = (sprite.state, sprite.log())
    await loop.handle.cancel()
    assert await closed(loop.handle) is WorkflowExecutionStatus.CANCELED
    assert (sprite.state, sprite.log()) == before
    assert sprite.commands() == []
    assert sprite.superloop("status").stdout.count('"active": true') == 1


async def test_release_with_an_intent_still_queued_says_that_nothing_was_done(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", HANGING)
    sprite.serve()
    sprite.run()
    await sprite.until_role_works()
    # Nothing is judged unseen, so what arrives while the service refuses our token has to queue.
    sprite.write_token("not-the-token")
    loop = await supervise(sprite)
    await loop.until(lambda seen: seen.attention.code == "unauthorized", "the token is refused")
    await loop.send("CANCEL_LOOP", ANA)
    await loop.release()
    (record,) = (await loop.status()).intents
    assert record.stage is IntentStage.REJECTED
    assert "released" in record.sentence
    assert sprite.commands() == []


async def test_second_cancel_without_a_key_after_a_release_is_executed(supervise: Supervisors, new_sprite: Any) -> None:
    sprite = new_sprite("acme", HANGING)
    first = await _running(supervise, sprite)
    await first.send("CANCEL_LOOP", ANA)
    first_record = await first.until_intent(IntentStage.CONFIRMED)
    await first.release()
    second_run = sprite.run()
    await sprite.until(lambda: len(sprite.lines_of("role_start")) == 4, "the second run works")
    second = await supervise(sprite)
    await second.until_lifecycle("running")
    await second.send("CANCEL_LOOP", ANA)
    second_record = await second.until_intent(IntentStage.CONFIRMED)
    assert second_record.key != first_record.key
    assert second_record.process_pid == second_run.pid
    assert len(sprite.commands("cancel")) == 2


async def test_reset_to_before_a_cancel_does_not_cancel_the_run_that_began_since(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", HANGING)
    loop = await _running(supervise, sprite)
    await loop.send("CANCEL_LOOP", ANA)
    await loop.until_intent(IntentStage.CONFIRMED)
    await loop.until_lifecycle("stopped", "cancelled")
    second_run = sprite.run()
    await sprite.until(lambda: len(sprite.lines_of("role_start")) == 4, "the second run works")
    await loop.until_lifecycle("running")

    # Back to before the cancel: Temporal gives the signal once more to the run that begins there.
    history = await loop.history()
    signalled = next(
        e.event_id for e in history.events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    )
    completed = [
        e.event_id
        for e in history.events
        if e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED and e.event_id < signalled
    ]
    done = await loop.house.temporal(
        "workflow", "reset", "--workflow-id", loop.id, "--event-id", str(completed[-1]), "--reason", "a test"
    )
    assert done.returncode == 0, done.stderr

    def answered(seen: StatusReport) -> bool:
        closed_stages = (IntentStage.REJECTED, IntentStage.CONFIRMED, IntentStage.AMBIGUOUS)
        return bool(seen.intents) and seen.intents[0].stage in closed_stages

    seen = await loop.until(answered, "the repeated cancel is answered")
    assert seen.intents[0].stage is IntentStage.REJECTED, seen.intents[0]
    assert "no effect" in seen.intents[0].sentence
    assert second_run.poll() is None
    assert len(sprite.commands("cancel")) == 1
    await loop.until_lifecycle("running")
    assert failed_tasks(await loop.history()) == []


async def test_reset_to_before_an_approval_that_was_recorded_does_not_decide_twice(
    supervise: Supervisors, new_sprite: Any
) -> None:
    from tests.harness_sprite import WAITING

    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    sprite.run().wait()
    loop = await supervise(sprite)
    await loop.until_lifecycle("awaiting_approval")
    await loop.send("APPROVE_PENDING", ANA)
    await loop.until_intent(IntentStage.RECORDED)
    done = await loop.house.temporal(
        "workflow", "reset", "--workflow-id", loop.id, "--type", "FirstWorkflowTask", "--reason", "a test"
    )
    assert done.returncode == 0, done.stderr
    await loop.until_lifecycle("decided", "approved")
    record = await loop.until_intent(IntentStage.REJECTED)
    assert "already approved this" in record.sentence
    assert (len(sprite.decisions()), len(sprite.commands("approve"))) == (1, 1)


async def test_release_ends_a_comparison_that_was_asked_for_as_not_done(
    supervise: Supervisors, new_sprite: Any
) -> None:
    # Nobody serves its queue, so the comparison does not come about before the release.
    loop = await supervise(new_sprite("acme", HANGING), local_only=True)
    await loop.send("RECONCILE", ANA)
    await loop.until_intent(IntentStage.ACCEPTED)
    await loop.release()
    (record,) = (await loop.status()).intents
    assert (record.stage, "released" in record.sentence) == (IntentStage.REJECTED, True)
