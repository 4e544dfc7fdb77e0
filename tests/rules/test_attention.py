"""Who needs a human, in which order, and what the sentence says to do next (D1, D10)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest

from contract.errors import IntentInvalid
from contract.intents import Intent, IntentMessage
from contract.observation import Contact, Freshness, ProcessRun
from contract.status import Attention, Lifecycle
from tests.rules.world import Runtime, World, running, waiting
from workflows import records, transport
from workflows.attention import assess, reasons

OTHER = ProcessRun(pid=900, start_time="900.00", loop_id="other")


def diverged(world: Runtime) -> None:
    world.new_epoch()
    world.look()


def ambiguous(world: Runtime) -> None:
    record = world.order(Intent.CANCEL_LOOP)
    records.cannot_know(record, world.state.target, world.now, "sent, no answer.")


def wrong_sprite(world: Runtime) -> None:
    world.look(sprite_id="sprite-2")


def unauthorized(world: Runtime) -> None:
    world.contact(Contact.UNAUTHORIZED, "401 unauthorized")


def blind(world: Runtime) -> None:
    for _ in range(2):
        transport.failed(world.state.transport, world.state.transport.active, "connection refused", world.now)


def crashed(world: Runtime) -> None:
    world.killed()
    world.look_twice()


def failed(world: Runtime) -> None:
    world.event("rate_limit_stop", status="rate_limited")
    world.exit()
    world.look()


def sprite_error(world: Runtime) -> None:
    world.contact(Contact.RUNTIME_ERROR, "502 runtime_error: state.json is empty")


def stale(world: Runtime) -> None:
    world.fact(freshness=Freshness.STALE, heartbeat_age_s=400.0)
    world.look()


def asks(world: Runtime) -> None:
    world.ask()
    world.look()


def approved(world: Runtime) -> None:
    world.ask()
    world.decide("approved")
    world.look()


def stopped(world: Runtime) -> None:
    world.event("loop_stop", reason="max_iterations")
    world.finish_files()
    world.look()


def service_down(world: Runtime) -> None:
    transport.failed(world.state.transport, world.state.transport.active, "connection refused", world.now)
    world.look()


def missing(world: Runtime) -> None:
    world.contact(Contact.LOOP_NOT_FOUND, "404 loop_not_found")


SITUATIONS: dict[Attention, Callable[[Runtime], None]] = {
    Attention.DIVERGED: diverged,
    Attention.AMBIGUOUS: ambiguous,
    Attention.WRONG_SPRITE: wrong_sprite,
    Attention.UNAUTHORIZED: unauthorized,
    Attention.BLIND: blind,
    Attention.CRASHED: crashed,
    Attention.FAILED: failed,
    Attention.SPRITE_ERROR: sprite_error,
    Attention.STALE: stale,
    Attention.APPROVAL_WAITING: asks,
    Attention.APPROVED_NOT_RESUMED: approved,
    Attention.STOPPED: stopped,
    Attention.SERVICE_DOWN: service_down,
    Attention.LOOP_MISSING: missing,
}

# What a person reads, and what is printed to be pasted.
WORDS: dict[Attention, tuple[str, str | None]] = {
    Attention.DIVERGED: (
        "Contradictory signals, d1 events_rewritten: ",
        "ops-manager resolve acme/demo d1 --accept current --by YOUR-NAME",
    ),
    Attention.AMBIGUOUS: ("Unknown: sent, no answer. Do not repeat; see: ", "ops-manager status acme/demo"),
    Attention.WRONG_SPRITE: (
        (
            "Another sprite answers here: expected sprite sprite-1, but sprite-2 answered: nothing of it was believed. "
            "Check the URL and the queue"
        ),
        "ops-manager doctor acme/demo",
    ),
    Attention.UNAUTHORIZED: (
        "The service refuses our token: 401 unauthorized. Mend the token",
        "ops-manager doctor acme/demo",
    ),
    Attention.BLIND: (
        (
            "Cannot see the loop (last seen 2026-11-22 03:00:02Z as running): the sprite service does not answer: "
            "connection refused; the local transport does not answer: connection refused"
        ),
        "ops-manager doctor acme/demo",
    ),
    Attention.CRASHED: (
        (
            "The run died without a word (no superloop.sh run process of this repo lives). The runtime refuses every "
            "further run until it is cleared (nothing is killed)."
        ),
        "ops-manager cancel acme/demo",
    ),
    Attention.FAILED: (
        "The run failed: rate_limited. The runtime refuses every further run until it is cleared (nothing is killed).",
        "ops-manager cancel acme/demo",
    ),
    Attention.SPRITE_ERROR: (
        "The sprite answers, but cannot read the loop: 502 runtime_error: state.json is empty",
        "ops-manager doctor acme/demo",
    ),
    Attention.STALE: (
        "Running, but its heartbeat is 400 s old. Look at the logs of the loop in the sprite.",
        "ops-manager status acme/demo",
    ),
    Attention.APPROVAL_WAITING: ("Waiting for approval of run R1 iteration 1: approve or reject it.", None),
    Attention.APPROVED_NOT_RESUMED: (
        (
            "ana approved it, and no run has consumed that yet. In the sprite: superloop.sh run --repo "
            "'/srv/sprite/demo repo' --loop demo"
        ),
        None,
    ),
    Attention.STOPPED: (
        (
            "Stopped without completing: max_iterations. To go on, in the sprite: superloop.sh run --repo "
            "'/srv/sprite/demo repo' --loop demo"
        ),
        None,
    ),
    Attention.SERVICE_DOWN: (
        "The sprite service does not answer, supervision goes on through the local transport: connection refused",
        "ops-manager doctor acme/demo",
    ),
    Attention.LOOP_MISSING: (
        "The loop's folder is gone from the sprite: 404 loop_not_found",
        "ops-manager doctor acme/demo",
    ),
}


def test_every_reason_for_attention_is_in_these_tables() -> None:
    assert [*SITUATIONS, Attention.NONE] == list(Attention)
    assert list(WORDS) == list(SITUATIONS)


@pytest.mark.parametrize("code", SITUATIONS, ids=str)
def test_reason_says_what_is_the_matter_and_what_to_do_next(code: Attention) -> None:
    world = running()
    SITUATIONS[code](world)
    told = assess(world.state)
    sentence, command = WORDS[code]
    assert told.code is code
    assert told.sentence.startswith(sentence)
    assert told.since is not None
    if command:
        assert told.next_command == command


# Reasons that can hold at once: what the other side answers, what is in doubt, and how the last run ended.
@pytest.mark.parametrize("ended", [crashed, failed, asks, stopped, approved, stale], ids=lambda f: str(f.__name__))
@pytest.mark.parametrize("answer", [wrong_sprite, unauthorized, sprite_error, missing, blind, diverged, ambiguous])
def test_of_two_reasons_the_more_urgent_one_is_told(
    ended: Callable[[Runtime], None], answer: Callable[[Runtime], None]
) -> None:
    world = running()
    if answer is ambiguous:
        record = world.order(Intent.CANCEL_LOOP)
        ended(world)
        records.cannot_know(record, world.state.target, world.now, "sent, no answer.")
    else:
        ended(world)
        answer(world)
    codes = {make: code for code, make in SITUATIONS.items()}
    urgency = list(Attention)
    assert assess(world.state).code is min(codes[ended], codes[answer], key=urgency.index)


@pytest.mark.parametrize("how", ["complete", "running", "starting", "never seen", "not started", "cancelled"])
def test_loop_that_needs_nobody_is_silent(how: str) -> None:
    world = Runtime()
    if how == "not started":
        world.look()
    if how in ("starting", "running", "complete", "cancelled"):
        world.start()
        world.look()
    if how in ("running", "complete", "cancelled"):
        world.work()
        world.look()
    if how == "complete":
        world.complete()
    if how == "cancelled":
        world.cancelled()
    if how != "never seen":
        world.look_twice()
    told = assess(world.state)
    assert (told.code, told.sentence, told.next_command) == (Attention.NONE, "", None)


def test_loop_that_was_never_there_is_no_missing_loop() -> None:
    world = Runtime()
    world.contact(Contact.LOOP_NOT_FOUND, "404 loop_not_found")
    assert assess(world.state).code is Attention.NONE


def test_condition_is_one_condition_however_often_it_is_seen() -> None:
    world = running()
    sprite_error(world)
    since = assess(world.state).since
    for detail in ("state.json is empty", "approval.json is empty"):
        world.contact(Contact.RUNTIME_ERROR, detail, after_s=60)
    told = assess(world.state)
    assert told.since == since
    assert "approval.json is empty" in told.sentence
    world.look()
    assert assess(world.state).code is Attention.NONE


def test_staleness_is_told_as_of_the_last_heartbeat_at_every_observation() -> None:
    world = running()
    stale(world)
    since = assess(world.state).since
    world.fact(heartbeat_age_s=460.0)
    world.look(60)
    assert assess(world.state).since == since


def test_nothing_is_announced_before_the_head_is_reached() -> None:
    world = Runtime()
    world.start()
    world.work()
    world.ask()
    world.look(upto=len(world.log), at_head=False)
    assert assess(world.state).code is Attention.NONE
    world.look()
    assert assess(world.state).code is Attention.APPROVAL_WAITING


def test_while_a_rewritten_log_is_read_again_what_held_before_is_held_on_to() -> None:
    world = waiting()
    world.new_epoch()
    world.look(upto=3, at_head=False)
    assert world.state.announced is False
    assert [reason.kind for reason in reasons(world.state)] == [Attention.DIVERGED, Attention.APPROVAL_WAITING]


def test_rewritten_log_that_was_quiet_before_announces_only_the_rewrite_until_it_is_read() -> None:
    world = running()
    world.ask()
    world.new_epoch()
    world.look(upto=len(world.log), at_head=False)
    assert [reason.kind for reason in reasons(world.state)] == [Attention.DIVERGED]
    world.look()
    assert [reason.kind for reason in reasons(world.state)] == [Attention.DIVERGED, Attention.APPROVAL_WAITING]


def test_on_the_way_through_a_backlog_what_has_long_been_decided_is_not_announced() -> None:
    world = running()
    world.ask()
    world.look(upto=len(world.log), at_head=False)
    assert assess(world.state).code is Attention.NONE
    world.decide("approved")
    world.look()
    assert assess(world.state).code is Attention.APPROVED_NOT_RESUMED


def test_run_that_begins_while_an_approval_waits_does_not_end_the_waiting() -> None:
    world = waiting()
    before = assess(world.state)
    world.start("R2")
    world.look()
    assert world.state.projection.lifecycle is Lifecycle.STARTING
    assert assess(world.state) == before
    world.event("approval_wait", "R2")
    world.exit()
    world.look()
    assert assess(world.state) == before


def test_ambiguous_intent_is_left_behind_by_a_later_run() -> None:
    world = running()
    ambiguous(world)
    world.start("R2")
    world.look()
    assert assess(world.state).code is Attention.NONE


def test_stuck_loop_is_told_how_to_get_out() -> None:
    world = running()
    world.event("loop_stop", reason="stuck", streak=3, threshold=3)
    world.finish_files()
    world.look()
    assert "remove .superloop/loops/demo/stuck.json, then superloop.sh run" in assess(world.state).sentence


def test_failed_loop_whose_state_blocks_nothing_is_told_to_run_again() -> None:
    world = running()
    world.event("role_timeout", status="timeout", role="planner")
    world.finish_files()
    world.look()
    assert assess(world.state).sentence == (
        "The run failed: role_timeout. To go on, in the sprite: superloop.sh run --repo '/srv/sprite/demo repo' "
        "--loop demo"
    )


@pytest.mark.parametrize("loop_id", ["demo", "two words", "it's; rm -rf ~", "$(reboot)", "`id`", 'a"b'])
def test_every_command_can_be_pasted_and_means_this_loop(loop_id: str) -> None:
    for code, make in SITUATIONS.items():
        world = running_loop(loop_id)
        make(world)
        told = assess(world.state)
        assert told.code is code
        if told.next_command is None:
            continue
        words = shlex.split(told.next_command)
        if words[0] == "temporal":
            assert words[words.index("--workflow-id") + 1] == f"loop:acme:{loop_id}"
        else:
            assert words[:3] == ["ops-manager", words[1], f"acme/{loop_id}"]
            assert words[3:] in ([], ["d1", "--accept", "current", "--by", "YOUR-NAME"])


def running_loop(loop_id: str) -> Runtime:
    world = Runtime(loop_id)
    world.start()
    world.look()
    world.work()
    world.look()
    return world


def test_approval_command_is_a_signal_bound_to_exactly_this_request() -> None:
    command = assess(waiting().state).next_command
    assert command is not None
    words = shlex.split(command)
    assert words[:3] == ["temporal", "workflow", "signal"]
    assert words[words.index("--name") + 1] == "APPROVE_PENDING"
    typed = words[words.index("--input") + 1]
    with pytest.raises(IntentInvalid, match="by is still YOUR-NAME"):
        IntentMessage.read(json.loads(typed))
    message = IntentMessage.read(json.loads(typed.replace("YOUR-NAME", "ana")))
    assert message.expect is not None
    assert message.expect.model_dump(exclude_none=True) == {
        "sprite_id": "sprite-1",
        "run_id": "R1",
        "approval_sha256": "a1b2c3d4a1b2c3d4",
    }


def test_blind_loop_that_was_never_seen_says_so() -> None:
    world = World()
    for _ in range(2):
        transport.failed(world.state.transport, world.state.transport.active, "connection refused", world.now)
    assert assess(world.state).sentence.startswith("Cannot see the loop (never seen): ")


def test_more_than_one_divergence_is_counted() -> None:
    world = running()
    diverged(world)
    world.alive(OTHER)
    world.look_twice()
    assert assess(world.state).sentence.endswith("(and 1 more)")


def test_state_that_a_killed_run_left_empty_names_the_way_out() -> None:
    world = running()
    world.contact(Contact.RUNTIME_ERROR, "artifact stays empty: .superloop/state.json", after_s=60)
    assert "superloop.sh cancel --repo " in assess(world.state).sentence
