"""Intents, control, errors, secrets and times: the small words of the contract."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel

from contract.clock import age_seconds, format_utc, parse_utc
from contract.control import DEFAULT_REQUESTER, ControlRequest, ControlStatus, http_status
from contract.errors import (
    HTTP_STATUS,
    ErrorBody,
    ErrorCode,
    IdentifierInvalid,
    IntentInvalid,
    SecretReferenceInvalid,
    error_body,
)
from contract.intents import Intent
from contract.observation import CursorPosition, Observation, SnapshotDigest, Target
from contract.secrets import check_secret_reference
from contract.status import Attention, IntentRecord, Lifecycle
from contract.supervision import SupervisorStart


@pytest.mark.parametrize(
    ("name", "wire"), [("CANCEL_LOOP", "cancel"), ("APPROVE_PENDING", "approve"), ("REJECT_PENDING", "reject")]
)
def test_intent_is_read_by_its_name_and_by_its_wire_value(name: str, wire: str) -> None:
    assert Intent.parse(name) is Intent.parse(wire) is Intent(name)
    assert Intent(name).wire == wire


@pytest.mark.parametrize("text", ["Cancel", "CANCEL", "", None, 7, {}, ["cancel"], "approve_pending"])
def test_anything_else_is_no_intent(text: object) -> None:
    with pytest.raises(IntentInvalid, match=r"^intent must be cancel, approve, or reject$"):
        Intent.parse(text)


# Control requests, in the order in which peers check them.


def test_smallest_control_request_has_the_defaults_of_the_base_contract() -> None:
    request = ControlRequest.read({"loopId": "demo", "intent": "approve"})
    assert (request.loop_id, request.intent, request.by, request.no_confirm) == (
        "demo",
        Intent.APPROVE_PENDING,
        DEFAULT_REQUESTER,
        False,
    )


def test_explicit_nulls_count_as_left_out() -> None:
    body = dict.fromkeys(("by", "note", "idempotencyKey", "traceId", "expect"))
    request = ControlRequest.read({"loopId": "demo", "intent": "CANCEL_LOOP", **body})
    assert (request.by, request.note, request.no_confirm) == (DEFAULT_REQUESTER, None, False)


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (None, IdentifierInvalid, "loopId is required"),
        ([], IntentInvalid, "request body must be an object"),
        ("x", IntentInvalid, "request body must be an object"),
        ({}, IdentifierInvalid, "loopId is required"),
        ({"intent": "bogus"}, IdentifierInvalid, "loopId is required"),
        ({"loopId": "../x", "intent": "cancel"}, IdentifierInvalid, "must not contain a slash"),
        ({"loopId": "demo"}, IntentInvalid, "intent must be cancel, approve, or reject"),
        ({"loopId": "demo", "intent": "bogus", "nope": 1}, IntentInvalid, "intent must be cancel"),
        (
            {"loopId": "demo", "intent": "cancel", "noConfirm": "true"},
            IntentInvalid,
            "noConfirm should be a valid boolean",
        ),
        ({"loopId": "demo", "intent": "cancel", "noConfirm": 1}, IntentInvalid, "noConfirm should be a valid boolean"),
        (
            {"loopId": "demo", "intent": "cancel", "noConfirm": None},
            IntentInvalid,
            "noConfirm should be a valid boolean",
        ),
        (
            {"loopId": "demo", "intent": "approve", "expect": {"iteration": 3, "runId": None}},
            IntentInvalid,
            "expect.runId must not be null: leave out what is not expected",
        ),
        ({"loopId": "demo", "intent": "cancel", "noConfrm": True}, IntentInvalid, "did you mean 'noConfirm'?"),
        ({"loopId": "demo", "intent": "approve", "expect": {"runid": "R"}}, IntentInvalid, "did you mean 'runId'?"),
        ({"loopId": "demo", "intent": "approve", "expected": {}}, IntentInvalid, "did you mean 'expect'?"),
        ({"loopId": "demo", "intent": "approve", "by": ""}, IntentInvalid, "by must name who asks"),
        ({"loopId": "demo", "intent": "approve", "idempotencyKey": "k" * 201}, IntentInvalid, "idempotencyKey must be"),
    ],
)
def test_control_request_that_is_none_is_refused_with_one_clear_reason(
    body: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as raised:
        ControlRequest.read(body)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("status", "code"), [("confirmed", 200), ("executed_unconfirmed", 200), ("ambiguous", 409), ("failed_command", 500)]
)
def test_http_status_goes_with_the_result(status: str, code: int) -> None:
    assert http_status(ControlStatus(status)) == code


# Errors.


def test_every_error_code_has_its_status_and_its_exact_body() -> None:
    assert set(HTTP_STATUS) == set(ErrorCode)
    for code in ErrorCode:
        body = error_body(code, "what was wrong", current={"line": 7})
        assert body == {"ok": False, "error": {"code": code.value, "message": "what was wrong", "current": {"line": 7}}}
        read = ErrorBody.model_validate(body)
        assert (read.ok, read.error.code, read.error.message) == (False, code.value, "what was wrong")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("unauthorized", 401),
        ("invalid_request", 400),
        ("invalid_json", 400),
        ("not_found", 404),
        ("runtime_error", 502),
        ("loop_not_found", 404),
        ("not_ready", 503),
        ("cursor_ahead", 409),
        ("events_rewritten", 409),
        ("in_flight", 409),
        ("precondition_failed", 412),
        ("nothing_to_cancel", 412),
        ("other_loop_active", 412),
        ("key_reused", 422),
    ],
)
def test_error_codes_are_those_of_the_contract(code: str, status: int) -> None:
    assert HTTP_STATUS[ErrorCode(code)] == status


# Secrets (D22).


@pytest.mark.parametrize("reference", ["env:TOKEN", "env:_x9", "file:/run/secrets/token", "file:token file"])
def test_reference_to_a_secret_is_taken(reference: str) -> None:
    assert check_secret_reference(reference) == reference
    assert Target(sprite="a", loop_id="b", token=reference).token == reference


@pytest.mark.parametrize(
    "given", ["s3cr3t-t0ken", "env:", "env:9", "env:A B", "file:", "ENV:X", "", "Bearer s3cr3t-t0ken"]
)
def test_secret_given_instead_of_its_reference_is_refused_and_never_repeated(given: str) -> None:
    with pytest.raises(SecretReferenceInvalid) as raised:
        check_secret_reference(given)
    assert "s3cr3t" not in str(raised.value)
    with pytest.raises(ValueError, match="named by reference") as validation:
        Target(sprite="a", loop_id="b", token=given)
    assert "s3cr3t" not in str(validation.value)


# Times.


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T03:12:07Z", datetime(2026, 11, 22, 3, 12, 7, tzinfo=UTC)),
        ("2026-11-22T04:12:07+01:00", datetime(2026, 11, 22, 3, 12, 7, tzinfo=UTC)),
        ("2026-11-22T03:12:07.250Z", datetime(2026, 11, 22, 3, 12, 7, 250_000, tzinfo=UTC)),
        ("2026-11-22T03:12:07", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (7, None),
        ("0001-01-01T00:00:00+05:00", None),
        ("9999-12-31T23:59:59-05:00", None),
    ],
)
def test_time_of_an_artifact_is_read_or_names_no_instant(text: Any, moment: datetime | None) -> None:
    assert parse_utc(text) == moment


def test_time_is_written_in_utc_with_seconds_and_never_without_a_zone() -> None:
    berlin = timezone(timedelta(hours=1))
    assert format_utc(datetime(2026, 11, 22, 4, 12, 7, 999_999, tzinfo=berlin)) == "2026-11-22T03:12:07Z"
    with pytest.raises(ValueError, match="no time zone"):
        format_utc(datetime(2026, 11, 22))  # noqa: DTZ001 - that it has none is the point


def test_age_is_of_one_clock_and_never_negative() -> None:
    assert age_seconds("2026-11-22T03:12:07Z", "2026-11-22T03:11:37Z") == 30.0
    assert age_seconds("2026-11-22T03:11:37Z", "2026-11-22T03:12:07Z") == 0.0
    assert age_seconds("2026-11-22T03:11:37Z", "yesterday") is None
    assert age_seconds(None, "2026-11-22T03:12:07Z") is None


# Old histories stay readable: a newer writer's fields are ignored, an older writer's are defaulted.

MOMENT = "2026-11-22T03:12:07Z"
SMALLEST: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (
        Observation,
        {"observer": 1, "transport": "local", "contact": "ok", "contact_at": MOMENT, "digest": "d", "cursor": {}},
    ),
    (SnapshotDigest, {"emitted_at": MOMENT, "status": "running"}),
    (CursorPosition, {}),
    (SupervisorStart, {"target": {"sprite": "acme", "loop_id": "demo"}}),
    (IntentRecord, {"sequence": 1, "intent": "CANCEL_LOOP", "key": "k", "received_at": MOMENT}),
]


@pytest.mark.parametrize(("model", "smallest"), SMALLEST, ids=[model.__name__ for model, _ in SMALLEST])
def test_models_of_history_read_older_and_newer_writers(model: type[BaseModel], smallest: dict[str, Any]) -> None:
    read = model.model_validate_json(json.dumps({**smallest, "field_of_a_later_version": 1}))
    assert model.model_validate_json(read.model_dump_json()) == read


def test_lifecycles_and_reasons_for_attention_are_the_words_of_the_architecture() -> None:
    assert [lifecycle.value for lifecycle in Lifecycle] == [
        "not_started",
        "starting",
        "running",
        "awaiting_approval",
        "decided",
        "complete",
        "stopped",
        "failed",
        "unknown",
    ]
    assert {"approved_not_resumed", "crashed", "diverged", "blind", "unauthorized", "ambiguous"} <= {
        attention.value for attention in Attention
    }
