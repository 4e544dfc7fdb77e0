"""Which transport observes next, and how long to wait while nobody answers."""

from __future__ import annotations

from datetime import datetime

import pytest

from contract.observation import Target, Transport, TransportMode
from tests.rules.world import BEGIN, World
from workflows import transport
from workflows.report import transport_word
from workflows.state import TransportState

SERVICE = Target(sprite="acme", loop_id="demo", service_url="http://127.0.0.1:1")
LOCAL = Target(sprite="acme", loop_id="demo")


def pause_s(state: TransportState, now: datetime) -> float:
    due = transport.probe_due(state)
    return max(0.0, (due - now).total_seconds()) if due else 0.0


@pytest.mark.parametrize(
    ("target", "local_only", "first", "probed"),
    [
        (SERVICE, False, Transport.SPRITE_SERVICE, False),
        (SERVICE, True, Transport.LOCAL, False),
        (LOCAL, False, Transport.LOCAL, False),
    ],
)
def test_first_transport_is_the_service_where_there_is_one(
    target: Target, local_only: bool, first: Transport, probed: bool
) -> None:
    state = transport.initial(target, local_only)
    assert state.active is first
    assert transport.needs_probe(state, target, local_only) is probed


def test_service_gives_way_to_local_which_is_probed_and_says_why() -> None:
    world = World()
    state = world.state.transport
    transport.failed(state, state.active, "3 attempts failed since 03:00:00Z: connection refused", BEGIN)
    assert (state.active, state.blind, state.since) == (Transport.LOCAL, False, BEGIN)
    assert state.reason == "the sprite service does not answer: 3 attempts failed since 03:00:00Z: connection refused"
    assert transport.needs_probe(state, SERVICE, False)
    assert transport.retry_delay_s(state) == 0.0
    assert transport_word(world.state) == "local"


def test_neither_answering_is_blind_since_then_with_both_reasons() -> None:
    world = World()
    state = world.state.transport
    transport.failed(state, state.active, "connection refused", BEGIN)
    for _ in range(3):
        transport.failed(state, state.active, "no worker took the task", BEGIN)
    assert (state.blind, state.blind_since, state.attempt) == (True, BEGIN, 3)
    assert "connection refused" in state.reason
    assert "no worker took the task" in state.reason
    assert transport_word(world.state) == "blind"
    assert transport.needs_probe(state, SERVICE, False)


def test_answer_ends_being_blind_and_stops_naming_the_old_trouble() -> None:
    state = transport.initial(SERVICE, False)
    transport.failed(state, state.active, "connection refused", BEGIN)
    transport.failed(state, state.active, "no worker took the task", BEGIN)
    transport.answered(state, Transport.LOCAL, BEGIN)
    assert (state.blind, state.blind_since, state.attempt, state.active) == (False, None, 0, Transport.LOCAL)
    assert "no worker" not in state.reason


def test_recovered_service_is_used_again() -> None:
    state = transport.initial(SERVICE, False)
    transport.failed(state, state.active, "connection refused", BEGIN)
    transport.failed(state, state.active, "no worker took the task", BEGIN)
    transport.returned(state, "agrees", BEGIN)
    assert (state.active, state.blind, state.attempt) == (Transport.SPRITE_SERVICE, False, 0)
    assert not transport.needs_probe(state, SERVICE, False)


def test_waits_double_up_to_ten_minutes_and_stay_there_for_months() -> None:
    state = transport.initial(LOCAL, False)
    waits = []
    for _ in range(10):
        transport.failed(state, state.active, "no worker took the task", BEGIN)
        waits.append(transport.retry_delay_s(state))
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0, 600.0]
    state.attempt = 100_000
    assert transport.retry_delay_s(state) == 600.0


def test_probe_pauses_longer_each_time_the_service_fails_what_it_found_well() -> None:
    state = transport.initial(SERVICE, False)
    pauses = []
    for _ in range(9):
        transport.failed(state, state.active, "invalid page", BEGIN)
        pauses.append(pause_s(state, BEGIN))
        transport.answered(state, Transport.LOCAL, BEGIN)
        transport.returned(state, "agrees", BEGIN)
    assert pauses == [0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0]


def test_probe_pause_is_as_of_the_loss_and_forgotten_with_the_first_observation_through_the_service() -> None:
    world = World()
    state = world.state.transport
    transport.failed(state, state.active, "invalid page", world.now)
    transport.returned(state, "agrees", world.now)
    transport.failed(state, state.active, "invalid page", world.now)
    world.tick(4)
    world.round_trip()
    assert pause_s(world.state.transport, world.now) == 6.0
    transport.returned(world.state.transport, "agrees", world.now)
    world.look()
    transport.failed(world.state.transport, world.state.transport.active, "connection refused", world.now)
    assert pause_s(world.state.transport, world.now) == 0.0


def test_long_reasons_are_cut() -> None:
    state = transport.initial(SERVICE, False)
    for _ in range(2):
        transport.failed(state, state.active, "x" * 10_000, BEGIN)
    assert len(state.reason) < 800


def words(state: TransportState) -> list[tuple[str, str]]:
    return [(change.from_state, change.to) for change in state.changes]


def test_changes_are_recorded_with_reason_evidence_and_who_asked_and_bounded() -> None:
    state = transport.initial(SERVICE, False)
    transport.failed(state, state.active, "connection refused", BEGIN)
    transport.comparing(state, BEGIN)
    transport.returned(state, "agrees", BEGIN)
    transport.pin(state, TransportMode.LOCAL, BEGIN, by="ana")
    assert words(state) == [
        ("sprite_service", "local"), ("local", "reconciling"), ("reconciling", "sprite_service"),
        ("sprite_service", "local"),
    ]  # fmt: skip
    assert (state.changes[0].evidence, state.changes[-1].by) == ("connection refused", "ana")
    for _ in range(100):
        transport.pin(state, TransportMode.AUTO, BEGIN, by="ana")
    assert len(state.changes) == transport.MAX_CHANGES


def test_only_a_comparison_that_agreed_makes_it_reconciled_again() -> None:
    state = transport.initial(SERVICE, False)
    assert state.reconciled
    transport.failed(state, state.active, "connection refused", BEGIN)
    since = state.unreconciled_since
    transport.failed(state, state.active, "no worker", BEGIN)
    transport.answered(state, Transport.LOCAL, BEGIN)
    transport.comparing(state, BEGIN)
    transport.not_compared(state, "401", BEGIN)
    assert (state.reconciled, state.unreconciled_since, state.reconciling) == (False, since, False)
    assert "could not be compared: 401" in state.reason
    transport.returned(state, "agrees", BEGIN)
    assert state.reconciled


def test_loop_without_a_service_is_reconciled_by_nature() -> None:
    state = transport.initial(LOCAL, True)
    transport.failed(state, state.active, "no worker", BEGIN)
    transport.answered(state, Transport.LOCAL, BEGIN)
    assert state.reconciled


def test_pinned_service_that_fails_is_blind_and_local_takes_over_as_soon_as_it_may() -> None:
    state = transport.initial(SERVICE, False)
    transport.pin(state, TransportMode.SPRITE_SERVICE, BEGIN, by="ana")
    transport.failed(state, state.active, "connection refused", BEGIN)
    assert (transport.word(state), state.active) == ("blind", Transport.SPRITE_SERVICE)
    assert transport.needs_probe(state, SERVICE, False)
    transport.pin(state, TransportMode.AUTO, BEGIN, by="ana")
    transport.failed(state, state.active, "connection refused", BEGIN)
    assert state.active is Transport.LOCAL
    transport.answered(state, Transport.LOCAL, BEGIN)
    assert transport.word(state) == "local"


def test_pin_to_local_is_not_probed_unless_it_ends_with_an_agreement() -> None:
    state = transport.initial(SERVICE, False)
    transport.pin(state, TransportMode.LOCAL, BEGIN, by="ana")
    assert not transport.needs_probe(state, SERVICE, False)
    transport.pin(state, TransportMode.LOCAL, BEGIN, by="ana", until_agreed=True)
    assert transport.needs_probe(state, SERVICE, False)
    transport.returned(state, "agrees", BEGIN)
    assert (state.mode, state.pinned_by, state.active) == (TransportMode.AUTO, None, Transport.SPRITE_SERVICE)


def test_service_that_disagreed_is_left_alone_for_a_while() -> None:
    state = transport.initial(SERVICE, False)
    transport.failed(state, state.active, "connection refused", BEGIN)
    transport.comparing(state, BEGIN)
    transport.disagreed(state, "line 7 differs", BEGIN)
    assert (transport.word(state), pause_s(state, BEGIN)) == ("local", transport.RECHECK_S)
    transport.pin(state, TransportMode.AUTO, BEGIN, by="ana")
    assert pause_s(state, BEGIN) == 0.0


def test_failure_of_a_transport_that_was_left_says_nothing_about_the_one_in_use() -> None:
    state = transport.initial(SERVICE, False)
    transport.pin(state, TransportMode.LOCAL, BEGIN, by="ana")
    transport.failed(state, Transport.SPRITE_SERVICE, "connection refused", BEGIN)
    assert (transport.word(state), state.attempt) == ("local", 0)
    transport.pin(state, TransportMode.AUTO, BEGIN, by="ana")
    transport.returned(state, "agrees", BEGIN)
    transport.failed(state, Transport.LOCAL, "no worker took the task", BEGIN)
    assert (transport.word(state), state.service_down) == ("sprite_service", None)
