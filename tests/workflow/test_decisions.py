"""Approve and reject, from the signal to the run that takes the decision up (D7, D12, D18)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.status import Attention, IntentStage
from tests.harness import Supervised, Supervisors
from tests.harness_sprite import CANDIDATE, CONTINUE, HANG, WAITING, Sprite, loops, runs

ANA = {"by": "ana", "note": "looks good"}
OPEN = (IntentStage.RECEIVED, IntentStage.ACCEPTED, IntentStage.EXECUTING)


@pytest.fixture
def waiting(new_sprite: Any) -> Sprite:
    """A served sprite whose loop waits for an approval; what runs next after a rejection hangs in its first role."""
    sprite: Sprite = new_sprite("acme", loops(demo=runs([CONTINUE, CANDIDATE], [HANG], approval_required=True)))
    sprite.serve()
    sprite.run().wait()
    return sprite


async def _waiting_loop(supervise: Supervisors, sprite: Sprite) -> Supervised:
    loop = await supervise(sprite)
    await loop.until_lifecycle("awaiting_approval")
    return loop


async def test_approve_is_recorded_then_confirmed_when_a_run_consumes_it(
    supervise: Supervisors, waiting: Sprite
) -> None:
    loop = await _waiting_loop(supervise, waiting)
    request = waiting.events()[-1]
    seen = await loop.status()
    assert (seen.run_id, seen.iteration) == (request["run_id"], 2)
    assert seen.attention.code is Attention.APPROVAL_WAITING
    assert seen.pending_approval is not None
    assert (seen.pending_approval.run_id, seen.pending_approval.iteration) == (request["run_id"], 2)

    await loop.send("APPROVE_PENDING", ANA)
    recorded = await loop.until_intent(IntentStage.RECORDED)
    assert [recorded.decision_line] == waiting.lines_of("approval_decision")
    decided = await loop.until_lifecycle("decided", "approved")
    assert decided.attention.code is Attention.APPROVED_NOT_RESUMED
    assert f"superloop.sh run --repo {waiting.repo} --loop demo" in decided.attention.sentence
    (decision,) = waiting.decisions()
    assert (decision["decision"], decision["by"], decision["note"]) == ("approved", "ana", "looks good")

    waiting.run().wait()
    confirmed = await loop.until_intent(IntentStage.CONFIRMED)
    assert [confirmed.effect_line] == waiting.lines_of("approval_consumed")
    assert (confirmed.run_id, confirmed.iteration) == (request["run_id"], 2)
    assert not confirmed.late
    complete = await loop.until_lifecycle("complete")
    assert complete.run_id == request["run_id"]
    assert complete.attention.code is Attention.NONE


async def test_reject_is_confirmed_by_the_run_that_goes_on_and_not_before(
    supervise: Supervisors, waiting: Sprite
) -> None:
    loop = await _waiting_loop(supervise, waiting)
    await loop.send("REJECT_PENDING", {"by": "bo"})
    await loop.until_intent(IntentStage.RECORDED)
    await loop.until_lifecycle("decided", "rejected")
    # Nobody runs it: however often it is looked at, that is no confirmation.
    looked = (await loop.status()).observed_at
    await loop.send("APPROVE_PENDING", {"by": "cy"})
    refused = await loop.until_intent(IntentStage.REJECTED, index=1)
    assert refused.sentence.startswith("Nothing done: bo already rejected this at ")
    seen = await loop.status()
    assert seen.observed_at is not None
    assert looked is not None
    assert seen.observed_at > looked
    assert seen.intents[0].stage is IntentStage.RECORDED

    waiting.run()
    confirmed = await loop.until_intent(IntentStage.CONFIRMED, index=0)
    second_run = [event["run_id"] for event in waiting.events() if event["event"] == "loop_start"][1]
    assert confirmed.effect_run_id == second_run
    assert confirmed.effect_line in waiting.lines_of("iteration_start")
    running = await loop.until_lifecycle("running")
    assert (running.run_id, running.iteration) == (second_run, 1)


async def test_approve_of_a_run_that_only_found_the_approval_pending_counts_for_the_request(
    supervise: Supervisors, waiting: Sprite
) -> None:
    loop = await _waiting_loop(supervise, waiting)
    request = waiting.events()[-1]["run_id"]
    waiting.run().wait()
    assert len(waiting.lines_of("approval_wait")) == 1
    await loop.until(lambda seen: seen.cursor.event_line_offset == len(waiting.events()), "all lines are read")
    seen = await loop.until_lifecycle("awaiting_approval")
    assert seen.run_id == request
    await loop.send("APPROVE_PENDING", ANA)
    assert (await loop.until_intent(IntentStage.RECORDED)).run_id == request


async def test_approve_where_nothing_is_pending_is_refused_without_a_command(
    supervise: Supervisors, waiting: Sprite
) -> None:
    waiting.superloop("approve", "--loop", "demo", "--by", "bo")
    waiting.run().wait()
    loop = await supervise(waiting)
    await loop.until_lifecycle("complete")
    await loop.send("APPROVE_PENDING", ANA)
    refused = await loop.until_intent(IntentStage.REJECTED)
    # The log holds an approval_consumed of long ago: no evidence for this one.
    assert "no approval is pending; the loop is complete" in refused.reason
    assert waiting.commands() == []


async def test_approve_after_somebody_else_decided_names_who_was_first(supervise: Supervisors, waiting: Sprite) -> None:
    loop = await _waiting_loop(supervise, waiting)
    waiting.superloop("approve", "--loop", "demo", "--by", "bo", "--reject")
    await loop.send("APPROVE_PENDING", ANA)
    refused = await loop.until_intent(IntentStage.REJECTED)
    assert refused.sentence.startswith("Nothing done: bo already rejected this at ")
    assert waiting.commands() == []
    assert len(waiting.decisions()) == 1


async def test_approve_expecting_another_request_is_refused_without_a_command(
    supervise: Supervisors, waiting: Sprite
) -> None:
    loop = await _waiting_loop(supervise, waiting)
    await loop.send("APPROVE_PENDING", {"by": "ana", "expect": {"runId": "2020-01-01T00:00:00Z"}})
    refused = await loop.until_intent(IntentStage.REJECTED)
    assert f"runId is {waiting.events()[-1]['run_id']}, expected 2020-01-01T00:00:00Z" in refused.reason
    assert waiting.commands() == []
    # The same with what is really there: taken.
    pending = (await loop.status()).pending_approval
    assert pending is not None
    assert pending.sha256 is not None
    expect = {"runId": pending.run_id, "iteration": pending.iteration, "approvalSha256": pending.sha256[:12]}
    await loop.send("APPROVE_PENDING", {"by": "ana", "expect": expect})
    await loop.until_intent(IntentStage.RECORDED, index=1)


async def test_approve_with_no_confirm_ends_when_the_command_has_been_executed(
    supervise: Supervisors, waiting: Sprite
) -> None:
    loop = await _waiting_loop(supervise, waiting)
    await loop.send("APPROVE_PENDING", {"by": "ana", "noConfirm": True})
    executed = await loop.until_intent(IntentStage.EXECUTED_UNCONFIRMED)
    assert len(waiting.decisions()) == 1
    assert "no confirmation was asked for" in executed.sentence


async def test_one_key_sent_three_times_has_one_effect_and_one_record(supervise: Supervisors, waiting: Sprite) -> None:
    loop = await _waiting_loop(supervise, waiting)
    message = {"by": "ana", "idempotencyKey": "release-7"}
    for _ in range(3):
        await loop.handle.signal("APPROVE_PENDING", message)
    await loop.until_intent(IntentStage.RECORDED)
    seen = await loop.until(lambda seen: seen.intents[0].received == 3, "all three are counted")
    assert len(seen.intents) == 1
    assert len(waiting.decisions()) == 1
    assert len(waiting.commands("approve")) == 1
    # Another payload under the same key is another wish, and refused.
    await loop.send("REJECT_PENDING", message)
    refused = await loop.until_intent(IntentStage.REJECTED, index=1)
    assert "idempotency key was used before" in refused.reason
    assert len(waiting.decisions()) == 1


async def test_intent_whose_time_is_over_expires_and_nothing_is_done(supervise: Supervisors, waiting: Sprite) -> None:
    loop = await _waiting_loop(supervise, waiting)
    past = (datetime.now(UTC) - timedelta(seconds=5)).isoformat()
    await loop.send("APPROVE_PENDING", {"by": "ana", "notAfter": past})
    expired = await loop.until_intent(IntentStage.EXPIRED)
    assert expired.sentence.startswith("Expired, nothing done: it was to start by ")
    assert waiting.commands() == []
    assert (await loop.status()).lifecycle == "awaiting_approval"


async def test_local_only_loop_is_approved_through_the_local_transport(supervise: Supervisors, new_sprite: Any) -> None:
    sprite = new_sprite("solo", WAITING)
    sprite.run().wait()
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite, local_only=True)
        seen = await loop.until_lifecycle("awaiting_approval")
        assert (seen.transport.state, seen.transport.local_only) == ("local", True)
        await loop.send("APPROVE_PENDING", ANA)
        recorded = await loop.until_intent(IntentStage.RECORDED)
        assert recorded.transport == "local"
        sprite.run().wait()
        await loop.until_intent(IntentStage.CONFIRMED)
        await loop.until_lifecycle("complete")
