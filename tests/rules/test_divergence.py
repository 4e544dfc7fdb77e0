"""Contradictory signals: alarms that persist, and none where snapshot and events were read at different instants."""

from __future__ import annotations

from typing import Any

import pytest

from contract.observation import Observation
from contract.status import Attention
from tests.rules.world import RECHECK_S, Runtime, World, running, waiting
from workflows.attention import assess
from workflows.ingest import recheck_due


def kinds(world: World) -> list[str]:
    return [found.type for found in world.state.divergences]


def closed(world: World) -> list[tuple[str, str | None]]:
    return [(found.type, found.resolution) for found in world.state.resolved_divergences]


def inactive_while_working() -> Runtime:
    """state.json says that nothing is active, and the run goes on writing."""
    world = running()
    world.write_state(active=False)
    world.look()
    world.event("role_end", role="implementer")
    world.event("tests_start")
    return world


def test_events_of_a_run_at_work_while_state_is_inactive_are_a_mismatch_when_seen_twice() -> None:
    world = inactive_while_working()
    world.look()
    assert kinds(world) == []
    assert recheck_due(world.state)
    world.look(RECHECK_S)
    assert kinds(world) == ["activeMismatch"]
    assert "goes on writing events (line 5)" in world.state.divergences[0].detail
    assert assess(world.state).code is Attention.DIVERGED
    # Nobody has to look every two seconds at what was told.
    assert not recheck_due(world.state)
    world.write_state(active=True)
    world.look()
    assert (kinds(world), closed(world)) == ([], [("activeMismatch", "gone")])


def test_missing_state_while_events_arrive_is_a_mismatch_too() -> None:
    world = running()
    world.remove_state()
    world.look()
    world.event("validation_start")
    world.look()
    world.look(RECHECK_S)
    assert kinds(world) == ["activeMismatch"]


def test_two_sights_too_close_together_are_none() -> None:
    world = inactive_while_working()
    world.look()
    world.look(RECHECK_S / 4)
    assert kinds(world) == []


def test_log_that_grows_while_it_is_read_is_no_regression() -> None:
    world = running()
    for _ in range(4):
        before = world.snapshot()
        world.event("role_end", role="implementer")
        world.look(RECHECK_S, snapshot=before)
    assert (kinds(world), recheck_due(world.state)) == ([], False)


def test_run_that_begins_between_the_snapshot_and_the_events_is_no_mismatch() -> None:
    world = Runtime()
    world.start()
    world.write_state(active=False)
    world.look()
    before = world.snapshot()
    world.work()
    # Events are read after the snapshot: they tell of a run that it does not show yet.
    world.look(snapshot=before)
    assert (kinds(world), recheck_due(world.state)) == ([], False)
    world.look(RECHECK_S)
    assert (kinds(world), recheck_due(world.state)) == ([], False)


def test_cancel_that_removes_state_while_the_run_dies_is_no_mismatch() -> None:
    world = running()
    world.remove_state()
    world.look()
    world.look(RECHECK_S)
    assert not recheck_due(world.state)
    world.exit()
    world.look_twice()
    assert (kinds(world), closed(world)) == ([], [])


def test_pending_approval_of_a_run_that_has_completed_is_a_conflict_when_it_persists() -> None:
    world = waiting()
    world.fact(completion_ok=True, summary_run_id="R1")
    world.look()
    assert kinds(world) == []
    world.look(RECHECK_S)
    assert kinds(world) == ["approvalCompletionConflict"]
    world.fact(completion_ok=False)
    world.look()
    assert (kinds(world), closed(world)) == ([], [("approvalCompletionConflict", "gone")])


@pytest.mark.parametrize("facts", [{"summary_run_id": "R0"}, {"completion_ok": None}])
def test_pending_approval_beside_another_runs_completion_is_no_conflict(facts: dict[str, Any]) -> None:
    world = waiting()
    world.fact(**{"completion_ok": True, "summary_run_id": "R1", **facts})
    world.look_twice()
    assert kinds(world) == []


def test_snapshot_that_counts_fewer_lines_than_were_read_is_a_regression_when_it_persists() -> None:
    world = running()
    world.apply(lagging(world))
    assert kinds(world) == []
    assert recheck_due(world.state)
    world.tick(RECHECK_S)
    world.apply(lagging(world))
    assert kinds(world) == ["cursorRegression"]
    assert world.state.divergences[0].detail == "the snapshot counts 1 lines, 3 were read"
    world.look()
    assert closed(world) == [("cursorRegression", "gone")]


def lagging(world: World) -> Observation:
    world.tick()
    return world.observation(snapshot=world.snapshot().model_copy(update={"event_count": 1}))


def test_ids_count_on_and_resolved_ones_stay_visible_through_continue_as_new() -> None:
    world = waiting()
    for _ in range(30):
        world.fact(completion_ok=True, summary_run_id="R1")
        world.look_twice()
        world.fact(completion_ok=False)
        world.look()
        world.round_trip()
    assert world.state.divergence_count == 30
    assert [found.id for found in world.state.resolved_divergences] == [f"d{number}" for number in range(11, 31)]


def test_log_rewritten_again_before_anybody_looked_is_one_divergence_with_every_lost_head() -> None:
    world = running()
    lost = [world.state.cursor.chain]
    world.new_epoch()
    world.look()
    world.event("role_end", role="implementer")
    world.look()
    lost.append(world.state.cursor.chain)
    world.new_epoch()
    world.look()
    (found,) = world.state.divergences
    assert found.id == "d1"
    assert [found.heads[f"epoch {number}"].chain for number in (1, 2)] == lost
    assert list(found.heads) == ["epoch 1", "epoch 2", "epoch 3"]
