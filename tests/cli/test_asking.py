"""What an operator is shown, and that what is sent is bound to exactly that."""

from datetime import timedelta

import pytest

from cli.asking import NOT_AFTER, expectation, headline, message, request_card
from cli.control import default_timeout_s
from cli.follow import ENDED, reached, record_of
from cli.terminal import text_of
from contract.divergence import DivergenceReport
from contract.errors import IntentInvalid
from contract.intents import Expect, Intent
from contract.status import IntentStage, Lifecycle, ProcessReport, StatusReport
from tests.cli.reports import NOW, RUN, SHA, record, report, row, waiting

APPROVE, CANCEL = Intent.APPROVE_PENDING, Intent.CANCEL_LOOP


def card(intent: Intent, shown: StatusReport) -> str:
    return text_of(request_card(intent, shown, NOW), width=80, coloured=False)


def test_decision_is_bound_to_the_request_that_was_shown() -> None:
    assert expectation(APPROVE, waiting(), row()) == Expect(
        sprite_id="sprite-1", run_id=RUN, iteration=2, approval_sha256=SHA
    )


def test_decision_without_a_request_in_sight_is_bound_to_the_run_that_is() -> None:
    assert expectation(APPROVE, report(), row()) == Expect(sprite_id="sprite-1", run_id=RUN)


def test_cancel_is_bound_to_the_run_and_not_to_a_request() -> None:
    assert expectation(CANCEL, waiting(), row()) == Expect(sprite_id="sprite-1", run_id=RUN)


def test_loop_nobody_has_seen_is_bound_to_nothing_that_would_be_invented() -> None:
    assert expectation(APPROVE, None, row()) is None
    unseen = report(Lifecycle.UNKNOWN, sprite_id=None, run_id=None)
    assert expectation(CANCEL, unseen, row()) is None


def test_message_carries_a_fresh_key_and_ends_in_a_minute() -> None:
    first = message("ana", "fine", None, None, NOW)
    second = message("ana", "fine", None, None, NOW)
    assert first.idempotency_key != second.idempotency_key
    assert first.not_after == NOW + NOT_AFTER == NOW + timedelta(seconds=60)
    assert (first.by, first.note, first.expect) == ("ana", "fine", None)
    assert message("ana", None, "mine", None, NOW).idempotency_key == "mine"


@pytest.mark.parametrize(("by", "note", "key"), [(" ", None, None), ("ana", "x" * 5_000, None), ("ana", None, "ü")])
def test_message_that_would_be_rejected_is_not_made(by: str, note: str | None, key: str | None) -> None:
    with pytest.raises(IntentInvalid):
        message(by, note, key, None, NOW)


def test_card_shows_run_iteration_age_gates_and_promise() -> None:
    lines = [line.split(maxsplit=1) for line in card(APPROVE, waiting()).splitlines()]
    assert ["run", RUN] in lines
    assert ["iteration", "2"] in lines
    assert ["requested", "03:08:07Z"] in lines
    assert ["age", "last event approval_requested, 4 min ago"] in lines
    assert ["gates", "tests ok, lifecycle ok"] in lines
    assert ["promise", "matched"] in lines


def test_card_of_a_cancel_names_the_process_and_a_divergence() -> None:
    shown = report(
        process=ProcessReport(state="alive", pid=77),
        divergence=[DivergenceReport(type="multiple_runs", detail="7 and 8", since=NOW)],
    )
    text = card(CANCEL, shown)
    assert "alive, pid 77" in text
    assert "multiple_runs: 7 and 8" in text


@pytest.mark.parametrize(
    ("intent", "shown", "line"),
    [
        (APPROVE, waiting(), "Approve the pending request of acme/demo"),
        (APPROVE, report(), "Approve acme/demo: NO request is known to be pending"),
        (CANCEL, report(), "Cancel acme/demo: ends its run"),
        (
            CANCEL,
            report(Lifecycle.FAILED, process=ProcessReport(state="dead")),
            "Cancel acme/demo: clears the crashed run, nothing is killed",
        ),
        (CANCEL, report(Lifecycle.COMPLETE), "Cancel acme/demo, which is complete"),
    ],
)
def test_headline_says_what_would_be_done(intent: Intent, shown: StatusReport, line: str) -> None:
    assert headline(intent, shown) == line


def test_record_is_found_by_its_key() -> None:
    mine, other = record(IntentStage.RECEIVED, sequence=2, key="mine"), record(IntentStage.RECORDED, key="other")
    assert record_of([other, mine], "mine", 1) is mine
    assert record_of([other], "mine", 1) is None


def test_key_used_for_something_else_finds_the_refusal_and_not_the_earlier_success() -> None:
    earlier = record(IntentStage.CONFIRMED, sequence=1, key="k")
    refused = record(IntentStage.REJECTED, sequence=4, key="k#4")
    assert record_of([earlier, refused], "k", 3) is refused
    assert record_of([earlier, refused], "k", 4) is earlier, "a refusal of another day is not about this message"


def test_wait_ends_with_the_stage_asked_for_or_with_the_last_there_can_be() -> None:
    ending = {stage for stage in IntentStage if reached(stage, IntentStage.CONFIRMED)}
    assert ending == ENDED
    assert reached(IntentStage.RECORDED, IntentStage.RECORDED)
    assert not reached(IntentStage.EXECUTING, IntentStage.RECORDED)


def test_only_the_consumption_of_an_approval_is_waited_for_without_end() -> None:
    unlimited = [
        (intent, wanted)
        for intent in Intent
        for wanted in (IntentStage.RECORDED, IntentStage.CONFIRMED)
        if default_timeout_s(intent, wanted) is None
    ]
    assert unlimited == [(APPROVE, IntentStage.CONFIRMED), (Intent.REJECT_PENDING, IntentStage.CONFIRMED)]
