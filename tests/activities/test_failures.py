"""What a refused read means: our exact codes, and the recorded words of another implementation."""

from typing import Any

import pytest

from activities.exchange import Answer
from activities.failures import Condition, LogMoved, clipped, read_refusal, trouble_of
from contract.errors import ErrorCode, error_body
from contract.observation import Contact, LogReset
from tests.recordings.unpack import exchanges


def trouble(status: int, body: Any, cursor_line: int | None = None) -> Any:
    refusal = read_refusal(status, body)
    assert refusal is not None
    return trouble_of(refusal, cursor_line=cursor_line)


@pytest.mark.parametrize(
    ("name", "contact"),
    [
        ("08-snapshot-unknown-loop", Contact.LOOP_NOT_FOUND),
        ("23-events-unknown-loop", Contact.LOOP_NOT_FOUND),
        ("09-snapshot-missing-loopid", Contact.RUNTIME_ERROR),
        ("26-unknown-path", Contact.RUNTIME_ERROR),
    ],
)
def test_recorded_refusal_is_a_condition_of_a_living_service(name: str, contact: Contact) -> None:
    recorded = exchanges()[name]["response"]
    found = trouble(recorded["status"], recorded["body"], cursor_line=0)
    assert isinstance(found, Condition)
    assert found.contact is contact


def test_recorded_cursor_beyond_the_end_is_a_moved_log() -> None:
    recorded = exchanges()["22-events-cursor-beyond-end"]["response"]
    found = trouble(recorded["status"], recorded["body"], cursor_line=99)
    assert isinstance(found, LogMoved)
    assert (found.reset.reason, found.reset.at_line, found.reset.line_count) == ("cursor_ahead", 99, 27)


def test_missing_event_log_of_another_implementation_is_not_ready() -> None:
    body = error_body(ErrorCode.RUNTIME_ERROR, "error: required artifact missing: /srv/x/events.jsonl")
    assert trouble(502, body).contact is Contact.NOT_READY


@pytest.mark.parametrize(
    ("code", "contact"),
    [
        (ErrorCode.LOOP_NOT_FOUND, Contact.LOOP_NOT_FOUND),
        (ErrorCode.NOT_FOUND, Contact.LOOP_NOT_FOUND),
        (ErrorCode.NOT_READY, Contact.NOT_READY),
        (ErrorCode.WRONG_SPRITE, Contact.WRONG_SPRITE),
        (ErrorCode.RUNTIME_ERROR, Contact.RUNTIME_ERROR),
        (ErrorCode.INVALID_REQUEST, Contact.RUNTIME_ERROR),
    ],
)
def test_our_codes_name_the_condition(code: ErrorCode, contact: Contact) -> None:
    assert trouble(500, error_body(code, "words")).contact is contact


def test_rewritten_log_carries_the_head_it_has_now() -> None:
    head = {"eventLineOffset": 3, "eventLineCount": 3, "chain": "ab" * 32}
    found = trouble(409, error_body(ErrorCode.EVENTS_REWRITTEN, "another log", cursor=head), cursor_line=27)
    assert found.reset == LogReset(
        reason="events_rewritten", at_line=27, line_count=3, chain="ab" * 32, detail="another log"
    )


def test_sprite_id_of_an_error_is_kept() -> None:
    refusal = read_refusal(404, {**error_body(ErrorCode.NOT_FOUND, "no"), "spriteId": "s-1"})
    assert refusal is not None
    assert refusal.sprite_id == "s-1"


@pytest.mark.parametrize("shown", ["x" * 129, "", "lone \ud800", 7, None, ["s-1"]])
def test_what_cannot_be_a_sprite_id_counts_as_none(shown: Any) -> None:
    body = {**error_body(ErrorCode.NOT_FOUND, "no"), "spriteId": shown}
    refusal = read_refusal(404, body)
    assert refusal is not None
    assert (refusal.sprite_id, Answer(404, body).sprite_id) == (None, None)


def test_a_code_of_any_length_is_kept_short() -> None:
    refusal = read_refusal(404, {"error": {"code": "x" * 1_000_000, "message": "no"}})
    assert refusal is not None
    assert len(refusal.code) <= 80


@pytest.mark.parametrize("body", [None, "bad gateway", {}, {"error": "no"}, {"error": {"code": 1}}, []])
def test_anything_but_the_error_body_is_no_refusal(body: Any) -> None:
    assert read_refusal(502, body) is None


def test_clipped_is_one_printable_line() -> None:
    assert clipped("a\x1b[31m\n b" + "c" * 500, 12) == "a [31m bccc…"
