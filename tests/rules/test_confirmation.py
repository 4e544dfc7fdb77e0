"""What counts as evidence that an intent took effect: the table of `workflows/confirmation.py`, row by row."""

from __future__ import annotations

import pytest

from contract.intents import Intent
from contract.observation import ApprovalDigest
from contract.status import Attention, IntentRecord, IntentStage
from tests.rules.world import BEGIN, Runtime, running, waiting
from workflows.attention import assess

APPROVE, REJECT = Intent.APPROVE_PENDING, Intent.REJECT_PENDING


def stage(record: IntentRecord) -> str:
    return record.stage.value


def stages(record: IntentRecord) -> list[str]:
    return [stage.stage.value for stage in record.stages]


def approving(intent: Intent = APPROVE, body: str = '{"by":"ana"}') -> tuple[Runtime, IntentRecord]:
    """A decision whose command is under way."""
    world = waiting()
    return world, world.order(intent, body)


def recorded(intent: Intent = APPROVE) -> tuple[Runtime, IntentRecord]:
    """A decision that stands in the log, and no run has consumed it."""
    world, record = approving(intent)
    world.outcome(record)
    world.decide("approved" if intent is APPROVE else "rejected", iteration=2)
    world.look()
    assert stage(record) == "recorded"
    return world, record


# Approve.


def test_approve_is_accepted_on_the_request_that_was_seen() -> None:
    world, record = approving()
    assert record.stages[1].evidence == f"judged at line {len(world.log)}, approval.json a1b2c3d4"


def test_approve_is_recorded_by_its_line_and_says_what_to_do_next() -> None:
    world, record = recorded()
    assert stages(record) == ["received", "accepted", "executing", "recorded"]
    assert record.decision_line == len(world.log)
    assert record.stages[-1].line == record.decision_line
    assert record.deadline is None
    assert record.sentence == (
        f"Recorded: ana approved run R1 iteration 2 (line {record.decision_line}). No run has consumed it yet. "
        "In the sprite: superloop.sh run --repo '/srv/sprite/demo repo' --loop demo"
    )
    assert assess(world.state).code is Attention.APPROVED_NOT_RESUMED


@pytest.mark.parametrize("hours", [0, 5, 24 * 14])
def test_approve_consumed_hours_later_is_confirmed_never_failed(hours: int) -> None:
    world, record = recorded()
    world.tick(hours * 3600)
    world.overdue(0)
    assert stage(record) == "recorded"
    world.round_trip()
    world.start("R2")
    line = world.consume("R1", 2)
    world.look()
    record = world.follow(record)
    assert stage(record) == "confirmed"
    assert (record.effect_line, record.effect_run_id, record.late) == (line, "R1", False)
    assert record.sentence == (
        f"Confirmed: ana approved run R1 iteration 2; a run consumed the approval on line {line}."
    )


def test_decision_and_consumption_in_one_observation_show_both_stages() -> None:
    world, record = approving()
    world.outcome(record)
    decided = world.decide("approved", iteration=2)
    world.start("R2")
    world.consume("R1", 2)
    world.look()
    assert stages(record) == ["received", "accepted", "executing", "recorded", "confirmed"]
    assert record.stages[-2].line == decided


def test_approve_recorded_from_approval_json_before_its_line_is_read_still_confirms() -> None:
    world, record = approving()
    world.fact(approval=world.approval("approved", iteration=2, by="ana"))
    world.look()
    world.outcome(record)
    assert stage(record) == "recorded"
    assert "approval.json" in record.sentence
    world.decide("approved", iteration=2)
    world.start("R2")
    world.consume("R1", 2)
    world.look()
    assert stage(record) == "confirmed"


def test_approve_whose_decision_line_was_never_readable_confirms_by_the_consumption() -> None:
    world, record = approving()
    world.outcome(record)
    world.fact(approval=world.approval("approved", iteration=2, by="ana"))
    world.look()
    assert (record.stage, record.decision_line) == (IntentStage.RECORDED, None)
    world.start("R2")
    world.consume("R1", 2)
    world.look()
    assert stage(record) == "confirmed"


def test_old_consumption_and_old_completion_never_confirm_a_new_approve() -> None:
    world = Runtime()
    world.event("loop_start", "R0")
    world.event("approval_decision", "R0", status="approved", by="ana")
    world.event("approval_consumed", "R0", status="approved")
    world.event("loop_complete", "R0", approval=True)
    world.start("R1")
    world.work("R1")
    world.ask("R1")
    world.look()
    record = world.order(APPROVE)
    world.outcome(record)
    world.look()
    assert stage(record) == "executing"
    assert record.decision_line is None


def test_approval_consumed_of_another_run_does_not_confirm() -> None:
    world, record = recorded()
    world.event("approval_consumed", "R9", status="approved")
    world.event("loop_complete", "R9", approval=True)
    world.look()
    assert stage(record) == "recorded"


def test_decision_by_somebody_else_is_not_taken_for_ours() -> None:
    world, record = approving()
    world.outcome(record)
    world.decide("approved", by="bo", iteration=2)
    world.look()
    assert (record.stage, record.decision_line) == (IntentStage.EXECUTING, None)


def test_the_other_decision_by_the_same_person_is_not_taken_for_ours() -> None:
    world, record = approving(APPROVE)
    world.decide("rejected", by="ana", iteration=2)
    world.look()
    assert record.decision_line is None


def test_command_that_failed_because_somebody_else_was_first_is_a_rejection_naming_them() -> None:
    world, record = approving()
    world.decide("rejected", by="bo", iteration=2)
    decided_at = world.log[-1].timestamp[11:19]
    world.outcome(
        record, "failed_command", exit_code=1, output="error: approval request is not pending (status=rejected)"
    )
    assert stage(record) == "failed_command"
    world.look()
    assert stage(record) == "rejected"
    assert record.sentence == f"Nothing done: bo already rejected this at {decided_at}."


def test_command_that_failed_for_another_reason_stays_failed_when_somebody_else_decides_later() -> None:
    world, record = approving()
    world.outcome(record, "failed_command", exit_code=127, output="superloop.sh: command not found")
    world.decide("rejected", by="bo", iteration=2)
    world.look()
    assert stage(record) == "failed_command"
    assert record.sentence == ("Failed: the command answered exit code 127: superloop.sh: command not found")


def test_lost_approve_beside_somebody_elses_decision_is_known_to_have_done_nothing() -> None:
    world, record = approving()
    world.outcome(record, "ambiguous", message="sent 03:12:07, no answer; not decidable.")
    assert stage(record) == "ambiguous"
    world.decide("approved", by="bo", iteration=2)
    world.look()
    assert stage(record) == "rejected"
    assert "bo already approved this" in record.sentence


def test_lost_approve_that_arrived_after_all_is_recorded_late_and_confirmed_late() -> None:
    world, record = approving()
    world.outcome(record, "ambiguous", message="sent 03:12:07, no answer; not decidable.")
    assert record.sentence == (
        "Unknown: sent 03:12:07, no answer; not decidable. Do not repeat; see: ops-manager status acme/demo"
    )
    assert assess(world.state).code is Attention.AMBIGUOUS
    world.decide("approved", iteration=2)
    world.look(600)
    assert (record.stage, record.late) == (IntentStage.RECORDED, True)
    assert assess(world.state).code is not Attention.AMBIGUOUS
    world.start("R2")
    world.consume("R1", 2)
    world.look()
    assert (record.stage, record.late) == (IntentStage.CONFIRMED, True)
    assert record.sentence.endswith("(late: the wait for it had ended).")


def test_approve_with_no_decision_in_sight_at_the_deadline_is_ambiguous_in_truthful_words() -> None:
    world, record = approving()
    world.outcome(record)
    assert record.deadline is not None
    assert (record.deadline - world.now).total_seconds() == 15
    world.look()
    looked = world.now.strftime("%H:%M:%S")
    world.overdue(13)
    assert stage(record) == "executing"
    world.overdue(1)
    assert stage(record) == "ambiguous"
    assert record.sentence == (
        f"Unknown: the command answered 0, but when last looked, at {looked}, no decision was visible, neither in the "
        "log nor in approval.json. Do not repeat; see: ops-manager status acme/demo"
    )
    world.overdue(100)
    assert stages(record).count("ambiguous") == 1


def test_evidence_that_overtakes_the_answer_is_not_undone_by_it() -> None:
    world, record = approving()
    world.decide("approved", iteration=2)
    world.start("R2")
    world.consume("R1", 2)
    world.look()
    assert stage(record) == "confirmed"
    world.outcome(record)
    world.overdue(600)
    assert stage(record) == "confirmed"
    assert record.exit_code == 0


def test_no_confirm_ends_as_executed_unconfirmed_and_waits_for_nothing() -> None:
    world, record = approving(body='{"by":"ana","noConfirm":true}')
    world.outcome(record)
    assert (record.stage, record.deadline) == (IntentStage.EXECUTED_UNCONFIRMED, None)
    assert record.sentence == "Executed: the command exited 0; no confirmation was asked for."


FOUND = "its effect was found in the sprite; nobody saw the command end"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('{"by":"ana","noConfirm":true}', f"Executed: {FOUND}; no confirmation was asked for."),
        ('{"by":"ana"}', f"Executed: {FOUND}. Waiting to see the decision in the log."),
    ],
)
def test_command_that_nobody_saw_end_is_not_said_to_have_exited(body: str, sentence: str) -> None:
    world, record = approving(body=body)
    world.outcome(record, recovered=True, replayed=True)
    assert (record.sentence, record.recovered) == (sentence, True)


def test_cancel_that_nobody_saw_end_is_not_said_to_have_exited_nor_answered() -> None:
    world = running()
    record = world.order(Intent.CANCEL_LOOP)
    world.outcome(record, recovered=True)
    assert record.sentence == f"Recorded: ana cancelled; {FOUND}. Waiting to see the process gone."
    world.overdue(60)
    assert record.sentence.startswith("Unknown: the sprite found its effect, but when last looked, at ")


def test_refusal_of_the_sprite_is_a_rejection_with_its_reason() -> None:
    world, record = approving()
    world.outcome(record, "refused", code="precondition_failed", message="no effect: approvalSha256 is 'ff'")
    assert stage(record) == "rejected"
    told = "the sprite refused (precondition_failed): no effect: approvalSha256 is 'ff'"
    assert (record.reason, record.sentence) == (told, f"Nothing done: {told}")


def test_replayed_answer_says_that_it_is_an_earlier_one() -> None:
    world, record = approving()
    world.outcome(record, replayed=True)
    assert record.replayed
    assert "an earlier answer of the same key" in record.sentence


# Reject.


def test_reject_is_confirmed_only_when_the_run_that_took_it_up_begins_an_iteration() -> None:
    world, record = recorded(REJECT)
    world.look(3600)
    assert stage(record) == "recorded"
    world.start("R2")
    taken = world.event("approval_rejected", "R2", status="rejected")
    world.fact(approval=None)
    world.look()
    assert stage(record) == "recorded"
    assert record.sentence == (
        f"Recorded: ana rejected run R1 iteration 2. Run R2 has taken it up (line {taken}), and has not begun an "
        "iteration yet."
    )
    world.work("R2")
    world.look()
    assert stage(record) == "confirmed"
    assert record.sentence == (
        f"Confirmed: ana rejected run R1 iteration 2; run R2 works on since line {record.effect_line}."
    )


def test_reject_is_not_confirmed_while_nobody_runs() -> None:
    world, record = recorded(REJECT)
    for _ in range(48):
        world.look(3600)
        world.overdue(0)
    assert stage(record) == "recorded"


def test_reject_is_not_confirmed_when_the_next_run_dies_before_its_first_iteration() -> None:
    world, record = recorded(REJECT)
    world.start("R2")
    world.event("approval_rejected", "R2", status="rejected")
    world.fact(approval=None)
    world.killed()
    world.look_twice()
    assert stage(record) == "recorded"
    assert world.now_is == ("failed", "crashed")
    world.cancelled()
    world.start("R3")
    world.work("R3")
    world.look()
    assert stage(record) == "recorded"


def test_iteration_without_a_rejection_taken_up_does_not_confirm_a_reject() -> None:
    world, record = recorded(REJECT)
    world.event("iteration_start", "R2")
    world.look()
    assert stage(record) == "recorded"


# Another request or decision takes its place.


def test_rejection_that_no_run_took_up_is_not_confirmed_by_the_rejection_of_a_later_request() -> None:
    world, record = recorded(REJECT)
    world.fact(approval=None)
    world.start("R3")
    world.work("R3")
    world.ask("R3")
    asked = len(world.log)
    world.look()
    assert (record.stage, record.final) == (IntentStage.RECORDED, True)
    assert record.sentence == (
        "Recorded: ana rejected run R1 iteration 2. No run took it up before another request or decision "
        f"(line {asked}) took its place."
    )
    world.round_trip()
    world.decide("rejected", by="bo", run="R3")
    world.start("R4")
    world.event("approval_rejected", "R4", status="rejected")
    world.work("R4")
    world.look()
    assert stage(world.follow(record)) == "recorded"


def test_later_decision_takes_the_place_of_ours_also_within_one_observation() -> None:
    world, record = approving(REJECT)
    world.outcome(record, "ambiguous", message="lost.")
    world.decide("rejected", iteration=2)
    world.decide("rejected", by="bo", run="unknown", iteration=0)
    world.start("R2")
    world.event("approval_rejected", "R2", status="rejected")
    world.work("R2")
    world.look()
    assert (record.stage, record.late, record.effect_run_id) == (IntentStage.RECORDED, True, None)


def test_rejection_taken_up_by_a_run_that_died_says_so_after_the_next_request_too() -> None:
    world, record = recorded(REJECT)
    world.start("R2")
    world.event("approval_rejected", "R2", status="rejected")
    world.look()
    told = record.sentence
    world.start("R3")
    world.work("R3")
    world.ask("R3")
    world.look()
    assert (record.stage, record.final, record.sentence) == (IntentStage.RECORDED, True, told)


def test_approval_recorded_by_its_file_alone_is_not_taken_over_by_its_own_line() -> None:
    world, record = approving()
    world.outcome(record)
    world.fact(approval=world.approval("approved", iteration=2, by="ana"))
    world.look()
    world.decide("approved", iteration=2)
    world.look()
    assert (record.stage, record.final) == (IntentStage.RECORDED, False)
    world.start("R2")
    world.consume("R1", 2)
    world.ask("R3")
    world.look()
    assert (record.stage, record.final) == (IntentStage.CONFIRMED, False)


def test_request_that_takes_its_place_counts_in_a_rewritten_log_too() -> None:
    world, record = recorded(REJECT)
    world.start("R3")
    world.work("R3")
    world.ask("R3")
    world.new_epoch()
    world.event("approval_rejected", "R4", status="rejected")
    world.work("R4")
    world.look()
    assert (record.stage, record.final) == (IntentStage.RECORDED, True)


# A replaced log.


def test_rewritten_log_confirms_by_the_decision_time_and_only_at_its_head() -> None:
    world, record = recorded()
    world.start("R2")
    consumed = world.consume("R1", 2)
    world.new_epoch()
    assert (record.baseline_line, record.decision_line) == (None, None)
    world.look(upto=consumed, at_head=False)
    assert stage(record) == "recorded"
    world.look()
    assert stage(record) == "confirmed"
    assert record.effect_line == consumed
    assert record.baseline_line == len(world.log)


def test_lost_approve_found_in_a_rewritten_log_is_recorded_at_its_head_only() -> None:
    world, record = approving()
    world.outcome(record, "ambiguous", message="lost.")
    world.decide("approved", iteration=2)
    world.new_epoch()
    world.look(at_head=False)
    assert (stage(record), record.decision_line) == ("ambiguous", len(world.log))
    world.look()
    assert (stage(record), record.late) == ("recorded", True)


def test_older_decision_of_the_same_run_in_a_rewritten_log_does_not_count() -> None:
    world, record = approving()
    world.outcome(record, "ambiguous", message="lost.")
    # Somebody put a decision of before the intent into the log that takes the place of the old one.
    old = world.log[-1].model_copy(
        update={
            "name": "approval_decision",
            "status": "approved",
            "data": {"by": "ana", "at": BEGIN.strftime("%Y-%m-%dT%H:%M:%SZ")},
        }
    )
    world.log = [*world.log, old.model_copy(update={"line": len(world.log) + 1})]
    world.new_epoch()
    world.look()
    assert (record.stage, record.decision_line) == (IntentStage.AMBIGUOUS, None)


def test_shorter_log_after_the_rewrite_still_confirms_what_comes_then() -> None:
    world, record = recorded()
    world.log = world.log[:2]
    world.new_epoch("cursor_ahead")
    world.look()
    assert stage(record) == "recorded"
    assert record.baseline_line == 2
    world.start("R2")
    consumed = world.consume("R1", 2)
    world.look()
    assert (record.stage, record.effect_line) == (IntentStage.CONFIRMED, consumed)


def test_approval_of_an_empty_request_is_recorded_for_the_run_unknown() -> None:
    world = Runtime()
    world.start()
    world.work()
    world.look()
    world.exit()
    world.write_state(active=False)
    world.fact(approval=ApprovalDigest())
    world.look()
    record = world.order(APPROVE)
    assert record.run_id == "unknown"
    world.fact(approval=ApprovalDigest(status="approved", decision_by="ana", decision_status="approved"))
    world.outcome(record)
    world.look()
    assert stage(record) == "recorded"
