"""Every recorded answer to a command, every one of ours, and what comes when neither answers: a table of truths."""

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from activities.control_answers import Command, classify
from activities.exchange import Answer
from contract.errors import ErrorCode, error_body
from contract.intents import Intent
from contract.observation import ControlOutcome, ControlOutcomeKind, Transport
from tests.recordings.unpack import exchanges

NOW = datetime(2026, 11, 22, tzinfo=UTC)
EXECUTED, FAILED, REFUSED = (
    ControlOutcomeKind.EXECUTED,
    ControlOutcomeKind.FAILED_COMMAND,
    ControlOutcomeKind.REFUSED,
)
AMBIGUOUS, MAYBE, NOT_SENT = (
    ControlOutcomeKind.AMBIGUOUS,
    ControlOutcomeKind.MAYBE_SENT,
    ControlOutcomeKind.NOT_SENT,
)


def outcome_of(
    status: int, body: Any, *, intent: Intent | None = Intent.APPROVE_PENDING, loop_id: str = "demo"
) -> ControlOutcome:
    command = Command(loop_id, intent, Transport.SPRITE_SERVICE, NOW)
    return classify(command, Answer(status, body, None if body is not None else "not JSON"), NOW)


@pytest.mark.parametrize(
    ("name", "intent", "kind", "code"),
    [
        ("30-control-no-token", Intent.APPROVE_PENDING, REFUSED, "unauthorized"),
        ("31-control-not-json", Intent.APPROVE_PENDING, REFUSED, "invalid_json"),
        ("32-control-json-array", Intent.APPROVE_PENDING, REFUSED, "invalid_request"),
        ("33-control-empty-body", Intent.APPROVE_PENDING, REFUSED, "invalid_request"),
        ("34-control-missing-loopid", Intent.APPROVE_PENDING, REFUSED, "invalid_request"),
        ("35-control-bad-intent", Intent.APPROVE_PENDING, REFUSED, "invalid_request"),
        ("37-control-approve-noconfirm", Intent.APPROVE_PENDING, EXECUTED, None),
        ("38-control-approve-replay", Intent.APPROVE_PENDING, EXECUTED, None),
        ("39-control-replay-other-intent-same-key", Intent.REJECT_PENDING, REFUSED, "key_reused"),
        ("41-control-approve-not-pending", Intent.APPROVE_PENDING, FAILED, None),
        ("42-control-approve-not-pending-replay", Intent.APPROVE_PENDING, FAILED, None),
        ("45-control-reject-confirmed", Intent.REJECT_PENDING, EXECUTED, None),
        ("46-control-cancel-nothing-running", Intent.CANCEL_LOOP, EXECUTED, None),
    ],
)
def test_recorded_answer_is_told_as_what_it_was(
    name: str, intent: Intent, kind: ControlOutcomeKind, code: str | None
) -> None:
    recorded = exchanges()[name]["response"]
    outcome = outcome_of(recorded["status"], recorded["body"], intent=intent)
    assert (outcome.kind, outcome.code) == (kind, code)
    assert outcome.http_status == recorded["status"]


def test_answer_about_a_loop_without_approval_is_a_failed_command_with_its_output() -> None:
    recorded = exchanges()["48-control-approve-no-approval"]["response"]
    outcome = outcome_of(recorded["status"], recorded["body"], loop_id="other")
    assert (outcome.kind, outcome.exit_code) == (FAILED, 1)
    assert outcome.output == "error: no approval request found for loop 'other'"


def test_a_replayed_failure_is_still_a_failure_and_says_that_it_is_replayed() -> None:
    outcome = outcome_of(200, exchanges()["42-control-approve-not-pending-replay"]["response"]["body"])
    assert (outcome.kind, outcome.replayed, outcome.exit_code) == (FAILED, True, 1)


def _result(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = deepcopy(exchanges()["37-control-approve-noconfirm"]["response"]["body"])
    body["result"] |= {key: value for key, value in changes.items() if key not in body}
    return body | {key: value for key, value in changes.items() if key in body}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        # Done but not confirmed: the command ended, so it is not unknown whether it happened.
        (409, _result(status="ambiguous", confirmed=False), EXECUTED),
        # A claim whose result was lost: the sprite itself cannot know.
        (409, _result(status="ambiguous") | {"result": _result()["result"] | {"status": "ambiguous", "exitCode": -1}},
         AMBIGUOUS),
        (409, error_body(ErrorCode.IN_FLIGHT, "being executed"), ControlOutcomeKind.IN_FLIGHT),
        (409, error_body(ErrorCode.RUNTIME_ERROR, "who knows"), AMBIGUOUS),
        (412, error_body(ErrorCode.PRECONDITION_FAILED, "no effect: other run"), REFUSED),
        (412, error_body(ErrorCode.NOTHING_TO_CANCEL, "no effect"), REFUSED),
        (412, error_body(ErrorCode.OTHER_LOOP_ACTIVE, "no effect"), REFUSED),
        (422, error_body(ErrorCode.KEY_REUSED, "no effect"), REFUSED),
        (404, error_body(ErrorCode.LOOP_NOT_FOUND, "no such loop"), REFUSED),
        (413, error_body(ErrorCode.PAYLOAD_TOO_LARGE, "too large"), REFUSED),
        (408, error_body(ErrorCode.REQUEST_TIMEOUT, "nothing was done"), NOT_SENT),
        (503, error_body(ErrorCode.NOT_READY, "no effect: busy"), NOT_SENT),
        (429, None, NOT_SENT),
        (502, error_body(ErrorCode.RUNTIME_ERROR, "no effect: cannot be started"), REFUSED),
        (502, error_body(ErrorCode.RUNTIME_ERROR, "error: required artifact root missing: /x"), REFUSED),
        (502, error_body(ErrorCode.RUNTIME_ERROR, "something broke"), AMBIGUOUS),
        (500, error_body(ErrorCode.RUNTIME_ERROR, "something broke"), AMBIGUOUS),
        (500, None, MAYBE),
        (502, None, MAYBE),
        (503, None, MAYBE),
        (504, None, MAYBE),
        (408, None, MAYBE),
        (302, None, MAYBE),
        (200, None, MAYBE),
        (200, {"hello": "world"}, MAYBE),
        (401, None, REFUSED),
        (403, None, REFUSED),
        (404, None, REFUSED),
        (200, {"ok": True, "exitCode": 0, "replayed": False}, EXECUTED),
        (500, {"ok": False, "exitCode": 4, "stderr": "jq: no", "replayed": False}, FAILED),
        (500, {"ok": False, "exitCode": 0, "replayed": False}, AMBIGUOUS),
    ],
)  # fmt: skip
def test_answer_is_classified(status: int, body: Any, kind: ControlOutcomeKind) -> None:
    """D19: 409, 500, a 502 with the contract's body and 4xx are no transport trouble; 503 and 429 are transient."""
    assert outcome_of(status, body).kind is kind


@pytest.mark.parametrize("status", ["executed_unconfirmed", "ambiguous", "confirmed"])
def test_command_whose_effect_was_found_is_not_said_to_have_exited(status: str) -> None:
    confirm = {"confirmed": False, "reason": "recovered_by_evidence", "recoveredFrom": {"effect": "seen"}}
    outcome = outcome_of(200, _result(status=status, confirm=confirm))

    assert (outcome.kind, outcome.recovered) == (EXECUTED, True)
    assert "exited" not in outcome.message
    assert not outcome_of(200, _result()).recovered


def test_refusal_carries_the_current_values() -> None:
    body = error_body(ErrorCode.PRECONDITION_FAILED, "no effect: other run", current={"runId": "r2"})
    outcome = outcome_of(412, body)
    assert (outcome.code, outcome.current) == ("precondition_failed", {"runId": "r2"})
    assert "no effect" in outcome.message


def test_answer_about_something_else_that_was_not_replayed_is_ambiguous() -> None:
    assert outcome_of(200, _result(), intent=Intent.CANCEL_LOOP).kind is AMBIGUOUS


def test_argv_and_output_are_kept_and_bounded() -> None:
    body = _result()
    body["result"] |= {"argv": ["superloop.sh", "approve"], "commandOutput": "x" * 10_000}
    outcome = outcome_of(200, body)
    assert outcome.argv == ["superloop.sh", "approve"]
    assert len(outcome.output) == 2_000
