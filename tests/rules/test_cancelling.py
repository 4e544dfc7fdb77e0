"""What counts as evidence that a cancel took effect: `workflows/cancelling.py`, case by case (D6)."""

from __future__ import annotations

import pytest

from contract.intents import Intent
from contract.observation import ProcessDigest, ProcessRun
from contract.status import Attention, IntentRecord, IntentStage
from tests.rules.world import BEGIN, CANCEL_EFFECT_S, Runtime, running, waiting
from workflows.attention import assess


def stage(record: IntentRecord) -> str:
    return record.stage.value


def cancelling(world: Runtime) -> IntentRecord:
    """A cancel whose command has exited 0, nothing of it seen yet."""
    record = world.order(Intent.CANCEL_LOOP)
    world.outcome(record)
    assert stage(record) == "recorded"
    return record


def test_cancel_is_confirmed_when_that_process_is_gone_and_state_too_and_is_the_reason_of_the_stop() -> None:
    world = running()
    record = cancelling(world)
    assert (record.process_pid, record.run_id) == (101, "R1")
    world.remove_state()
    world.look()
    assert stage(record) == "recorded"
    world.exit()
    world.look()
    assert stage(record) == "confirmed"
    assert record.sentence == (
        "Confirmed: ana cancelled run R1 iteration 1; process 101 is gone and state.json is gone."
    )
    assert world.now_is == ("stopped", "cancelled")
    assert world.lifecycles == ["starting", "running", "stopped"]
    assert assess(world.state).code is Attention.NONE


def test_cancel_before_the_first_iteration_is_stopped_and_cancelled() -> None:
    world = Runtime()
    world.start()
    world.look()
    cancelling(world)
    world.cancelled()
    world.look()
    assert world.now_is == ("stopped", "cancelled")


def test_cancel_of_a_run_that_was_to_look_for_a_decision_leaves_the_loop_waiting() -> None:
    world = waiting()
    world.start("R2")
    world.look()
    record = cancelling(world)
    world.cancelled()
    world.look()
    assert stage(record) == "confirmed"
    assert world.now_is == ("awaiting_approval", "approval_requested")


@pytest.mark.parametrize("end", ["complete", "stop", "ask", "role_timeout"])
def test_run_that_ended_by_itself_wins_over_the_cancel(end: str) -> None:
    world = running()
    record = cancelling(world)
    if end == "complete":
        world.complete()
    elif end == "ask":
        world.ask()
    elif end == "stop":
        world.event("loop_stop", reason="max_iterations")
        world.finish_files()
    else:
        world.event("role_timeout", status="timeout", role="planner")
        world.finish_files()
    world.look()
    assert stage(record) == "confirmed"
    assert record.reason.startswith("ended_by_itself: ")
    assert record.sentence.startswith("Confirmed: run R1 iteration 1 was over before the cancel of ana could end it;")
    assert world.state.projection.reason != "cancelled"


def test_end_told_by_two_events_is_told_by_the_first() -> None:
    world = running()
    record = cancelling(world)
    line = world.event("no_progress_stop", status="blocked")
    world.event("loop_stop", reason="no_progress")
    world.finish_files()
    world.look()
    assert record.reason == f"ended_by_itself: no_progress_stop on line {line}"


def test_run_that_completes_by_consuming_an_approval_wins_over_the_cancel_too() -> None:
    world = waiting()
    world.decide("approved", iteration=2)
    world.start("R2")
    world.look()
    record = cancelling(world)
    world.consume("R1", 2)
    world.look()
    assert record.reason.startswith("ended_by_itself: loop_complete")
    assert world.now_is == ("complete", "loop_complete")


def test_run_started_right_after_the_cancel_is_not_called_cancelled() -> None:
    world = running()
    record = cancelling(world)
    world.start("R2")
    world.work("R2")
    world.look()
    assert stage(record) == "confirmed"
    assert f"a later run began on line {record.effect_line}" in record.sentence
    assert world.now_is == ("running", "iteration_start")
    assert [(t.lifecycle.value, t.reason, t.run_id) for t in world.state.projection.transitions] == [
        ("starting", "loop_start", "R1"),
        ("running", "iteration_start", "R1"),
        ("stopped", "cancelled", "R1"),
        ("starting", "loop_start", "R2"),
        ("running", "iteration_start", "R2"),
    ]


def test_end_of_a_later_run_is_not_taken_for_the_end_of_the_cancelled_one() -> None:
    world = running()
    record = cancelling(world)
    world.start("R2")
    world.work("R2")
    world.complete("R2")
    world.look()
    assert "ended_by_itself" not in record.reason
    assert stage(record) == "confirmed"


def test_process_of_the_same_pid_but_another_start_is_not_that_process() -> None:
    world = running()
    record = cancelling(world)
    world.remove_state()
    world.processes(ProcessRun(pid=101, start_time="999.00", loop_id="demo"))
    world.look()
    assert stage(record) == "confirmed"


def test_cancel_whose_process_was_never_seen_waits_until_no_run_of_the_loop_lives() -> None:
    world = running()
    world.no_processes("unknown")
    world.look()
    record = cancelling(world)
    assert record.process_pid is None
    world.remove_state()
    world.alive()
    world.look()
    assert stage(record) == "recorded"
    world.exit()
    world.look()
    assert stage(record) == "confirmed"


def test_cancel_is_not_confirmed_while_the_process_cannot_be_seen() -> None:
    world = running()
    record = cancelling(world)
    world.cancelled()
    world.no_processes("unknown")
    world.look()
    world.overdue(60)
    assert stage(record) == "ambiguous"
    assert "the sprite could not see whether its process lives" in record.sentence
    world.no_processes()
    world.look()
    assert (record.stage, record.late) == (IntentStage.CONFIRMED, True)


@pytest.mark.parametrize(
    ("situation", "words"),
    [("alive", "process 101 was still there"), ("active", "state.json was still active")],
)
def test_cancel_without_effect_at_its_deadline_is_ambiguous_and_says_what_was_seen(situation: str, words: str) -> None:
    world = running()
    record = cancelling(world)
    if situation == "active":
        world.killed()
    world.look()
    world.overdue(58)
    assert stage(record) == "recorded"
    world.overdue(1)
    assert stage(record) == "ambiguous"
    assert words in record.sentence


def test_cancel_through_a_base_service_is_confirmed_by_its_files() -> None:
    world = running()
    world.base_service()
    world.look()
    record = cancelling(world)
    world.remove_state()
    world.look()
    assert stage(record) == "recorded"
    world.fact(active_run_present=False, active_run_pid=None, active_run_loop_id=None)
    world.look()
    assert record.sentence == (
        "Confirmed: ana cancelled run R1 iteration 1; state.json is gone and active-run.json is gone."
    )


def test_crashed_run_is_cleared_and_says_that_nothing_was_killed() -> None:
    world = running()
    world.killed()
    world.look_twice()
    record = cancelling(world)
    assert record.clears_crash
    world.cancelled()
    world.look()
    assert stage(record) == "confirmed"
    assert record.sentence == (
        "Confirmed: ana cleared run R1 iteration 1, which had crashed; nothing had to be killed; state.json is gone."
    )
    assert world.now_is == ("stopped", "cancelled")


# A cancel whose answer got lost.


def lost(world: Runtime) -> IntentRecord:
    """A cancel of which nobody knows whether it ran."""
    record = world.order(Intent.CANCEL_LOOP)
    world.outcome(record, "ambiguous", message="sent 03:00:04, no answer; not decidable.")
    return record


def test_lost_cancel_that_worked_after_all_is_confirmed_late_and_is_the_reason_of_the_stop() -> None:
    world = running()
    record = lost(world)
    world.look(CANCEL_EFFECT_S - 5)
    assert not record.final
    world.cancelled()
    world.look(60)
    assert (record.stage, record.late) == (IntentStage.CONFIRMED, True)
    assert world.now_is == ("stopped", "cancelled")


def test_lost_cancel_whose_run_works_on_claims_nothing_that_comes_later() -> None:
    world = running()
    record = lost(world)
    world.look(CANCEL_EFFECT_S)
    assert (record.stage, record.final) == (IntentStage.AMBIGUOUS, True)
    seen = world.now.strftime("%H:%M:%S")
    assert record.sentence == (
        f"Unknown: sent 03:00:04, no answer; not decidable. At {seen} process 101 was at work: whatever became of the "
        "command, it had had no effect by then, and an end of the run after that is not counted as its doing. Cancel "
        "again if that is still wanted; see: ops-manager status acme/demo"
    )
    assert assess(world.state).code is Attention.AMBIGUOUS
    world.round_trip()
    world.tick(5 * 3600)
    world.cancelled()
    world.look()
    assert stage(world.follow(record)) == "ambiguous"
    assert world.now_is == ("stopped", "state_removed")
    # Its run is over, whoever ended it: nobody is needed for it any more.
    assert assess(world.state).code is Attention.NONE


def test_reading_that_began_before_the_command_must_have_ended_says_nothing_about_it() -> None:
    world = running()
    record = lost(world)
    world.tick(CANCEL_EFFECT_S)
    world.state.observer += 1
    world.state.observer_since = BEGIN
    world.apply(world.observation(observer=world.state.observer))
    assert not record.final


def test_lost_cancel_of_a_run_that_then_died_by_itself_leaves_the_crash_what_it_was() -> None:
    world = running()
    record = lost(world)
    world.killed()
    world.look_twice()
    assert world.now_is == ("failed", "crashed")
    world.start("R2")
    world.work("R2")
    world.look()
    assert [(t.lifecycle.value, t.reason) for t in world.state.projection.transitions] == [
        ("starting", "loop_start"),
        ("running", "iteration_start"),
        ("failed", "crashed"),
        ("starting", "loop_start"),
        ("running", "iteration_start"),
    ]
    assert record.late


def test_cancel_that_answered_but_left_its_run_at_work_claims_nothing_that_comes_later_either() -> None:
    world = running()
    record = cancelling(world)
    world.look()
    world.overdue(60)
    assert stage(record) == "ambiguous"
    world.killed()
    world.look(CANCEL_EFFECT_S)
    assert record.final
    assert "state.json was active: whatever became of the command" in record.sentence


# A cancel for which nobody asked for confirmation.


def unconfirmed(world: Runtime) -> IntentRecord:
    return world.order(Intent.CANCEL_LOOP, '{"by":"ana","noConfirm":true}')


@pytest.mark.parametrize("begun", [True, False], ids=["at work", "before its first iteration"])
def test_run_cancelled_without_confirmation_is_stopped_and_not_crashed(begun: bool) -> None:
    world = Runtime()
    world.start()
    if begun:
        world.work()
    world.look()
    record = unconfirmed(world)
    world.cancelled()
    world.outcome(record)
    told = record.sentence
    world.look_twice()
    assert world.now_is == ("stopped", "cancelled")
    assert assess(world.state).code is Attention.NONE
    assert (record.stage, record.sentence) == (IntentStage.EXECUTED_UNCONFIRMED, told)


def test_run_that_followed_a_cancel_without_confirmation_is_not_called_cancelled() -> None:
    world = running()
    record = unconfirmed(world)
    world.outcome(record)
    world.cancelled()
    world.look()
    world.start("R2")
    world.work("R2")
    world.look()
    world.killed()
    world.look_twice()
    assert world.now_is == ("failed", "crashed")
    assert [t.reason for t in world.state.projection.transitions][2] == "cancelled"


@pytest.mark.parametrize("end", ["by itself", "much later"])
def test_cancel_without_confirmation_claims_no_end_that_was_not_its_doing(end: str) -> None:
    world = running()
    record = unconfirmed(world)
    world.outcome(record)
    if end == "by itself":
        world.complete()
    else:
        world.look(CANCEL_EFFECT_S)
        world.cancelled()
    world.look()
    assert (record.stage, record.final) == (IntentStage.EXECUTED_UNCONFIRMED, True)
    assert world.state.projection.reason != "cancelled"


def test_state_of_a_neighbour_does_not_hold_up_our_cancel() -> None:
    world = running()
    record = cancelling(world)
    world.exit()
    world.write_state(active=True, loop_id="other")
    world.look()
    assert stage(record) == "confirmed"


def test_cancel_in_flight_over_a_rewrite_is_confirmed_by_process_and_state() -> None:
    world = running()
    record = cancelling(world)
    world.new_epoch()
    world.look(upto=1, at_head=False)
    world.cancelled()
    world.look()
    assert stage(record) == "confirmed"
    assert world.now_is == ("stopped", "cancelled")


def test_run_that_began_in_a_log_since_replaced_is_no_evidence_in_the_new_one() -> None:
    world = running()
    record = world.order(Intent.CANCEL_LOOP)
    world.event("loop_start", "R2")
    world.look()
    assert (record.effect_event, record.effect_run_id) == ("loop_start", "R2")
    world.outcome(record)
    world.log = world.log[:1]
    world.new_epoch()
    assert (record.effect_line, record.effect_event, record.effect_run_id) == (None, None, None)
    world.cancelled()
    world.look()
    assert record.reason == "process 101 is gone and state.json is gone"


def test_process_alive_without_any_number_is_not_gone() -> None:
    world = running()
    world.fact(process=ProcessDigest(state="alive"))
    world.look_twice()
    assert world.now_is == ("running", "iteration_start")
