"""Conditions: told once when they open, once when they close, and what is listed is what was told (D10)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from contract.intents import Intent
from contract.notices import NoticeType
from contract.observation import Contact, Freshness, Transport, TransportMode
from contract.status import Attention, IntentStage, NoticesReport
from tests.rules.test_attention import SITUATIONS
from tests.rules.test_laws import events, follow, quicker, steps, world_of
from tests.rules.world import FIRST_RUN, Runtime, World, running, waiting
from workflows import conditions, divergence, records, transport
from workflows.attention import assess
from workflows.conditions import MAX_OUTBOX, MAX_SENTENCE_CHARS, RELEASED
from workflows.search_attributes import values
from workflows.state import SupervisorState

OPENED, CLOSED = "opened", "closed"


def listening(world: Runtime) -> Runtime:
    """The same world with a webhook."""
    world.state.notices = NoticesReport()
    return world


def told(world: World) -> list[tuple[str, str]]:
    """What is in the outbox: (kind, opened or closed)."""
    return [(m.notice.kind.value, m.notice.type.removeprefix("condition.")) for m in world.state.outbox]


def heard(world: World) -> list[tuple[str, str]]:
    """What is in the outbox, which is emptied."""
    before = told(world)
    world.state.outbox = []
    return before


def working() -> Runtime:
    """A loop at work, somebody listening, nothing to tell."""
    world = listening(running())
    assert told(world) == []
    return world


@pytest.mark.parametrize("kind", SITUATIONS, ids=str)
def test_every_reason_for_attention_opens_one_condition_that_says_what_is_shown(kind: Attention) -> None:
    world = working()
    SITUATIONS[kind](world)
    world.settle()
    shown = assess(world.state)
    assert told(world) == [(kind.value, OPENED)]
    notice = world.state.outbox[0].notice
    assert (notice.kind, notice.sentence, notice.next_command) == (shown.code, shown.sentence, shown.next_command)
    assert (notice.since, notice.closed_at) == (shown.since, None)
    assert notice.opened_at == world.state.conditions[0].opened_at <= world.now
    assert (notice.sprite, notice.loop_id, notice.workflow_id) == ("acme", "demo", "loop:acme:demo")
    assert notice.subject
    # It persists: nothing more is told, however often it is seen.
    for _ in range(3):
        world.tick(60)
        world.settle()
    assert told(world) == [(kind.value, OPENED)]


def mend_contact(world: Runtime) -> None:
    world.look()


def mend_transport(world: Runtime) -> None:
    transport.returned(world.state.transport, "agrees", world.now)
    world.look()


def begin_again(world: Runtime) -> None:
    world.remove_state()
    world.start("R2")
    world.look()
    world.work("R2")
    world.look()


def freshen(world: Runtime) -> None:
    world.fact(freshness=Freshness.FRESH, heartbeat_age_s=1.0)
    world.look()


def decide(world: Runtime) -> None:
    world.decide("approved")
    world.look()


def consume(world: Runtime) -> None:
    world.start("R2")
    world.consume()
    world.look()


MENDING: dict[Attention, tuple[Callable[[Runtime], None], str]] = {
    Attention.AMBIGUOUS: (begin_again, "Confirmed: ana cancelled run R1 iteration 1"),
    Attention.WRONG_SPRITE: (mend_contact, "The sprite shows the loop again."),
    Attention.UNAUTHORIZED: (mend_contact, "The sprite shows the loop again."),
    Attention.SPRITE_ERROR: (mend_contact, "The sprite shows the loop again."),
    Attention.LOOP_MISSING: (mend_contact, "The sprite shows the loop again."),
    Attention.BLIND: (mend_transport, "The sprite service transport answers again."),
    Attention.SERVICE_DOWN: (mend_transport, "The sprite service answers again."),
    Attention.CRASHED: (begin_again, "The loop is starting now (loop_start, run R2 iteration 1)."),
    Attention.FAILED: (begin_again, "The loop is starting now (loop_start, run R2 iteration 1)."),
    Attention.STOPPED: (begin_again, "The loop is starting now (loop_start, run R2 iteration 1)."),
    Attention.STALE: (freshen, "The loop is running now (iteration_start, run R1 iteration 1)."),
    Attention.APPROVAL_WAITING: (decide, "ana approved it. The loop is decided now"),
    Attention.APPROVED_NOT_RESUMED: (consume, "The loop is complete now (loop_complete, run R1 iteration 1)."),
}


@pytest.mark.parametrize("kind", MENDING, ids=str)
def test_end_of_a_condition_is_told_once_with_how_it_ended(kind: Attention) -> None:
    world = working()
    SITUATIONS[kind](world)
    world.settle()
    (opened,) = world.state.outbox
    mend, sentence = MENDING[kind]
    mend(world)
    closed = [m for m in world.state.outbox if m.notice.type is NoticeType.CLOSED]
    assert len(closed) == 1
    assert closed[0].notice.id == opened.notice.id
    assert closed[0].message_id != opened.message_id
    assert sentence in closed[0].notice.sentence
    assert closed[0].notice.opened_at == opened.notice.opened_at
    assert closed[0].notice.closed_at is not None
    assert opened.notice.opened_at < closed[0].notice.closed_at <= world.now
    assert closed[0].notice.next_command is None


def test_all_kinds_but_the_one_that_an_operator_settles_are_seen_to_end() -> None:
    assert set(MENDING) == set(SITUATIONS) - {Attention.DIVERGED}


def test_second_live_run_that_ends_closes_its_divergence() -> None:
    world = working()
    other = world.facts["process"].runs[0].model_copy(update={"pid": 900})
    world.alive(other)
    world.look_twice()
    world.alive()
    world.look()
    assert told(world) == [("diverged", OPENED), ("diverged", CLOSED)]
    assert [m.notice.subject for m in world.state.outbox] == ["d1 multiple_runs"] * 2


def test_approval_from_request_to_consumption_is_two_pairs_in_order_about_the_same_run() -> None:
    world = working()
    world.ask()
    world.look()
    decide(world)
    consume(world)
    assert told(world) == [
        ("approval_waiting", OPENED),
        ("approval_waiting", CLOSED),
        ("approved_not_resumed", OPENED),
        ("approved_not_resumed", CLOSED),
    ]
    assert {(m.notice.subject, m.notice.run_id, m.notice.iteration) for m in world.state.outbox} == {
        ("run R1 of line 1", "R1", 1)
    }


def test_second_request_made_between_two_looks_closes_the_first_and_opens_another() -> None:
    world = listening(waiting())
    heard(world)
    world.decide("rejected", iteration=2)
    # The same run id: it has a resolution of one second.
    world.start("R1")
    world.event("approval_rejected", "R1", 2)
    world.work("R1", 3)
    world.ask("R1", 3)
    world.look()
    assert told(world) == [("approval_waiting", CLOSED), ("approval_waiting", OPENED)]
    first, second = (m.notice for m in world.state.outbox)
    assert first.subject != second.subject
    assert first.id != second.id
    assert "awaiting approval now" in first.sentence


def test_request_that_was_made_and_decided_and_consumed_between_two_looks_is_not_told() -> None:
    world = working()
    world.ask()
    world.decide("approved")
    world.start("R2")
    world.consume()
    world.look()
    assert told(world) == []


def test_condition_that_comes_back_is_a_new_one() -> None:
    world = working()
    for _ in range(2):
        world.contact(Contact.UNAUTHORIZED, "401")
        world.look()
    assert told(world) == [("unauthorized", OPENED), ("unauthorized", CLOSED)] * 2
    assert len({m.message_id for m in world.state.outbox}) == 4
    assert len({m.notice.id for m in world.state.outbox}) == 2


def test_sentence_that_changes_is_shown_and_not_told_again() -> None:
    world = working()
    world.contact(Contact.RUNTIME_ERROR, "state.json is empty")
    world.contact(Contact.RUNTIME_ERROR, "approval.json is empty")
    assert told(world) == [("sprite_error", OPENED)]
    assert "approval.json" in world.state.conditions[0].sentence
    assert "state.json" in world.state.outbox[0].notice.sentence


def test_two_unknown_intents_are_two_conditions_each_with_its_end() -> None:
    world = working()
    for _ in range(2):
        record = world.order(Intent.CANCEL_LOOP)
        records.cannot_know(record, world.state.target, world.now, "sent, no answer.")
    world.settle()
    assert told(world) == [("ambiguous", OPENED)] * 2
    assert len({m.notice.subject for m in world.state.outbox}) == 2
    first = world.state.intents[0]
    records.confirm(first, world.now, "the process is gone")
    world.settle()
    assert told(world)[2:] == [("ambiguous", CLOSED)]
    assert world.state.outbox[-1].notice.sentence == first.sentence
    assert first.stage is IntentStage.CONFIRMED


def test_run_that_only_finds_the_request_pending_is_not_told() -> None:
    world = listening(waiting())
    heard(world)
    for run in ("R2", "R3"):
        world.start(run)
        world.look()
        world.event("approval_wait", run)
        world.exit()
        world.look()
    assert told(world) == []


def test_service_without_a_local_transport_is_told_as_blind_only() -> None:
    world = working()
    for _ in range(5):
        transport.failed(world.state.transport, world.state.transport.active, "connection refused", world.now)
        world.settle()
    assert told(world) == [("blind", OPENED)]


def test_flapping_service_is_one_condition_until_something_is_seen_through_it() -> None:
    world = working()
    SITUATIONS[Attention.SERVICE_DOWN](world)
    for _ in range(4):
        transport.returned(world.state.transport, "agrees", world.now)
        world.settle()
        transport.failed(world.state.transport, world.state.transport.active, "cut off", world.now)
        world.look()
    assert told(world) == [("service_down", OPENED)]
    transport.returned(world.state.transport, "agrees", world.now)
    world.look(transport=Transport.SPRITE_SERVICE)
    assert told(world) == [("service_down", OPENED), ("service_down", CLOSED)]


def test_local_transport_that_fails_too_closes_service_down_and_opens_blind() -> None:
    world = working()
    SITUATIONS[Attention.SERVICE_DOWN](world)
    transport.failed(world.state.transport, world.state.transport.active, "no worker", world.now)
    world.settle()
    assert told(world)[1:] == [("service_down", CLOSED), ("blind", OPENED)]
    assert "Neither" in world.state.outbox[1].notice.sentence


def test_loop_that_has_no_service_is_never_told_that_it_is_down() -> None:
    world = listening(Runtime(service=False))
    for _ in range(3):
        world.look()
    assert told(world) == []


def test_nothing_is_told_on_the_way_to_the_head_and_the_state_at_the_head_is() -> None:
    world = listening(Runtime())
    world.start()
    world.work()
    world.ask()
    world.decide("approved")
    for upto in range(1, len(world.log)):
        world.look(upto=upto, at_head=False)
        assert told(world) == []
    world.look()
    assert told(world) == [("approved_not_resumed", OPENED)]


def test_log_that_is_read_again_tells_only_that_it_was_rewritten() -> None:
    world = listening(waiting())
    assert heard(world) == []
    world.settle()
    heard(world)
    world.new_epoch()
    for upto in range(1, len(world.log)):
        world.look(upto=upto, at_head=False)
    world.look()
    assert told(world) == [("diverged", OPENED)]


def test_log_that_was_replaced_by_one_that_has_gone_on_tells_the_end_at_its_head() -> None:
    world = listening(waiting())
    heard(world)
    world.new_epoch()
    world.complete(iteration=2)
    world.look(upto=len(world.log) - 1, at_head=False)
    assert told(world) == [("diverged", OPENED)]
    world.look()
    assert told(world)[1:] == [("approval_waiting", CLOSED)]


def test_unknown_intent_that_a_later_run_has_left_behind_stays_so_when_the_log_is_read_again() -> None:
    world = working()
    record = world.order(Intent.CANCEL_LOOP)
    records.cannot_know(record, world.state.target, world.now, "sent, no answer.")
    record.final = True
    world.settle()
    begin_again(world)
    assert heard(world) == [("ambiguous", OPENED), ("ambiguous", CLOSED)]
    world.new_epoch()
    for upto in range(1, len(world.log)):
        world.look(upto=upto, at_head=False)
    world.look()
    assert told(world) == [("diverged", OPENED)]


def test_conditions_go_along_through_continue_as_new_and_are_not_told_again() -> None:
    world = listening(waiting())
    heard(world)
    for _ in range(3):
        world.round_trip()
        world.settle()
    assert told(world) == []
    world.contact(Contact.UNAUTHORIZED, "401")
    world.round_trip()
    world.look()
    world.contact(Contact.UNAUTHORIZED, "401")
    ids = [m.notice.id for m in world.state.outbox]
    assert len(set(ids)) == 2


def test_time_that_is_lived_through_again_gives_the_same_ids() -> None:
    def live(world: Runtime) -> list[str]:
        world.ask()
        world.look()
        world.contact(Contact.UNAUTHORIZED, "401")
        world.look()
        decide(world)
        return [m.message_id for m in world.state.outbox]

    first, again = working(), working()
    # What else came and went meanwhile changes no id of another kind.
    again.contact(Contact.RUNTIME_ERROR, "502")
    again.look()
    before, after = live(first), live(again)
    assert set(before) < set(after)
    assert all(message_id.startswith(f"{FIRST_RUN}-") for message_id in after)


def test_without_a_webhook_conditions_are_kept_and_nothing_is_queued() -> None:
    world = waiting()
    assert world.state.notices is None
    assert [c.kind for c in world.state.conditions] == [Attention.APPROVAL_WAITING]
    decide(world)
    conditions.release(world.state, world.now)
    assert world.state.outbox == []


def test_release_closes_what_is_open_and_says_so() -> None:
    world = listening(waiting())
    world.contact(Contact.UNAUTHORIZED, "401")
    heard(world)
    conditions.release(world.state, world.now)
    assert told(world) == [("unauthorized", CLOSED), ("approval_waiting", CLOSED)]
    assert {m.notice.sentence for m in world.state.outbox} == {RELEASED}


def test_outbox_that_nobody_empties_is_bounded_and_keeps_what_is_open_and_what_may_be_on_its_way() -> None:
    world = listening(waiting())
    world.settle()
    world.contact(Contact.UNAUTHORIZED, "401")
    on_its_way = world.state.outbox[0]
    for _ in range(MAX_OUTBOX):
        world.look()
        world.contact(Contact.UNAUTHORIZED, "401")
    state = world.state
    assert len(state.outbox) <= MAX_OUTBOX
    assert state.outbox[0] == on_its_way
    assert state.notices is not None
    assert state.notices.collapsed > 0
    queued = [m.notice.id for m in state.outbox if m.notice.type is NoticeType.OPENED]
    assert state.conditions[0].id in queued
    # Nothing is closed that was never opened: pairs go together.
    closed = {m.notice.id for m in state.outbox if m.notice.type is NoticeType.CLOSED}
    assert closed <= set(queued)


def test_sentence_of_a_stranger_is_bounded_and_printable() -> None:
    world = working()
    world.contact(Contact.RUNTIME_ERROR, "x\x1b[31m" * 2_000)
    sentence = world.state.outbox[0].notice.sentence
    assert len(sentence) <= MAX_SENTENCE_CHARS
    assert sentence.isprintable()


# The agreement: whatever happens, what is listed is the most urgent of what was told and is not over.


def _agrees(world: World, heard_of: dict[str, Attention]) -> None:
    state = world.state
    for message in state.outbox:
        notice = message.notice
        if notice.type is NoticeType.OPENED:
            assert notice.id not in heard_of, "told twice"
            heard_of[notice.id] = notice.kind
        else:
            assert heard_of.pop(notice.id) is notice.kind, "an end of what never began"
    state.outbox = []
    assert heard_of == {condition.id: condition.kind for condition in state.conditions}
    urgency = list(Attention)
    most_urgent = min(heard_of.values(), key=urgency.index, default=Attention.NONE)
    assert assess(state).code is most_urgent
    assert values(state)["LoopAttention"] == most_urgent.value


@quicker
@given(events, steps)
def test_what_is_listed_is_the_most_urgent_of_what_was_told_whatever_happens(
    told: list[Any], history: list[Any]
) -> None:
    world, heard_of = world_of(told), dict[str, Attention]()
    world.state.notices = NoticesReport()
    for step in history:
        follow(world, [step])
        world.settle()
        _agrees(world, heard_of)


@pytest.mark.parametrize("first", SITUATIONS, ids=str)
def test_what_is_listed_is_the_most_urgent_of_what_was_told_in_every_pair_of_situations(first: Attention) -> None:
    for second in SITUATIONS:
        world, heard_of = working(), dict[str, Attention]()
        for kind in (first, second):
            # An intent that is refused in this state leaves nothing unknown.
            with contextlib.suppress(AssertionError):
                SITUATIONS[kind](world)
            world.settle()
            _agrees(world, heard_of)
            world.round_trip()
        world.look_twice()
        _agrees(world, heard_of)


def test_old_state_without_conditions_opens_what_holds_now() -> None:
    world = waiting()
    carried = world.state.model_dump(mode="json")
    for gained in ("conditions", "opened", "outbox", "notices"):
        del carried[gained]
    world.state = SupervisorState.model_validate(carried)
    world.settle()
    assert [c.kind for c in world.state.conditions] == [Attention.APPROVAL_WAITING]


@pytest.mark.parametrize(
    ("by", "ended"),
    [
        ("ana", "ana resolved d1 events_rewritten: what is believed now stands (seen)."),
        (None, "The signals contradict each other no longer: d1 events_rewritten is over."),
    ],
)
def test_divergence_that_somebody_resolved_is_told_with_who_and_how(by: str | None, ended: str) -> None:
    world = working()
    world.new_epoch()
    world.look()
    (found,) = world.state.divergences
    how = "current" if by else divergence.GONE
    divergence.close(world.state, found, world.now, resolution=how, by=by, note="seen" if by else None)
    world.settle()
    assert world.state.outbox[-1].notice.sentence == ended


def test_service_that_nobody_wants_any_more_is_not_told_to_answer_again() -> None:
    world = working()
    SITUATIONS[Attention.SERVICE_DOWN](world)
    transport.pin(world.state.transport, TransportMode.LOCAL, world.now, by="ana")
    world.settle()
    assert told(world)[1:] == [("service_down", CLOSED)]
    assert world.state.outbox[1].notice.sentence == (
        "ana pinned the loop to the local transport: the service is not asked any more."
    )


def test_service_that_shows_another_log_is_told_to_answer_and_not_to_be_used() -> None:
    world = working()
    SITUATIONS[Attention.SERVICE_DOWN](world)
    transport.disagreed(world.state.transport, "it shows another log", world.now)
    world.settle()
    assert world.state.outbox[-1].notice.sentence == (
        "The sprite service answers again, but is not used: it shows another log."
    )
