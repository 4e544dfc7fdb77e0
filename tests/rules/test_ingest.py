"""Observations applied: what is believed, what is ignored, and what a replaced log does (D3, D8, D9)."""

from __future__ import annotations

import pytest

from contract.observation import Contact, CursorPosition, Transport
from tests.rules.world import World, running, waiting
from workflows import transport


def test_superseded_observer_changes_nothing() -> None:
    world = running()
    world.event("loop_complete")
    world.tick()
    late = world.observation()
    world.state.observer += 5
    before = world.state.model_copy(deep=True)
    world.tick()
    world.settle()
    observer = world.state.observer
    world.fold(late)
    assert world.state.observer == observer
    assert world.state == before


def test_observation_applied_twice_is_applied_once_also_much_later() -> None:
    world = running()
    world.killed()
    world.tick()
    seen = world.observation()
    world.apply(seen)
    before = world.state.model_copy(deep=True)
    world.tick(3600)
    world.apply(seen)
    assert world.state == before
    assert world.now_is == ("running", "iteration_start")


def test_observation_of_a_worker_that_was_shut_down_before_it_read_says_nothing() -> None:
    world = running()
    world.contact(Contact.UNAUTHORIZED, "401")
    before = world.state.model_copy(deep=True)
    world.look(digest="", snapshot=None, events=[], at_head=False)
    before.observer, before.observer_since = world.state.observer, world.now
    assert world.state == before


def test_blind_loop_is_seen_again_by_a_reading_and_not_by_a_worker_that_was_shut_down() -> None:
    world = World(service=False)
    world.look()
    transport.failed(world.state.transport, world.state.transport.active, "no worker took the task", world.now)
    world.look(digest="", snapshot=None, events=[], at_head=False)
    assert world.state.transport.blind
    world.look()
    assert not world.state.transport.blind


def test_lines_read_again_are_folded_once() -> None:
    world = running()
    world.complete()
    world.look()
    transitions = list(world.state.projection.transitions)
    world.look(events=world.log, cursor=CursorPosition(line=len(world.log), chain="f" * 64))
    assert world.state.projection.transitions == transitions


@pytest.mark.parametrize(
    ("transport", "shown", "identified"),
    [
        (Transport.SPRITE_SERVICE, "sprite-1", True),
        (Transport.SPRITE_SERVICE, None, False),
        (Transport.LOCAL, "sprite-1", False),
    ],
)
def test_only_a_service_that_showed_its_id_is_expected_to_show_it(
    transport: Transport, shown: str | None, identified: bool
) -> None:
    world = running()
    world.state.target.identified = False
    world.look(transport=transport, sprite_id=shown)
    assert world.state.target.identified is identified
    world.look(transport=Transport.LOCAL, sprite_id="sprite-1")
    assert world.state.target.identified is identified, "what is known of the service stays known"


def test_other_sprite_changes_nothing_but_the_condition() -> None:
    world = running()
    before = world.state.model_copy(deep=True)
    world.complete()
    world.look(sprite_id="sprite-2")
    state = world.state
    assert state.condition is not None
    assert state.condition.contact is Contact.WRONG_SPRITE
    assert state.condition.detail == "expected sprite sprite-1, but sprite-2 answered: nothing of it was believed"
    unchanged = {"cursor", "projection", "snapshot", "target", "intents", "divergences", "suspicions", "observed_at"}
    for name in unchanged:
        assert getattr(state, name) == getattr(before, name), name
    world.look()
    assert world.state.condition is None
    assert world.now_is == ("complete", "loop_complete")


def test_other_sprite_with_a_rewritten_log_begins_no_epoch() -> None:
    world = running()
    world.look(sprite_id="sprite-2", reset={"reason": "cursor_ahead", "at_line": 3})
    assert world.state.cursor.epoch == 1
    assert world.state.divergences == []


def test_sprite_id_and_repo_path_are_learnt_once_and_kept() -> None:
    world = World()
    world.state.target = world.state.target.model_copy(update={"sprite_id": None, "repo_path": None})
    world.look(sprite_id="sprite-7", repo_path="/srv/a")
    world.look(sprite_id="sprite-7", repo_path="/srv/b")
    world.look(sprite_id=None)
    assert (world.state.target.sprite_id, world.state.target.repo_path) == ("sprite-7", "/srv/a")
    world.look(sprite_id="sprite-8")
    assert world.state.condition is not None


@pytest.mark.parametrize("reason", ["cursor_ahead", "events_rewritten"])
def test_replaced_log_is_read_again_whole_under_a_new_epoch_and_is_one_divergence(reason: str) -> None:
    world = running()
    world.complete()
    world.look()
    old = world.state.cursor
    world.log = []
    for run in ("R8", "R9"):
        world.event("loop_start", run)
        world.event("iteration_start", run)
    world.new_epoch(reason)
    assert (world.state.cursor.epoch, world.state.cursor.line, world.state.at_head) == (2, 0, False)
    assert world.now_is == ("unknown", "reading_again")
    assert world.state.known is None
    [divergence] = world.state.divergences
    assert divergence.type == "events_rewritten"
    assert f"line {old.line} (epoch 1, chain {old.chain})" in divergence.detail
    assert reason in divergence.detail
    world.look(upto=2, at_head=False)
    world.look()
    assert world.state.cursor.line == 4
    assert world.now_is == ("running", "iteration_start")
    run_ref = world.state.projection.run
    assert run_ref is not None
    assert (run_ref.run_id, run_ref.line) == ("R9", 3)


def test_log_replaced_twice_is_still_one_divergence_with_the_newest_words() -> None:
    world = running()
    world.new_epoch()
    world.look()
    since = world.state.divergences[0].since
    world.new_epoch("cursor_ahead")
    [divergence] = world.state.divergences
    assert divergence.since == since
    assert "cursor_ahead" in divergence.detail
    assert world.state.cursor.epoch == 3


def test_observation_of_an_older_epoch_moves_nothing() -> None:
    world = running()
    world.new_epoch()
    world.look(cursor=CursorPosition(epoch=1, line=99, chain="f" * 64), events=world.log)
    assert (world.state.cursor.epoch, world.state.cursor.line) == (2, 0)
    assert world.now_is == ("unknown", "reading_again")


def test_snapshot_before_the_head_is_not_judged() -> None:
    world = running()
    world.complete()
    world.start("R2")
    world.work("R2")
    world.no_processes()
    world.look(upto=4, at_head=False)
    world.look(10, upto=4, at_head=False)
    assert world.now_is == ("complete", "loop_complete")
    assert world.state.suspicions == []


def test_quarantined_lines_are_counted_once_and_the_last_are_remembered() -> None:
    world = World()
    bad = [{"line": line, "reason": f"reason {line}"} for line in range(1, 31)]
    cursor = CursorPosition(line=30, chain="f" * 64)
    world.look(quarantined=bad, cursor=cursor)
    world.look(quarantined=bad, cursor=cursor)
    assert world.state.quarantined_count == 30
    assert [line.line for line in world.state.quarantined] == list(range(11, 31))


def test_first_line_that_could_not_be_verified_is_kept() -> None:
    world = running()
    world.look(unverifiable_from=2)
    world.look(unverifiable_from=5)
    assert world.state.unverifiable_from == 2


def test_last_contact_moves_with_every_answer_and_observed_at_only_with_sight() -> None:
    world = waiting()
    seen = world.state.observed_at
    world.contact(Contact.RUNTIME_ERROR, "502", after_s=60)
    assert world.state.observed_at == seen
    assert world.state.last_contact_at == world.now


def test_what_a_transport_brings_after_it_was_left_is_not_taken_for_the_others() -> None:
    world = running()
    transport.failed(world.state.transport, Transport.SPRITE_SERVICE, "connection refused", world.now)
    world.event("role_end", role="implementer")
    late = world.observation()
    transport.returned(world.state.transport, "agrees", world.now)
    before = world.state.cursor
    world.apply(late)
    assert (world.state.cursor, world.state.transport.stable) == (before, before)
    world.look()
    assert world.state.cursor.line == before.line + 1
