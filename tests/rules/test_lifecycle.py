"""What each event means for the lifecycle: every name of the runtime, and the sequences that runs leave in a log."""

from __future__ import annotations

from typing import Any

import pytest

from contract.clock import parse_utc
from contract.observation import EventDigest
from contract.status import Attention, Lifecycle
from tests.rules.world import Runtime, World, running, waiting
from workflows.attention import assess
from workflows.lifecycle import PHASE_PREFIXES, apply_event
from workflows.state import MAX_TRANSITIONS, Projection

NAMES_THAT_STAY = """
    iteration_end promise_checked checklist_start checklist_end tests_start tests_end tests_rerun_start tests_rerun_end
    validation_start validation_end prerequisites_start prerequisites_end evidence_start evidence_end lifecycle_start
    lifecycle_end stuck_checked gates_evaluated role_start role_end usage_limit_blocked delegation_request_pass_start
    delegation_request_pass_end delegation_wave_start delegation_wave_dispatch delegation_wave_queue_drain
    delegation_wave_end delegation_child_start delegation_child_end delegation_adaptation_start
    delegation_adaptation_skipped delegation_adaptation_end delegation_policy_decision delegation_recon_violation
    delegation_fail_role rlms_decision rlms_start rlms_end recovery_proposed recovery_approved recovery_executed
    recovery_failed recovery_skipped recovery_blocked recovery_denied recovery_escalated auto_commit_success
    auto_commit_skipped auto_commit_failed auto_commit_message_generated auto_commit_message_fallback
    pre_commit_executed usage_check event_of_a_later_version
"""

# Every name that superloop.md lists, by what it means for a loop in the middle of a run. "stays" says that the
# lifecycle does not move; status "error" in the middle of a run is no end of it.
MEANING: dict[str, tuple[str, str] | str] = {
    "loop_start": ("starting", "loop_start"),
    "loop_complete": ("complete", "loop_complete"),
    "loop_stop": ("stopped", "max_iterations"),
    "approval_requested": ("awaiting_approval", "approval_requested"),
    "approval_wait": ("awaiting_approval", "approval_requested"),
    "approval_decision": "stays",
    "approval_consumed": ("starting", "approval_consumed"),
    "approval_rejected": "stays",
    "iteration_start": "stays",
    "no_progress_stop": ("stopped", "no_progress"),
    "role_timeout": ("failed", "role_timeout"),
    "rate_limit_stop": ("failed", "rate_limited"),
    **dict.fromkeys(NAMES_THAT_STAY.split(), "stays"),
}

STATUSES = {
    "role_timeout": "timeout",
    "rate_limit_stop": "rate_limited",
    "no_progress_stop": "blocked",
    "usage_limit_blocked": "error",
    "delegation_recon_violation": "error",
    "delegation_fail_role": "error",
    "approval_decision": "approved",
}


def digest(name: str, line: int, run: str = "R1", iteration: int = 3, **fields: Any) -> EventDigest:
    data = {"reason": "max_iterations"} if name == "loop_stop" else {}
    return EventDigest(
        line=line,
        h="0",
        name=name,
        timestamp="2026-11-22T03:12:07Z",
        run_id=run,
        iteration=iteration,
        status=STATUSES.get(name),
        data=data,
        **fields,
    )


def at_work() -> Projection:
    projection = Projection()
    for line, name in enumerate(("loop_start", "iteration_start"), 1):
        apply_event(projection, digest(name, line, iteration=1))
    return projection


@pytest.mark.parametrize(("name", "meaning"), MEANING.items())
def test_each_event_in_the_middle_of_a_run_means_what_the_table_says(name: str, meaning: tuple[str, str] | str) -> None:
    projection = at_work()
    before = (projection.lifecycle.value, projection.reason, list(projection.transitions))
    apply_event(projection, digest(name, 3))
    assert projection.last_event_name == name
    if meaning == "stays":
        assert (projection.lifecycle.value, projection.reason, projection.transitions) == before
    else:
        assert (projection.lifecycle.value, projection.reason) == meaning
        assert projection.transitions[-1].line == 3
        assert projection.since == parse_utc("2026-11-22T03:12:07Z")


@pytest.mark.parametrize("name", sorted(MEANING))
def test_each_event_as_the_first_line_of_a_log_is_taken_without_harm(name: str) -> None:
    projection = Projection()
    apply_event(projection, digest(name, 1))
    assert projection.run is not None
    assert (projection.run.run_id, projection.run.line) == ("R1", 1)
    if name.startswith(PHASE_PREFIXES) and MEANING[name] == "stays":
        assert projection.lifecycle is Lifecycle.RUNNING


# An approval event carries the run of the request, and these two begin a run, so another run's id moves them.
REBINDING = {"loop_start", "iteration_start"} | {name for name in MEANING if name.startswith("approval_")}


@pytest.mark.parametrize("name", sorted(set(MEANING) - REBINDING))
def test_event_of_another_run_does_not_end_or_move_this_one(name: str) -> None:
    projection = at_work()
    apply_event(projection, digest(name, 3, run="R9"))
    assert (projection.lifecycle, projection.reason) == (Lifecycle.RUNNING, "iteration_start")
    assert projection.run is not None
    assert (projection.run.run_id, projection.run.iteration) == ("R1", 1)


@pytest.mark.parametrize("name", ["loop_complete", "loop_stop", "role_timeout", "no_progress_stop", "rate_limit_stop"])
def test_end_without_a_run_id_ends_the_run_that_is_under_way(name: str) -> None:
    projection = at_work()
    apply_event(projection, digest(name, 3, run="unknown"))
    assert projection.lifecycle.value == MEANING[name][0]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("max_iterations", "max_iterations"),
        ("stuck", "stuck"),
        ("no_progress", "no_progress"),
        ("lifecycle_gate_failed", "lifecycle_gate"),
        ("of a later version", "of a later version"),
        (None, "unknown"),
    ],
)
def test_loop_stop_reason_is_told_in_the_words_of_the_lifecycle(told: str | None, reason: str) -> None:
    projection = at_work()
    event = digest("loop_stop", 3).model_copy(update={"data": {"reason": told} if told else {}})
    apply_event(projection, event)
    assert (projection.lifecycle, projection.reason) == (Lifecycle.STOPPED, reason)


def test_max_iterations_names_the_last_iteration_that_ran_not_the_one_that_never_did() -> None:
    projection = at_work()
    apply_event(projection, digest("iteration_start", 3, iteration=2))
    apply_event(projection, digest("loop_stop", 4, iteration=3))
    assert projection.run is not None
    assert projection.run.iteration == 2


def test_no_progress_is_one_end_though_two_events_tell_it() -> None:
    projection = at_work()
    apply_event(projection, digest("no_progress_stop", 3))
    apply_event(projection, digest("loop_stop", 4).model_copy(update={"data": {"reason": "no_progress"}}))
    assert [t.lifecycle.value for t in projection.transitions] == ["starting", "running", "stopped"]


# Sequences.


def test_second_run_of_a_completed_loop_starts_and_runs_under_its_own_id() -> None:
    world = running()
    world.complete()
    world.look()
    world.start("R2")
    world.look()
    assert world.now_is == ("starting", "loop_start")
    assert world.state.projection.run is not None
    assert (world.state.projection.run.run_id, world.state.projection.run.line) == ("R2", 5)
    world.work("R2", 1)
    world.look()
    assert world.lifecycles == ["starting", "running", "complete", "starting", "running"]
    assert world.state.projection.run.iteration == 1


def test_two_runs_within_one_second_are_told_apart_by_their_line() -> None:
    world = running()
    world.complete()
    world.start("R1")
    world.look()
    run = world.state.projection.run
    assert run is not None
    assert (run.run_id, run.line) == ("R1", 5)
    assert world.lifecycles == ["starting", "running", "complete", "starting"]


def test_approval_is_waited_for_as_of_when_it_was_asked_also_after_a_run_that_only_looked() -> None:
    world = waiting()
    asked = world.state.projection.since
    world.tick(3600)
    world.start("R2")
    world.look()
    assert world.now_is == ("starting", "loop_start")
    world.event("approval_wait", "R2", status="pending")
    world.exit()
    world.look()
    projection = world.state.projection
    assert world.now_is == ("awaiting_approval", "approval_requested")
    assert projection.since == asked
    assert projection.run is not None
    assert (projection.run.run_id, projection.run.iteration) == ("R1", 2)
    # The change itself happened when the event says, so times never run backwards in the record.
    assert projection.transitions[-1].at == parse_utc(world.log[-1].timestamp)


def test_approved_loop_is_continued_by_the_run_that_consumes_it() -> None:
    world = waiting()
    world.decide("approved", iteration=2)
    world.look()
    assert world.now_is == ("decided", "approved")
    world.start("R2")
    world.look()
    world.event("approval_consumed", "R1", 2, status="approved")
    world.look()
    assert world.now_is == ("starting", "approval_consumed")
    assert world.state.projection.run is not None
    assert world.state.projection.run.run_id == "R1"
    assert world.state.projection.started is not None
    assert world.state.projection.started.run_id == "R2"
    world.event("loop_complete", "R1", 2, approval=True)
    world.finish_files()
    world.look()
    assert world.lifecycles == ["starting", "running", "awaiting_approval", "decided", "starting", "complete"]
    assert world.state.projection.run.iteration == 2


def test_rejected_loop_runs_on_as_a_new_run_from_iteration_one() -> None:
    world = waiting()
    world.decide("rejected", by="bo", iteration=2)
    world.look()
    world.start("R2")
    world.event("approval_rejected", "R2", status="rejected")
    world.fact(approval=None)
    world.look()
    assert world.now_is == ("starting", "loop_start")
    world.work("R2", 1)
    world.look()
    assert world.lifecycles == ["starting", "running", "awaiting_approval", "decided", "starting", "running"]
    run = world.state.projection.run
    assert run is not None
    assert (run.run_id, run.iteration, run.line) == ("R2", 1, 8)
    assert world.state.projection.decision is None


def test_decision_made_while_a_run_is_about_to_see_the_request_pending_still_stands() -> None:
    world = waiting()
    world.start("R2")
    world.decide("approved", by="bo", iteration=2)
    world.event("approval_wait", "R2", status="pending")
    world.exit()
    world.look()
    assert world.now_is == ("decided", "approved")
    assert world.state.projection.decision is not None
    assert world.state.projection.decision.by == "bo"
    assert world.state.projection.run is not None
    assert world.state.projection.run.run_id == "R1"


def test_decision_beside_a_run_at_work_is_kept_and_moves_nothing() -> None:
    world = running()
    # The runtime takes an approval.json of `{}` for a pending request, so anybody can decide at any time.
    world.decide("approved", by="bo", run="unknown", iteration=0)
    world.event("role_end", role="implementer")
    world.look()
    assert world.now_is == ("running", "iteration_start")
    assert world.state.projection.decision is not None
    assert world.state.projection.decision.by == "bo"
    assert assess(world.state).code is Attention.NONE
    world.killed()
    world.look_twice()
    # The file outlives the run, and the next one will find it.
    assert world.now_is == ("decided", "approved")


def test_completion_is_believed_though_the_line_that_consumed_the_approval_could_not_be_read() -> None:
    world = waiting()
    world.decide("approved", iteration=2)
    world.start("R2")
    world.event("loop_complete", "R1", 2, approval=True)
    world.finish_files()
    world.look()
    assert world.now_is == ("complete", "loop_complete")


def test_run_whose_loop_start_could_not_be_read_is_bound_at_its_first_iteration() -> None:
    world = running()
    world.complete()
    world.event("iteration_start", "R2", 1)
    world.event("loop_complete", "R2", 1)
    world.look()
    assert world.lifecycles == ["starting", "running", "complete", "running", "complete"]
    run = world.state.projection.run
    assert run is not None
    assert (run.run_id, run.line) == ("R2", 5)


def test_log_that_begins_in_the_middle_of_a_run_is_running_and_bound_to_what_it_names() -> None:
    world = Runtime()
    world.processes()
    world.alive()
    world.write_state(active=True, iteration=4)
    world.event("role_end", "R7", 4, role="planner")
    world.event("tests_start", "R7", 4)
    world.look_twice()
    assert world.now_is == ("running", "phase_events")
    run = world.state.projection.run
    assert run is not None
    assert (run.run_id, run.line, run.iteration) == ("R7", 1, 4)
    world.complete("R7", 4)
    world.look()
    assert world.lifecycles == ["running", "complete"]


def test_delegation_error_in_the_middle_of_a_run_is_no_failure_of_it() -> None:
    world = running()
    world.event("delegation_recon_violation", status="error", role="implementer")
    world.event("delegation_fail_role", status="error", role="implementer")
    world.look_twice()
    assert world.now_is == ("running", "iteration_start")


def test_later_loop_start_proves_the_silent_end_of_a_working_run_as_removed() -> None:
    world = running()
    world.start("R2")
    world.look()
    assert world.lifecycles == ["starting", "running", "stopped", "starting"]
    assert world.state.projection.transitions[2].reason == "state_removed"
    assert world.state.projection.transitions[2].evidence


def test_later_loop_start_proves_that_a_run_died_before_its_first_iteration() -> None:
    world = Runtime()
    world.start("R1")
    world.start("R2")
    world.look()
    assert [(t.lifecycle.value, t.reason) for t in world.state.projection.transitions] == [
        ("starting", "loop_start"),
        ("failed", "crashed"),
        ("starting", "loop_start"),
    ]


def test_later_loop_start_after_a_usage_limit_tells_that_the_run_had_stopped_for_it() -> None:
    world = running()
    world.event("usage_limit_blocked", status="error", role="implementer")
    world.start("R2")
    world.look()
    assert (world.lifecycles[2], world.state.projection.transitions[2].reason) == ("failed", "usage_limit")


@pytest.mark.parametrize("stamp", ["", "yesterday", "2026-11-22 03:12:07", "0001-01-01T00:00:00+05:00"])
def test_timestamp_that_names_no_instant_moves_the_lifecycle_without_a_time(stamp: str) -> None:
    projection = Projection()
    apply_event(projection, digest("loop_start", 1).model_copy(update={"timestamp": stamp}))
    assert (projection.lifecycle, projection.since) == (Lifecycle.STARTING, None)


def test_transitions_are_bounded_and_keep_the_newest() -> None:
    world = World()
    for number in range(MAX_TRANSITIONS):
        world.event("loop_start", f"R{number}")
        world.event("loop_complete", f"R{number}")
    world.look()
    transitions = world.state.projection.transitions
    assert len(transitions) == MAX_TRANSITIONS
    assert transitions[-1].line == len(world.log)
