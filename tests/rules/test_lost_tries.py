"""A try whose answer got lost may still arrive: hardly anything that follows proves that nothing was done."""

from __future__ import annotations

import pytest

from contract.intents import Intent
from contract.status import IntentRecord, IntentStage
from tests.rules.world import Runtime, running, waiting
from workflows import records


def lost(intent: Intent = Intent.APPROVE_PENDING) -> tuple[Runtime, IntentRecord]:
    """An intent of which one try got lost."""
    world = running() if intent is Intent.CANCEL_LOOP else waiting()
    record = world.order(intent)
    world.lose(record)
    return world, record


@pytest.mark.parametrize(
    "code", ["precondition_failed", "nothing_to_cancel", "unauthorized", "wrong_sprite", "not_found"]
)
@pytest.mark.parametrize("intent", list(Intent))
def test_refusal_of_a_second_try_says_nothing_of_the_first(intent: Intent, code: str) -> None:
    world, record = lost(intent)
    sent = world.now.strftime("%H:%M:%S")
    world.outcome(record, "refused", code=code, message="no effect: no")
    assert record.stage is IntentStage.AMBIGUOUS
    assert record.sentence == (
        f"Unknown: sent {sent}, no answer; the sprite did not know of it when asked, but it may still arrive. "
        f"Sent again, the sprite refused ({code}): no effect: no. Do not repeat; see: ops-manager status acme/demo"
    )


def test_words_of_a_sprite_that_end_without_a_full_stop_are_told_as_a_sentence() -> None:
    world = waiting()
    record = world.order(Intent.APPROVE_PENDING)
    world.outcome(record, "ambiguous", message="the sprite itself does not know how the command ended")
    told = "Unknown: the sprite itself does not know how the command ended. Do not repeat; "
    assert record.sentence.startswith(told)


def test_key_that_belongs_to_another_request_proves_that_no_try_was_taken() -> None:
    world, record = lost()
    world.outcome(record, "refused", code="key_reused", message="no effect: used for another request")
    assert record.stage is IntentStage.REJECTED
    assert record.sentence.startswith("Nothing done: the sprite refused (key_reused)")


def test_answer_that_the_sprite_has_recorded_counts_for_every_try() -> None:
    world, record = lost()
    world.outcome(record, "failed_command", exit_code=1, output="error: no", replayed=True)
    assert record.stage is IntentStage.FAILED_COMMAND


def test_first_try_that_arrived_after_all_is_recorded_late() -> None:
    world, record = lost()
    world.outcome(record, "refused", code="unauthorized", message="no effect: 401")
    world.decide("approved", iteration=2)
    world.look(3600)
    assert (record.stage, record.late) == (IntentStage.RECORDED, True)


def test_decision_of_somebody_else_proves_that_ours_was_never_taken() -> None:
    world, record = lost()
    world.decide("rejected", by="bo", iteration=2)
    world.outcome(record, "refused", code="precondition_failed", message="no effect: it is decided")
    world.look()
    assert record.stage is IntentStage.REJECTED
    assert "bo already rejected this" in record.sentence


def test_lost_try_is_remembered_over_continue_as_new() -> None:
    world, record = lost()
    world.round_trip()
    assert world.follow(record).lost_at == world.now


# Back into the queue.


def test_intent_that_was_put_back_is_queued_again_with_its_key_and_keeps_a_short_record() -> None:
    world = waiting()
    record = world.order(Intent.APPROVE_PENDING)
    key = record.key
    for number in range(100):
        records.put_back(record, world.now, f"not sent: {number}")
        assert world.state.queue() == [record]
        assert world.judge(record).refusal is None
    assert record.key == key
    told = [(stage.stage.value, stage.evidence) for stage in record.stages]
    assert [stage for stage, _ in told] == ["received", "accepted", "executing", "received", "accepted", "executing"]
    assert told[3] == ("received", "not sent: 99")


def test_what_is_queued_overtakes_only_what_it_goes_before() -> None:
    world = waiting()
    approve = world.order(Intent.APPROVE_PENDING)
    assert not world.state.overtaken(approve)
    world.send("REJECT_PENDING")
    assert not world.state.overtaken(approve)
    cancel = world.send("CANCEL_LOOP")
    assert world.state.overtaken(approve)
    assert world.state.queue()[0] is cancel
