"""Intents that a program decided are refused whenever the picture is in doubt; those of people are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contract.intents import Intent
from contract.observation import Contact
from contract.status import IntentStage
from tests.rules.world import RECHECK_S, Runtime, running, waiting
from workflows import automation, transport
from workflows.judgement import judge
from workflows.state import MAX_INTENTS

BY_A_PROGRAM = '{"by":"robot","automated":true}'
BY_HAND = '{"by":"ana"}'


def unreconciled(world: Runtime) -> None:
    transport.failed(world.state.transport, world.state.transport.active, "connection refused", world.now)
    world.look()


def blind(world: Runtime) -> None:
    unreconciled(world)
    transport.failed(world.state.transport, world.state.transport.active, "no worker", world.now)


def diverged(world: Runtime) -> None:
    world.fact(completion_ok=True, summary_run_id="R1")
    world.look_twice()


def catching_up(world: Runtime) -> None:
    world.look(at_head=False)


def not_answered(world: Runtime) -> None:
    world.contact(Contact.UNAUTHORIZED, "401")


def in_flight(world: Runtime) -> None:
    world.send("APPROVE_PENDING")


DOUBTS: dict[Callable[[Runtime], None], str] = {
    unreconciled: "not reconciled with the sprite service since",
    blind: "the loop cannot be seen since",
    diverged: "contradictory signals are open (d1 approvalCompletionConflict)",
    catching_up: "the log is still being read",
    not_answered: "the sprite answers unauthorized instead of a snapshot",
    in_flight: "APPROVE_PENDING by ana is in flight",
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_automated_intent_is_refused_with_the_reason_and_a_persons_is_not(doubt: Callable[[Runtime], None]) -> None:
    world = waiting()
    doubt(world)
    record = world.send("REJECT_PENDING", BY_A_PROGRAM)
    verdict = judge(record, world.state)
    assert verdict.refusal is not None
    assert verdict.refusal.startswith("automated intents are frozen: ")
    assert DOUBTS[doubt] in verdict.refusal
    by_hand = judge(world.send("REJECT_PENDING", BY_HAND), world.state)
    assert by_hand.refusal is None or "automated" not in by_hand.refusal


def test_automated_intent_is_taken_while_nothing_is_in_doubt_and_again_when_doubts_are_gone() -> None:
    world = waiting()
    assert world.judge(world.send("REJECT_PENDING", BY_A_PROGRAM)).refusal is None
    world = running()
    unreconciled(world)
    assert automation.doubts(world.state)
    transport.returned(world.state.transport, "agrees", world.now)
    world.look(RECHECK_S)
    assert automation.doubts(world.state) == []
    assert world.order(Intent.CANCEL_LOOP, BY_A_PROGRAM).automated


@pytest.mark.parametrize("value", ["1", '"true"', "null", "{}"])
def test_automated_is_a_json_boolean_or_the_message_is_refused(value: str) -> None:
    world = waiting()
    record = world.send("REJECT_PENDING", f'{{"by":"robot","automated":{value}}}')
    assert record.stage is IntentStage.REJECTED
    assert "automated should be a valid boolean" in record.reason


def test_same_key_sent_by_a_program_and_by_a_person_is_not_the_same_message() -> None:
    world = waiting()
    world.send("REJECT_PENDING", '{"by":"ana","idempotencyKey":"k"}')
    again = world.send("REJECT_PENDING", '{"by":"ana","idempotencyKey":"k","automated":true}')
    assert again.stage is IntentStage.REJECTED


@pytest.mark.parametrize("doubt", DOUBTS)
def test_automated_intent_that_comes_while_something_is_in_doubt_is_refused_before_it_is_queued(
    doubt: Callable[[Runtime], None],
) -> None:
    world = waiting()
    doubt(world)
    queued = world.state.queue()
    record = world.send("CANCEL_LOOP", BY_A_PROGRAM)
    assert record.stage is IntentStage.REJECTED
    assert DOUBTS[doubt] in record.reason
    assert world.state.queue() == queued


def test_automated_cancel_overtakes_nothing_that_is_under_way_and_a_persons_does() -> None:
    world = waiting()
    approve = world.order(Intent.APPROVE_PENDING)
    world.send("CANCEL_LOOP", BY_A_PROGRAM)
    assert not world.state.overtaken(approve)
    world.send("CANCEL_LOOP", BY_HAND)
    assert world.state.overtaken(approve)


def test_program_that_is_refused_again_and_again_pushes_out_nothing_that_people_have_sent() -> None:
    world = waiting()
    hers = world.send("NO_SUCH_SIGNAL", BY_HAND)
    unreconciled(world)
    for _ in range(2 * MAX_INTENTS):
        newest = world.send("CANCEL_LOOP", BY_A_PROGRAM)
        assert newest is world.state.intents[-1]
    assert world.state.intents[0] is hers
    assert len(world.state.intents) == MAX_INTENTS
