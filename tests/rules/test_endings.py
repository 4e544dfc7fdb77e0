"""Runs that end without a word: crashed, cancelled, given up; and a second live run in the sprite (D1, D6, D14)."""

from __future__ import annotations

from typing import Any

import pytest

from contract.observation import Contact, Freshness, ProcessDigest, ProcessRun
from contract.status import Attention
from tests.rules.world import RECHECK_S, Runtime, World, running, waiting
from workflows.attention import assess
from workflows.ingest import recheck_due

OTHER = ProcessRun(pid=900, start_time="900.00", loop_id="other")
UNNAMED = ProcessRun(pid=901, start_time="901.00", loop_id=None)


def evidence(world: World) -> str:
    return world.state.projection.evidence


def test_killed_run_is_crashed_on_the_second_reading_two_seconds_later() -> None:
    world = running()
    world.killed()
    world.look()
    assert world.now_is == ("running", "iteration_start")
    assert recheck_due(world.state)
    world.look(RECHECK_S - 0.1)
    assert world.now_is == ("running", "iteration_start")
    world.look(0.1)
    assert world.now_is == ("failed", "crashed")
    assert not recheck_due(world.state)
    assert "no superloop.sh run process" in evidence(world)
    assert world.lifecycles == ["starting", "running", "failed"]


def test_sigterm_removes_active_run_and_leaves_state_active_and_is_a_crash() -> None:
    world = running()
    world.exit()
    world.look_twice()
    assert world.now_is == ("failed", "crashed")


def test_role_error_is_a_crash_bound_to_the_run_and_iteration_it_died_in() -> None:
    world = running()
    world.event("iteration_start", iteration=2)
    world.event("role_start", iteration=2, role="tester")
    world.exit()
    world.look_twice()
    assert world.now_is == ("failed", "crashed")
    died = world.state.projection.transitions[-1]
    assert (died.run_id, died.iteration, died.line) == ("R1", 2, None)


def test_prompt_error_leaves_state_inactive_and_is_a_crash_that_blocks_nothing() -> None:
    world = running()
    world.write_state(active=False)
    world.exit()
    world.look_twice()
    assert world.now_is == ("failed", "crashed")
    assert "superloop.sh run" in assess(world.state).sentence
    assert "refuses" not in assess(world.state).sentence


def test_process_that_comes_back_between_two_readings_is_no_crash() -> None:
    world = running()
    world.killed()
    world.look()
    world.alive()
    world.look()
    world.killed()
    world.look(1.0)
    assert world.now_is == ("running", "iteration_start")


def test_process_state_unknown_never_crashes() -> None:
    world = running()
    world.no_processes("unknown")
    for _ in range(20):
        world.look(60)
    assert world.now_is == ("running", "iteration_start")
    assert assess(world.state).code is Attention.NONE


def test_unknown_between_two_readings_of_dead_makes_them_not_two_in_a_row() -> None:
    world = running()
    world.killed()
    world.look()
    world.no_processes("unknown")
    world.look(RECHECK_S)
    world.killed()
    world.look(0.5)
    assert world.now_is == ("running", "iteration_start")


@pytest.mark.parametrize("contact", [Contact.RUNTIME_ERROR, Contact.UNAUTHORIZED, Contact.NOT_READY])
def test_not_seeing_the_loop_never_ends_its_run(contact: Contact) -> None:
    world = running()
    for _ in range(10):
        world.contact(contact, after_s=60)
    assert world.now_is == ("running", "iteration_start")


@pytest.mark.parametrize("contact", [contact for contact in Contact if contact is not Contact.OK])
def test_process_seen_gone_once_is_not_looked_for_again_and_again_while_nothing_can_be_read(contact: Contact) -> None:
    world = running()
    world.killed()
    world.look()
    assert recheck_due(world.state)
    world.contact(contact)
    # Each second reading of an answer that is no snapshot would be one more in history, for as long as it stands.
    assert not recheck_due(world.state)
    world.look(3600)
    assert world.now_is == ("failed", "crashed")


def test_base_service_without_processes_gives_weak_evidence_and_says_so() -> None:
    world = running()
    world.base_service()
    world.look()
    world.exit()
    world.base_service()
    world.look()
    assert world.now_is == ("running", "iteration_start")
    world.look(RECHECK_S)
    assert world.now_is == ("failed", "crashed")
    assert "weak evidence" in evidence(world)
    assert "weak evidence" in assess(world.state).sentence


def test_base_service_with_active_run_still_there_never_crashes() -> None:
    world = running()
    world.base_service()
    for _ in range(5):
        world.look(60)
    assert world.now_is == ("running", "iteration_start")


def test_crash_before_the_first_iteration_of_the_first_run_stays_a_crash() -> None:
    world = Runtime()
    world.start()
    world.look()
    world.killed()
    world.look_twice()
    assert world.now_is == ("failed", "crashed")
    # There never was a state.json, so its absence proves no cancel.
    world.look_twice()
    assert world.now_is == ("failed", "crashed")


def test_crash_before_iteration_start_of_a_later_run_is_cleared_by_removing_state() -> None:
    world = running()
    world.complete()
    world.look()
    world.start("R2")
    world.look()
    world.killed()
    world.look_twice()
    assert world.now_is == ("failed", "crashed")
    world.cancelled()
    world.look()
    assert world.now_is == ("stopped", "state_removed")


def test_cancel_by_hand_is_stopped_at_once_because_only_a_cancel_removes_state() -> None:
    world = running()
    world.remove_state()
    world.look()
    assert world.now_is == ("running", "iteration_start")
    world.cancelled()
    world.look()
    assert world.now_is == ("stopped", "state_removed")
    assert "state.json is gone" in evidence(world)
    assert world.lifecycles == ["starting", "running", "stopped"]


def test_crash_cleared_by_hand_ends_as_stopped() -> None:
    world = running()
    world.killed()
    world.look_twice()
    world.cancelled()
    world.look()
    assert world.lifecycles == ["starting", "running", "failed", "stopped"]
    assert world.now_is == ("stopped", "state_removed")


def test_late_cancel_after_completion_changes_nothing() -> None:
    world = running()
    world.complete()
    world.look()
    world.cancelled()
    world.look_twice()
    assert world.now_is == ("complete", "loop_complete")
    assert world.lifecycles == ["starting", "running", "complete"]


def test_run_that_begins_after_the_snapshot_but_before_the_events_is_not_called_removed() -> None:
    world = running()
    world.cancelled()
    seen = world.snapshot()
    world.start("R2")
    world.work("R2")
    world.look(snapshot=seen)
    assert world.state.projection.lifecycle.value == "running"
    assert world.lifecycles == ["starting", "running", "stopped", "starting", "running"]


def test_run_that_speaks_again_after_it_was_believed_dead_is_running() -> None:
    world = running()
    world.killed()
    world.look_twice()
    world.alive()
    world.event("role_end", role="implementer")
    world.look()
    assert world.now_is == ("running", "events_resumed")


# Approvals outlive runs.


def test_run_that_only_looked_and_died_silently_leaves_the_loop_waiting() -> None:
    world = waiting()
    asked = world.state.projection.since
    world.start("R2")
    world.look()
    world.killed()
    world.look_twice()
    assert world.now_is == ("awaiting_approval", "approval_requested")
    assert world.state.projection.since == asked
    assert world.state.projection.run is not None
    assert world.state.projection.run.run_id == "R1"


def test_run_killed_before_it_consumed_the_approval_leaves_it_decided_for_the_next() -> None:
    world = waiting()
    world.decide("approved", by="bo", iteration=2)
    world.look()
    decided = world.state.projection.since
    world.start("R2")
    world.look()
    world.killed()
    world.look_twice()
    assert world.now_is == ("decided", "approved")
    assert world.state.projection.since == decided
    assert assess(world.state).code is Attention.APPROVED_NOT_RESUMED
    assert "bo approved it" in assess(world.state).sentence
    world.start("R3")
    world.consume("R1", 2)
    world.look()
    assert world.now_is == ("complete", "loop_complete")
    assert world.lifecycles[-5:] == ["decided", "starting", "decided", "starting", "complete"]


def test_run_killed_between_consuming_and_completing_leaves_the_loop_decided() -> None:
    world = waiting()
    world.decide("approved", iteration=2)
    world.start("R2")
    world.event("approval_consumed", "R1", 2)
    world.look()
    world.killed()
    world.look_twice()
    assert world.now_is == ("decided", "approved")


def test_run_killed_between_approval_file_and_event_is_seen_waiting() -> None:
    world = running()
    world.fact(approval=world.approval("pending"))
    world.killed()
    world.look_twice()
    assert world.now_is == ("awaiting_approval", "approval_requested")


def test_completion_whose_event_was_lost_is_believed_from_the_summary_of_that_run() -> None:
    world = running()
    world.finish_files()
    world.fact(completion_ok=True, summary_run_id="R1")
    world.look_twice()
    assert world.now_is == ("complete", "summary_complete")


def test_run_killed_between_its_good_summary_and_its_completion_is_crashed() -> None:
    world = running()
    world.fact(completion_ok=True, summary_run_id="R1")
    world.killed()
    world.look_twice()
    assert world.now_is == ("failed", "crashed")


def test_completion_of_an_earlier_run_does_not_excuse_a_crash() -> None:
    world = running()
    world.complete()
    world.fact(completion_ok=True, summary_run_id="R1")
    world.start("R2")
    world.work("R2")
    world.look()
    world.killed()
    world.look_twice()
    assert world.now_is == ("failed", "crashed")


# Usage limit: the event is the same whether the run waits on or stops.


def _usage_limited() -> Runtime:
    world = running()
    world.event("usage_limit_blocked", status="error", role="implementer")
    world.look()
    return world


def test_usage_limit_while_the_process_lives_is_a_run_that_waits() -> None:
    world = _usage_limited()
    for _ in range(12):
        world.look(300)
    assert world.now_is == ("running", "iteration_start")


def test_usage_limit_with_the_process_gone_and_state_inactive_is_failed() -> None:
    world = _usage_limited()
    world.write_state(active=False)
    world.exit()
    world.look_twice()
    assert world.now_is == ("failed", "usage_limit")


def test_usage_limit_waited_out_is_not_blamed_for_what_ends_the_run_later() -> None:
    world = _usage_limited()
    world.event("role_end", role="implementer")
    world.write_state(active=False)
    world.exit()
    world.look_twice()
    assert world.now_is == ("failed", "crashed")


def test_usage_limit_waited_out_and_completed_is_complete_for_good() -> None:
    world = _usage_limited()
    world.event("role_end", role="implementer")
    world.complete()
    world.look_twice()
    assert world.now_is == ("complete", "loop_complete")


@pytest.mark.parametrize("silent", [True, False], ids=["no event between", "an event between"])
def test_run_killed_after_a_usage_limit_is_crashed_because_state_stays_active(silent: bool) -> None:
    world = _usage_limited()
    if not silent:
        world.event("role_end", role="implementer")
    world.killed()
    world.look_twice()
    assert world.now_is == ("failed", "crashed")


def test_run_cancelled_while_it_waits_for_its_usage_limit_is_stopped() -> None:
    world = _usage_limited()
    world.cancelled()
    world.look_twice()
    assert world.now_is == ("stopped", "state_removed")


# Several loops and several runs in one sprite.


def test_run_started_without_loop_counts_as_this_loops_process() -> None:
    world = running()
    world.processes(UNNAMED)
    world.look_twice()
    assert world.now_is == ("running", "iteration_start")


def test_dead_loop_beside_a_living_neighbour_is_crashed() -> None:
    world = running()
    world.processes(OTHER)
    world.look_twice()
    assert world.now_is == ("failed", "crashed")
    assert "belong to other loops" in evidence(world)


def test_living_loop_beside_a_neighbour_that_overwrote_and_deleted_active_run_lives() -> None:
    world = running()
    world.alive(OTHER)
    world.fact(active_run_present=False, active_run_pid=None, active_run_loop_id=None)
    world.look_twice()
    assert world.now_is == ("running", "iteration_start")


def test_neighbours_cancel_does_not_turn_our_crash_into_a_stop() -> None:
    world = running()
    world.killed()
    world.look_twice()
    world.write_state(active=True, loop_id="other")
    world.processes(OTHER)
    world.look()
    world.cancelled()
    world.look_twice()
    assert world.now_is == ("failed", "crashed")


def test_second_live_run_opens_multiple_runs_naming_both_on_the_second_reading_and_closes() -> None:
    world = running()
    world.alive(OTHER)
    world.look()
    assert world.state.divergences == []
    assert recheck_due(world.state)
    world.look(RECHECK_S)
    [divergence] = world.state.divergences
    assert divergence.type == "multiple_runs"
    assert "pid 101 (loop demo)" in divergence.detail
    assert "pid 900 (loop other)" in divergence.detail
    opened, told = divergence.since, divergence.detail
    assert not recheck_due(world.state)
    for _ in range(3):
        world.look(60)
    [divergence] = world.state.divergences
    assert (divergence.since, divergence.detail) == (opened, told)
    world.alive()
    world.look()
    assert world.state.divergences == []


def test_two_runs_seen_less_than_two_seconds_apart_are_no_divergence() -> None:
    world = running()
    world.alive(OTHER)
    world.look()
    world.look(RECHECK_S - 0.1)
    world.alive()
    world.look()
    assert world.state.divergences == []


def test_multiple_runs_is_not_closed_by_a_scan_that_could_not_look() -> None:
    world = running()
    world.alive(OTHER)
    world.look_twice()
    world.no_processes("unknown")
    world.look(60)
    assert [d.type for d in world.state.divergences] == ["multiple_runs"]
    world.no_processes("dead")
    world.look()
    assert world.state.divergences == []


def test_third_run_is_named_too_without_a_new_divergence() -> None:
    world = running()
    world.alive(OTHER)
    world.look_twice()
    opened = world.state.divergences[0].since
    world.alive(OTHER, UNNAMED)
    world.look_twice()
    [divergence] = world.state.divergences
    assert divergence.since == opened
    assert "pid 901 (loop unknown)" in divergence.detail


# Health: only a running loop can be stale, and the heartbeat tells.


@pytest.mark.parametrize("freshness", list(Freshness))
@pytest.mark.parametrize("situation", ["complete", "not_started", "running", "starting"])
def test_quiet_loop_is_silent_however_long(situation: str, freshness: Freshness) -> None:
    world = Runtime()
    if situation != "not_started":
        world.start()
    if situation in ("complete", "running"):
        world.work()
    if situation == "complete":
        world.complete()
    world.fact(freshness=freshness, heartbeat_age_s=10_000.0, last_event_age_s=36_000.0)
    for _ in range(5):
        world.look(3600)
    stale = situation == "running" and freshness is Freshness.STALE
    assert assess(world.state).code is (Attention.STALE if stale else Attention.NONE)
    assert world.state.projection.lifecycle.value == situation


@pytest.mark.parametrize(
    ("facts", "lifecycle"),
    [
        ({}, "not_started"),
        ({"process": ProcessDigest(state="alive", pid=5, loop_id="demo")}, "not_started"),
    ],
)
def test_loop_with_an_empty_log_has_not_started(facts: dict[str, Any], lifecycle: str) -> None:
    world = World()
    world.fact(**facts)
    world.look_twice()
    assert world.now_is == (lifecycle, "no_events_yet")


@pytest.mark.parametrize("contact", [Contact.LOOP_NOT_FOUND, Contact.NOT_READY])
def test_loop_that_is_not_there_yet_has_not_started_and_then_starts(contact: Contact) -> None:
    world = Runtime()
    world.contact(contact)
    assert world.now_is == ("not_started", "no_events_yet")
    world.start()
    world.look()
    assert world.lifecycles == ["not_started", "starting"]
    assert world.state.condition is None
