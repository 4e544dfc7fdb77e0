"""What an operator sees of a loop, at 80 columns, at 120, and in a pipe."""

import json
from datetime import timedelta

import pytest

from cli.render import (
    absence_sentence,
    last_event_age,
    outcome_words,
    report_json,
    row_json,
    row_report,
    rows_table,
    status_card,
    with_contact,
)
from cli.supervisors import Absence, by_attention
from cli.terminal import clean, text_of
from contract.divergence import DivergenceReport
from contract.observation import ObserveHeartbeat, TransportMode
from contract.status import Attention, IntentStage, Lifecycle, StatusReport, TransportReport
from tests.cli.reports import NOW, RUN, record, report, row, waiting


def card(shown: StatusReport, *, width: int = 10_000, heartbeat: ObserveHeartbeat | None = None) -> str:
    return text_of(status_card(shown, heartbeat, NOW), width=width, coloured=False)


def test_rows_come_in_the_order_of_attention_then_by_name() -> None:
    rows = [row(attention=attention, loop_id=name) for attention in reversed(Attention) for name in ("b", "a")]
    ordered = by_attention(rows)
    assert [found.attention for found in ordered[::2]] == list(Attention)
    assert [found.loop_id for found in ordered[:2]] == ["a", "b"]


@pytest.mark.parametrize("width", [80, 120])
def test_list_of_short_names_fits_the_screen_one_line_a_loop(width: int) -> None:
    rows = [row(attention=Attention.APPROVED_NOT_RESUMED), row("sprite-two", "a-loop", Attention.DIVERGED)]
    lines = text_of(rows_table(rows, NOW, width), width=width, coloured=False).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    assert lines[1].split("  ")[0] == "acme/demo"
    assert "decision not resumed" in lines[1]
    assert lines[1].endswith("3 min ago")


def test_list_leaves_out_what_decides_least_where_there_is_no_room() -> None:
    lines = text_of(rows_table([row(attention=Attention.CRASHED)], NOW, 40), width=40, coloured=False).splitlines()
    assert lines[0].split() == ["LOOP", "STATUS", "ATTENTION"]
    assert lines[1].startswith("acme/demo  ")
    assert lines[1].endswith("crashed")


def test_long_name_is_folded_not_cut() -> None:
    long = "l" * 100
    text = text_of(rows_table([row(loop_id=long)], NOW, 80), width=80, coloured=False)
    assert text.count("l") >= 100
    assert max(map(len, text.splitlines())) <= 80


def test_list_in_a_pipe_keeps_each_loop_on_one_line() -> None:
    long = "l" * 128
    lines = text_of(rows_table([row(loop_id=long)], NOW, 10_000), width=10_000, coloured=False).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"acme/{long}")


def test_card_shows_what_an_operator_needs_to_decide() -> None:
    text = card(waiting(gates={"tests": "ok", "lifecycle": "failed"}, promise_matched=True))
    for expected in (
        "acme/demo",
        "awaiting approval: approval_requested since 03:08:07Z",
        "approval waiting since 03:12:07Z: Waiting for approval.",
        f"{RUN}, iteration 2 (since line 1)",
        "tests ok, lifecycle failed; promise matched",
        "approval_requested, 4 min ago",
        "03:11:47Z (20 s ago); last contact 03:11:57Z (10 s ago)",
        "sprite service since 02:12:07Z",
        "line 0, epoch 1, chain none, catching up",
        "workflow run workflow-run, history length 42",
    ):
        assert expected in text


@pytest.mark.parametrize("width", [80, 120])
def test_card_wraps_within_the_screen_and_under_its_column(width: int) -> None:
    lines = card(report(reason="word " * 60), width=width).splitlines()
    assert max(map(len, lines)) <= width
    continued = [line for line in lines if line.startswith("  ")]
    assert continued
    assert all(line.startswith(" " * 12) and line[12] != " " for line in continued)


def test_card_of_a_loop_that_nobody_has_seen_yet_says_so() -> None:
    text = card(
        report(Lifecycle.UNKNOWN, run_id=None, iteration=None, observed_at=None, last_contact_at=None, since=None)
    )
    assert "none yet" in text
    assert "never; last contact never" in text


def test_card_shows_divergences_and_the_newest_intents_first() -> None:
    intents = [record(IntentStage.RECORDED, sequence=number, by=f"person-{number}") for number in range(1, 8)]
    diverged = DivergenceReport(type="multiple_runs", detail="pids 7 and 8", since=NOW)
    lines = card(report(intents=intents, divergence=[diverged])).splitlines()
    assert any("multiple_runs since 03:12:07Z: pids 7 and 8" in line for line in lines)
    people = [line.split("by ")[1].split(":")[0] for line in lines if " by person-" in line]
    assert people == ["person-7", "person-6", "person-5", "person-4", "person-3"]


def test_text_of_an_agent_moves_no_cursor_and_is_no_markup() -> None:
    hostile = "[bold red]x[/] \x1b[2J\x1b]0;owned\x07\r\nnext \u202e"
    text = card(report(reason=hostile))
    assert "[bold red]x[/]" in text
    assert not set(text) & set("\x1b\x07\r\u202e")
    assert "\n" not in clean(hostile)


def test_failures_the_observer_counts_are_shown_before_they_change_anything() -> None:
    beat = ObserveHeartbeat(transport_failures=2, failing_since=NOW, last_error="connection refused")
    assert "sprite service since 02:12:07Z; 2 failures since 03:12:07Z: connection refused" in card(
        report(), heartbeat=beat
    )


def test_contact_that_was_no_news_comes_from_the_heartbeat() -> None:
    beat = ObserveHeartbeat(last_contact_at=NOW)
    assert with_contact(report(), beat).last_contact_at == NOW
    older = ObserveHeartbeat(last_contact_at=NOW - timedelta(hours=1))
    assert with_contact(report(), older).last_contact_at == report().last_contact_at
    assert with_contact(report(), None) == report()
    assert with_contact(report(last_contact_at=None), beat).last_contact_at == NOW


def test_age_of_the_last_event_is_the_sprites_advanced_by_the_managers_clock() -> None:
    assert last_event_age(report(last_event_age_s=100.0), NOW) == 120.0
    assert last_event_age(report(last_event_age_s=100.0), NOW - timedelta(hours=1)) == 100.0
    assert last_event_age(report(), NOW) is None


def test_local_only_and_blind_are_told_apart() -> None:
    assert "local (the only one)" in card(report(transport=TransportReport(state="local", local_only=True)))
    pinned = TransportReport(state="local", mode=TransportMode.SPRITE_SERVICE, pinned_by="bo")
    assert "local (pinned to sprite service by bo)" in card(report(transport=pinned))
    assert "blind: nobody serves" in card(report(transport=TransportReport(state="blind", reason="nobody serves")))


def test_outcome_is_not_said_twice() -> None:
    assert outcome_words(IntentStage.RECORDED, "Recorded: ana approved it") == "Recorded: ana approved it"
    assert outcome_words(IntentStage.REJECTED, "Nothing done: too late") == "rejected: Nothing done: too late"
    assert outcome_words(IntentStage.RECEIVED, "") == "received"


def test_json_of_a_status_holds_what_the_contract_of_the_command_promises() -> None:
    body = json.loads(json.dumps(report_json(waiting())))
    for name in (
        "lifecycle", "reason", "since", "observedAt", "lastContactAt", "runId", "iteration", "transport", "divergence",
        "intents", "attention",
    ):  # fmt: skip
        assert name in body
    assert set(body["cursor"]) >= {"eventLineOffset", "epoch", "chain"}
    assert body["asOf"] == {"runId": "workflow-run", "historyLength": 42}
    assert body["noWorker"] is None


def test_json_without_a_worker_has_the_same_fields_and_says_why_they_are_empty() -> None:
    absence = Absence(NOW, "no worker polls its task queue")
    body = json.loads(json.dumps(row_report(row(), absence)))
    missing = set(report_json(report())) - set(body)
    assert not {"lifecycle", "reason", "since", "observedAt", "lastContactAt", "cursor", "intents", "asOf"} & missing
    assert body["source"] == "search_attributes"
    assert body["noWorker"] == {"since": "2026-11-22T03:12:07Z", "detail": "no worker polls its task queue"}
    assert row_json(row(), None)["noWorker"] is None


def test_absence_says_since_when_and_as_of_when() -> None:
    seen = NOW - timedelta(minutes=3)
    assert absence_sentence(Absence(NOW, "no answer"), seen, NOW) == (
        "NO WORKER since 03:12:07Z (no answer), shown as of 03:09:07Z"
    )
    assert "NO WORKER since before 03:07:07Z" in absence_sentence(Absence(None, "no answer"), seen, NOW)
    assert "nothing was ever observed" in absence_sentence(Absence(None, "no answer"), None, NOW)
