"""Laws of the projection: whatever a log holds, however it is cut, whoever reads it again."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.observation import Contact, Observation, ProcessDigest
from tests.rules.world import World
from workflows.attention import assess
from workflows.report import card, status_report
from workflows.search_attributes import updates, values
from workflows.state import MAX_TRANSITIONS, SupervisorState

NAMES = (
    "loop_start", "iteration_start", "role_start", "role_end", "iteration_end", "approval_requested", "approval_wait",
    "approval_decision", "approval_consumed", "approval_rejected", "loop_complete", "loop_stop", "no_progress_stop",
    "role_timeout", "rate_limit_stop", "usage_limit_blocked", "delegation_fail_role", "event_of_a_later_version",
)  # fmt: skip
RUNS = ("R1", "R2", "unknown")

STATUSES = ("approved", "rejected", None)
PROCESSES = (
    ProcessDigest(state="dead"),
    ProcessDigest(state="unknown"),
    ProcessDigest(state="alive", pid=7),
    ProcessDigest(),
)

events = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(RUNS), st.integers(0, 3), st.sampled_from(STATUSES)), max_size=20
)
facts = st.fixed_dictionaries(
    {
        "process": st.sampled_from(PROCESSES),
        "state_present": st.booleans(),
        "state_active": st.booleans(),
        "state_loop_id": st.sampled_from([None, "demo", "other"]),
        "active_run_present": st.booleans(),
        "completion_ok": st.sampled_from([None, True]),
        "summary_run_id": st.sampled_from([None, "R1"]),
    }
)
quick = settings(max_examples=50, deadline=None)
quicker = settings(max_examples=25, deadline=None)


def world_of(told: list[tuple[str, str, int, str | None]]) -> World:
    world = World()
    for name, run, iteration, status in told:
        world.event(name, run, iteration, status=status, by="ana", reason="max_iterations")
    return world


def believed(world: World) -> dict[str, Any]:
    """What must not depend on how the log was cut: times of observations, not of events, aside."""
    state = world.state
    told = state.projection.model_dump(mode="json")
    return {"projection": told, "cursor": state.cursor.model_dump(), "suspicions": len(state.suspicions)}


@quick
@given(events, st.data())
def test_batch_split_anywhere_gives_the_same_projection(told: list[Any], data: st.DataObject) -> None:
    whole, parts = world_of(told), world_of(told)
    whole.look()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(told)), max_size=5)))
    for cut in cuts:
        parts.apply(parts.observation(upto=cut, at_head=False))
    parts.now = whole.now
    parts.apply(parts.observation())
    assert believed(parts) == believed(whole)


@quick
@given(events, facts, st.integers(0, 10_000))
def test_observation_applied_twice_equals_once(told: list[Any], shown: dict[str, Any], later_s: int) -> None:
    world = world_of(told)
    world.fact(**shown)
    seen = world.observation()
    world.apply(seen)
    once = world.state.model_copy(deep=True)
    world.tick(later_s)
    world.apply(seen)
    assert world.state == once


@quick
@given(events, facts)
def test_lines_told_again_by_a_later_observer_change_nothing(told: list[Any], shown: dict[str, Any]) -> None:
    world = world_of(told)
    world.fact(**shown)
    seen = world.observation()
    world.apply(seen)
    before = believed(world)
    again = seen.model_copy(update={"observer": seen.observer + 1})
    world.apply(again)
    assert believed(world) == before


@quick
@given(events, facts, st.integers(-3, 3).filter(lambda n: n != 0))
def test_observer_that_is_not_the_current_one_changes_nothing(told: list[Any], shown: dict[str, Any], off: int) -> None:
    world = world_of(told)
    world.fact(**shown)
    world.state.observer = world.state.seen = 5
    seen = world.observation().model_copy(update={"observer": 5 + off})
    before = world.state.model_copy(deep=True)
    world.fold(seen)
    assert world.state == before


@quick
@given(events, facts)
def test_wrong_sprite_moves_neither_cursor_nor_belief(told: list[Any], shown: dict[str, Any]) -> None:
    world = world_of(told)
    world.fact(**shown)
    before = world.state.model_copy(deep=True)
    world.apply(world.observation(sprite_id="sprite-2"))
    assert world.state.condition is not None
    assert world.state.condition.contact is Contact.WRONG_SPRITE
    for name in ("cursor", "projection", "snapshot", "suspicions", "divergences", "intents", "target", "observed_at"):
        assert getattr(world.state, name) == getattr(before, name)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("see"), st.integers(0, 24), facts),
        st.tuples(st.just("again"), st.integers(0, 24), facts),
        st.tuples(st.just("condition"), st.sampled_from([c for c in Contact if c is not Contact.OK]), st.none()),
        st.tuples(st.just("epoch"), st.none(), st.none()),
        st.tuples(st.just("send"), st.sampled_from(["CANCEL_LOOP", "APPROVE_PENDING", "typo"]), st.none()),
    ),
    max_size=12,
)


def follow(world: World, history: list[Any]) -> list[SupervisorState]:
    """Play a history; every state on the way, as it would leave through continue-as-new."""
    states = []
    for kind, value, shown in history:
        world.tick(1.7)
        if kind == "see":
            world.fact(**shown)
            world.apply(world.observation(upto=min(value, len(world.log)), at_head=value >= len(world.log)))
        elif kind == "again":
            # A page that was read before the cursor had moved.
            lines = world.log[:value]
            cursor = world.state.cursor.model_copy(update={"line": len(lines)})
            world.apply(world.observation(events=lines, cursor=cursor, at_head=False))
        elif kind == "condition":
            world.contact(value)
        elif kind == "epoch":
            world.new_epoch()
        else:
            world.send(value)
        states.append(world.state.model_copy(deep=True))
    return states


@quicker
@given(events, steps)
def test_cursor_never_goes_back_within_an_epoch(told: list[Any], history: list[Any]) -> None:
    positions = [(s.cursor.epoch, s.cursor.line) for s in follow(world_of(told), history)]
    assert positions == sorted(positions)


@quicker
@given(events, steps)
def test_state_survives_continue_as_new_at_any_point(told: list[Any], history: list[Any]) -> None:
    stayed, moved = world_of(told), world_of(told)
    for step in history:
        follow(stayed, [step])
        follow(moved, [step])
        moved.round_trip()
        assert moved.state == stayed.state


@quicker
@given(events, steps)
def test_everything_shown_can_be_shown_at_any_point(told: list[Any], history: list[Any]) -> None:
    world = world_of(told)
    for step in history:
        follow(world, [step])
        state = world.state
        assert card(state).startswith("### acme/demo: ")
        report = status_report(state, local_only=False, run_id="run", history_length=1)
        assert report.lifecycle is state.projection.lifecycle
        assert bool(assess(state).sentence) == (assess(state).code.value != "none")
        assert len(state.projection.transitions) <= MAX_TRANSITIONS
        changed = updates(state, values(state), state.observed_at)
        assert changed == []


@quicker
@given(events, st.lists(facts, min_size=1, max_size=6))
def test_not_seeing_processes_never_ends_a_run(told: list[Any], shown: list[dict[str, Any]]) -> None:
    world = world_of(told)
    world.look()
    before = world.now_is
    for one in shown:
        world.fact(**{**one, "process": ProcessDigest(state="unknown")})
        world.look(60)
    assert world.now_is == before or before[0] not in ("starting", "running")


@quick
@given(events)
def test_last_transition_is_what_is_believed(told: list[Any]) -> None:
    world = world_of(told)
    world.look()
    projection = world.state.projection
    if projection.transitions:
        assert projection.transitions[-1].lifecycle is projection.lifecycle
    for before, after in itertools.pairwise(projection.transitions):
        # A run that begins anew is told anew; nothing else is told twice.
        same = (before.lifecycle, before.reason) == (after.lifecycle, after.reason)
        assert not same or (after.lifecycle.value == "starting" and before.line != after.line)
    times: list[datetime] = [t.at for t in projection.transitions if t.at]
    assert times == sorted(times)


def test_observation_reads_back_from_history_as_it_was_written() -> None:
    world = World()
    world.event("loop_start")
    seen = world.observation()
    assert Observation.model_validate_json(seen.model_dump_json()) == seen
