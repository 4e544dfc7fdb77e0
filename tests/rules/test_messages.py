"""Messages of people: whatever is sent ends as a record with a reason, and says what to send instead."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload

from contract.intents import MAX_BY_CHARS, MAX_EXPECTED_CHARS, MAX_KEY_CHARS, MAX_NOTE_CHARS, Intent
from contract.status import IntentRecord, IntentStage
from tests.rules.world import BEGIN, World, running, waiting
from workflows import messages, records
from workflows.report import card
from workflows.state import KEY_AGE, MAX_INTENTS, MAX_USED_KEYS, SupervisorState

EXAMPLE = '{"by":"ana"}'


def payload(data: bytes, encoding: bytes = b"json/plain") -> Payload:
    return Payload(metadata={"encoding": encoding}, data=data)


def sent(body: Any) -> IntentRecord:
    return World().send("APPROVE_PENDING", json.dumps(body))


ASK = f"the message must say who asks: send one JSON object such as {EXAMPLE}"
OBJECT = f"the message must be one JSON object such as {EXAMPLE}, not "
NOT_JSON = f"the message is not JSON: send one JSON object such as {EXAMPLE}"
SIGNALS = "CANCEL_LOOP, APPROVE_PENDING, REJECT_PENDING, SET_TRANSPORT, RESOLVE_DIVERGENCE, RECONCILE"
FIELDS = "by, note, idempotencyKey, noConfirm, expect, notAfter, automated"
MEGABYTE = b"n" * 1_000_000

# What arrives as JSON -> how the reason begins.
BODIES: list[tuple[str, bytes, str]] = [
    ("null", b"null", ASK),
    ("empty object", b"{}", ASK),
    ("string", b'"ana"', OBJECT + "a string"),
    ("number", b"7", OBJECT + "a number"),
    ("boolean", b"true", OBJECT + "a boolean"),
    ("array", b'[{"by":"ana"}]', OBJECT + "an array"),
    ("not JSON", b"by=ana", NOT_JSON),
    ("not UTF-8", b'{"by":"\xff\xfe"}', NOT_JSON),
    ("too deep", b"[" * 100_000, NOT_JSON),
    ("huge number", b'{"by":%s}' % (b"9" * 5_000), NOT_JSON),
    ("by missing", b'{"note":"x"}', f"by is required (example: {EXAMPLE})"),
    ("by a number", b'{"by":7}', f"by should be a valid string (example: {EXAMPLE})"),
    ("by null", b'{"by":null}', "by should be a valid string"),
    ("by blank", b'{"by":"  "}', "by must name who asks"),
    ("by with a line", b'{"by":"a\\nb"}', "by must not contain control characters"),
    ("by half a character", b'{"by":"\\ud83d"}', "by must not contain control characters"),
    ("noConfirm a number", b'{"by":"ana","noConfirm":1}', "noConfirm should be a valid boolean"),
    ("noConfirm a text", b'{"by":"ana","noConfirm":"true"}', "noConfirm should be a valid boolean"),
    ("expect a text", b'{"by":"ana","expect":"R1"}', "expect should be a JSON object"),
    ("typo", b'{"by":"ana","nobConfirm":true}', "unknown field 'nobConfirm': did you mean 'noConfirm'?"),
    ("typo of expect", b'{"by":"ana","expct":{}}', "unknown field 'expct': did you mean 'expect'?"),
    ("typo in expect", b'{"by":"ana","expect":{"runID":""}}', "unknown field 'expect.runID': did you mean 'runId'?"),
    ("null in expect", b'{"by":"ana","expect":{"runId":null}}', "expect.runId must not be null: leave out what is"),
    ("no idea", b'{"by":"ana","zzz":1}', f"unknown field 'zzz': known fields are {FIELDS} (example: {EXAMPLE})"),
    ("half a field name", b'{"by":"ana","\\ud83d":1}', "a field name should be a valid string"),
    ("time without zone", b'{"by":"ana","notAfter":"2026-11-22T03:12:07"}', "notAfter must carry its time zone"),
    ("time of no calendar", b'{"by":"ana","notAfter":"9999-12-31T23:59:59-05:00"}', "notAfter must be a time"),
    ("time a number", b'{"by":"ana","notAfter":1795334852}', "notAfter must be a time such as 2026-11-22T03:12:07Z"),
    ("note of a megabyte", b'{"by":"ana","note":"%s"}' % MEGABYTE, "note has 1000000 characters, at most 4000 are"),
    ("field name of a megabyte", b'{"by":"ana","%s":1}' % MEGABYTE, "unknown field 'nnn"),
    ("expected megabyte", b'{"by":"ana","expect":{"runId":"%s"}}' % MEGABYTE, "expect.runId must be at most 200"),
    ("short hash", b'{"by":"ana","expect":{"approvalSha256":"abc"}}', "expect.approvalSha256 "),
]
UNREADABLE = "the message's encoding %r cannot be read: send JSON such as " + EXAMPLE
REJECTED: list[tuple[str, list[Payload], str]] = [
    ("no argument", [], ASK),
    ("binary null", [payload(b"", b"binary/null")], ASK),
    ("two", [payload(b'{"by":"ana"}')] * 2, f"2 arguments were sent: send one JSON object such as {EXAMPLE}"),
    ("encrypted", [payload(b"\x00\x01", b"binary/encrypted")], UNREADABLE % "binary/encrypted"),
    ("no encoding", [Payload(data=b"{}")], UNREADABLE % "none"),
    *((name, [payload(body)], reason) for name, body, reason in BODIES),
]


@pytest.mark.parametrize(("payloads", "reason"), [case[1:] for case in REJECTED], ids=[case[0] for case in REJECTED])
@pytest.mark.parametrize("name", list(Intent.__members__))
def test_message_that_is_no_intent_is_a_recorded_rejection_with_its_reason(
    name: str, payloads: list[Payload], reason: str
) -> None:
    world = World()
    record = world.receive(name, payloads)
    assert world.state.intents == [record]
    assert record.stage is IntentStage.REJECTED
    assert record.reason.startswith(reason)
    assert record.sentence == f"Nothing done: {record.reason}"
    assert len(record.reason) <= 1_000
    assert [stage.stage.value for stage in record.stages] == ["received", "rejected"]
    assert world.state.queue() == []
    # It can be shown, and carried over: no text that UTF-8 cannot hold, nothing that blows the state up.
    assert card(world.state).encode("utf-8")
    assert len(world.state.model_dump_json()) < 10_000
    world.round_trip()


@pytest.mark.parametrize(
    "name", ["approve", "APPROVE_PENDING ", "CANCEL", "", "x" * 5_000, "a\x1b[31m\nb", "__temporal_unknown", "status"]
)
def test_unknown_signal_name_is_a_recorded_rejection_that_names_the_signals(name: str) -> None:
    world = World()
    record = world.send(name)
    assert record.stage is IntentStage.REJECTED
    assert record.reason.endswith(f"the signals are {SIGNALS}")
    assert record.intent.isprintable()
    assert len(record.intent) <= 80
    assert record.by == "ana"


def test_rejection_names_who_sent_it_as_far_as_that_can_be_read() -> None:
    world = World()
    assert world.send("APPROVE_PENDING", '{"by":" bo ","nope":1}').by == "bo"
    assert world.send("APPROVE_PENDING", '{"by":7}').by == "unknown"
    assert world.send("APPROVE_PENDING", '{"by":"a\\nb"}').by == "unknown"


@pytest.mark.parametrize(
    "body",
    [
        {"by": "ana"},
        {"by": "x" * MAX_BY_CHARS},
        {"by": "ana", "note": "n" * MAX_NOTE_CHARS},
        {"by": "ana", "note": "two\r\nlines\tand a no-break\u00a0space 👩\u200d💻"},
        {"by": "ana", "note": ""},
        {"by": "ana", "note": None, "idempotencyKey": None, "expect": None, "notAfter": None},
        {"by": "ana", "idempotencyKey": "k" * MAX_KEY_CHARS},
        {"by": "ana", "expect": {"runId": "r" * MAX_EXPECTED_CHARS, "iteration": 0, "approvalSha256": "0" * 8}},
        {"by": "ana", "expect": {"approvalSha256": "f" * 64}},
        {"by": "ana", "noConfirm": True, "notAfter": "2026-11-22T03:12:07+01:00"},
        {"by": "Ana Müller-Lüdenscheidt (ops)"},
    ],
)
def test_message_at_the_bounds_is_taken(body: dict[str, Any]) -> None:
    record = sent(body)
    assert (record.stage, record.reason) == (IntentStage.RECEIVED, "")
    assert record.by == body["by"]


@pytest.mark.parametrize(
    "body",
    [
        {"by": "x" * (MAX_BY_CHARS + 1)},
        {"by": "ana", "note": "n" * (MAX_NOTE_CHARS + 1)},
        {"by": "ana", "note": "\x00"},
        {"by": "ana", "note": "\x1b[31m"},
        {"by": "ana", "idempotencyKey": "k" * (MAX_KEY_CHARS + 1)},
        {"by": "ana", "idempotencyKey": ""},
        {"by": "ana", "idempotencyKey": "ü"},
        {"by": "ana", "idempotencyKey": " k"},
        {"by": "ana", "expect": {"runId": "r" * (MAX_EXPECTED_CHARS + 1)}},
        {"by": "ana", "expect": {"spriteId": "\ud800"}},
        {"by": "ana", "expect": {"approvalSha256": "f" * 7}},
        {"by": "ana", "expect": {"approvalSha256": "f" * 65}},
        {"by": "ana", "expect": {"approvalSha256": "F" * 8}},
        {"by": "ana", "expect": {"iteration": "4"}},
        {"by": "ana", "expect": {"iteration": True}},
        {"by": "ana", "expect": []},
    ],
)
def test_message_beyond_the_bounds_is_rejected(body: dict[str, Any]) -> None:
    assert sent(body).stage is IntentStage.REJECTED


def test_intent_without_not_after_expires_after_the_default_and_one_with_keeps_its_own() -> None:
    assert sent({"by": "ana"}).not_after == BEGIN + timedelta(minutes=15)
    assert sent({"by": "ana", "notAfter": "2026-11-22T04:00:00+01:00"}).not_after == BEGIN
    assert sent({"by": "ana", "notAfter": "9998-01-01T00:00:00Z"}).not_after == BEGIN + timedelta(days=366)


# Keys.


def test_message_without_a_key_gets_one_from_the_first_run_and_its_number() -> None:
    world = World()
    assert [world.send("CANCEL_LOOP").key for _ in range(3)] == ["first-run-1", "first-run-2", "first-run-3"]
    world.round_trip()
    assert world.send("CANCEL_LOOP").key == "first-run-4"


def test_same_message_twice_under_one_key_is_one_intent_counted_twice() -> None:
    world = World()
    body = '{"by":"ana","note":"ok","idempotencyKey":"k1","expect":{"runId":"R1"}}'
    first = world.send("APPROVE_PENDING", body)
    world.round_trip()
    again = world.send("APPROVE_PENDING", body.replace("}}", '},"notAfter":"2026-11-23T00:00:00Z"}'))
    assert again.sequence == first.sequence
    assert [(record.key, record.received) for record in world.state.intents] == [("k1", 2)]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("REJECT_PENDING", {}),
        ("APPROVE_PENDING", {"by": "bo"}),
        ("APPROVE_PENDING", {"note": "another"}),
        ("APPROVE_PENDING", {"expect": {"runId": "R2"}}),
        ("APPROVE_PENDING", {"expect": None}),
    ],
)
def test_key_used_for_another_message_is_rejected_and_keeps_its_first_owner(name: str, change: dict[str, Any]) -> None:
    world = World()
    body: dict[str, Any] = {"by": "ana", "note": "ok", "idempotencyKey": "k1", "expect": {"runId": "R1"}}
    first = world.send("APPROVE_PENDING", json.dumps(body))
    second = world.send(name, json.dumps({**body, **change}))
    assert second.stage is IntentStage.REJECTED
    assert second.reason == "its idempotency key was used before, for another APPROVE_PENDING by ana."
    assert (first.key, second.key) == ("k1", "k1#2")
    assert first.stage is IntentStage.RECEIVED
    assert first.received == 1


@pytest.mark.parametrize("stage", [IntentStage.REJECTED, IntentStage.EXPIRED])
def test_key_of_an_intent_that_did_nothing_may_be_tried_again(stage: IntentStage) -> None:
    world = waiting()
    body = '{"by":"ana","idempotencyKey":"k1"}'
    first = world.send("APPROVE_PENDING", body)
    records.refuse(first, world.now, "no approval is pending.", stage)
    second = world.send("APPROVE_PENDING", body)
    assert (second.stage, second.key) == (IntentStage.RECEIVED, "k1")
    assert first.key == "k1#1"
    assert world.judge(second).refusal is None


@pytest.mark.parametrize("end", ["confirmed", "failed_command", "ambiguous", "executed_unconfirmed"])
def test_key_of_an_intent_that_did_or_may_have_done_something_is_not_tried_again(end: str) -> None:
    world = World()
    body = '{"by":"ana","idempotencyKey":"k1"}'
    first = world.send("CANCEL_LOOP", body)
    records.reach(first, IntentStage(end), world.now, "")
    assert world.send("CANCEL_LOOP", body) is first
    assert first.received == 2


def test_malformed_message_does_not_take_a_key_away() -> None:
    world = World()
    first = world.send("CANCEL_LOOP", '{"by":"ana","idempotencyKey":"k1"}')
    refused = world.send("CANCEL_LOOP", '{"by":"ana","idempotencyKey":"k1","nope":1}')
    assert (first.key, refused.key) == ("k1", "first-run-2")


def test_message_that_never_reached_its_handler_is_recorded_too() -> None:
    world = World()
    record = messages.reject_unreadable(
        world.state, "APPROVE_PENDING", "no arguments were sent\x1b[31m", now=world.now, first_run_id="first-run"
    )
    assert world.state.intents == [record]
    assert record.stage is IntentStage.REJECTED
    assert record.sentence == "Nothing done: no arguments were sent?[31m"
    assert world.send("APPROVE_PENDING").key == "first-run-2"


# The queue and the memory.


def test_cancel_goes_before_what_is_queued_then_by_arrival() -> None:
    world = World()
    for name in ("APPROVE_PENDING", "REJECT_PENDING", "CANCEL_LOOP", "APPROVE_PENDING", "CANCEL_LOOP"):
        world.send(name)
    assert [record.sequence for record in world.state.queue()] == [3, 5, 1, 2, 4]


def test_queue_is_bounded_per_intent_so_that_a_flood_keeps_no_cancel_out() -> None:
    world = World()
    for _ in range(200):
        world.send("APPROVE_PENDING", json.dumps({"by": "ana", "note": "ü" * MAX_NOTE_CHARS}))
    assert len(world.state.queue()) == messages.MAX_QUEUED
    assert world.state.intents[-1].reason == (
        f"{messages.MAX_QUEUED} APPROVE_PENDING are queued already and nothing could be done about them yet."
    )
    assert world.send("CANCEL_LOOP").stage is IntentStage.RECEIVED
    assert len(world.state.model_dump_json()) < 1_000_000


@pytest.mark.parametrize(("name", "body"), [("CANCEL_LOOP", EXAMPLE), ("APPROVE_PENDING", "{}"), ("APROVE", EXAMPLE)])
def test_message_that_finds_every_queue_full_is_recorded_with_its_reason(name: str, body: str) -> None:
    world = World()
    for intent in Intent.__members__:
        for _ in range(messages.MAX_QUEUED):
            world.send(intent)
    record = world.send(name, body)
    assert record.stage is IntentStage.REJECTED
    assert world.state.intents[-1] is record
    unreadable = messages.reject_unreadable(world.state, name, "no arguments", now=world.now, first_run_id="first-run")
    assert world.state.intents[-1] is unreadable
    assert len(world.state.queue()) == 3 * messages.MAX_QUEUED


def test_repetition_of_a_key_that_is_queued_is_counted_however_full_the_queue_is() -> None:
    world = World()
    body = '{"by":"ana","idempotencyKey":"k1"}'
    first = world.send("CANCEL_LOOP", body)
    for _ in range(messages.MAX_QUEUED - 1):
        world.send("CANCEL_LOOP")
    assert world.send("CANCEL_LOOP", body) is first
    assert (first.stage, first.received, first.key) == (IntentStage.RECEIVED, 2, "k1")
    other = world.send("CANCEL_LOOP", '{"by":"bo","idempotencyKey":"k1"}')
    assert other.reason == "its idempotency key was used before, for another CANCEL_LOOP by ana."


def test_key_is_remembered_longer_than_its_record() -> None:
    world = World()
    used = world.send("CANCEL_LOOP", '{"by":"ana","idempotencyKey":"used"}')
    records.reach(used, IntentStage.CONFIRMED, world.now, "seen")
    free = world.send("CANCEL_LOOP", '{"by":"ana","idempotencyKey":"free"}')
    records.refuse(free, world.now, "nothing to cancel.")
    for _ in range(MAX_INTENTS):
        records.refuse(world.send("CANCEL_LOOP"), world.now, "nothing to cancel.")
    assert not {"used", "free"} & {record.key for record in world.state.intents}
    again = world.send("CANCEL_LOOP", '{"by":"ana","idempotencyKey":"used"}')
    assert again.stage is IntentStage.REJECTED
    assert again.reason.startswith("its idempotency key was used before, for CANCEL_LOOP by ana at ")
    assert again.reason.endswith("which ended as confirmed. Use another key.")
    assert world.send("CANCEL_LOOP", '{"by":"ana","idempotencyKey":"free"}').stage is IntentStage.RECEIVED
    world.now += KEY_AGE
    assert world.send("CANCEL_LOOP", '{"by":"ana","idempotencyKey":"used"}').stage is IntentStage.RECEIVED


def test_memory_of_keys_is_bounded() -> None:
    world = World()
    for number in range(MAX_INTENTS + MAX_USED_KEYS + 10):
        record = world.send("CANCEL_LOOP", json.dumps({"by": "ana", "idempotencyKey": f"k{number}"}))
        records.reach(record, IntentStage.CONFIRMED, world.now, "seen")
    assert [used.key for used in world.state.used_keys] == [f"k{n}" for n in range(10, MAX_USED_KEYS + 10)]
    carried = SupervisorState.model_validate(world.state.model_dump(mode="json"))
    assert carried.used_keys == world.state.used_keys


def test_key_that_is_tried_again_while_the_queue_is_full_stays_with_its_first_record() -> None:
    world = World()
    body = '{"by":"ana","idempotencyKey":"k1"}'
    first = world.send("CANCEL_LOOP", body)
    records.refuse(first, world.now, "nothing to cancel.")
    for _ in range(messages.MAX_QUEUED):
        world.send("CANCEL_LOOP")
    again = world.send("CANCEL_LOOP", body)
    assert (again.stage, again.key, first.key) == (IntentStage.REJECTED, f"k1#{again.sequence}", "k1")


def test_heap_of_rejections_pushes_out_neither_open_nor_awaited_intents() -> None:
    world = waiting()
    approve = world.order(Intent.APPROVE_PENDING)
    world.outcome(approve)
    world.decide("approved", iteration=2)
    world.look()
    waiting_for_its_turn = world.send("CANCEL_LOOP")
    for _ in range(3 * MAX_INTENTS):
        world.send("APROVE_PENDING")
    kept = world.state.intents
    assert len(kept) == MAX_INTENTS
    assert approve in kept
    assert waiting_for_its_turn in kept
    assert kept[-1].sequence == world.state.messages


def test_accepted_intents_are_forgotten_oldest_first() -> None:
    world = running()
    for number in range(MAX_INTENTS + 5):
        record = world.send("CANCEL_LOOP", json.dumps({"by": "ana", "idempotencyKey": f"k{number}"}))
        records.reach(record, IntentStage.CONFIRMED, world.now, "")
    assert [record.key for record in world.state.intents] == [f"k{n}" for n in range(5, MAX_INTENTS + 5)]
