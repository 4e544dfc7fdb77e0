import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.chainwalk import Batch, walk
from contract.envelopes import EventsPage
from contract.errors import EnvelopeInvalid
from contract.observation import CursorPosition
from tests.activities.support import chain_of, event_line
from tests.base_envelopes import event

BAD_H = "ab" * 32


def log(count: int) -> list[str]:
    return [event_line(f"event_{n}", n, iteration=n, data={"n": n, "x": 1.5, "ü": "é"}) for n in range(1, count + 1)]


def page_of(
    lines: list[str], after: int, up_to: int, *, chain: bool = True, left_out: frozenset[int] = frozenset()
) -> dict[str, Any]:
    numbers = [number for number in range(after + 1, up_to + 1) if number not in left_out]
    envelopes = [event(Path("/r"), "demo", json.loads(lines[n - 1]), n, len(lines), None) for n in numbers]
    cursor: dict[str, Any] = {"eventLineOffset": up_to, "eventLineCount": len(lines)}
    if chain:
        cursor["chain"] = chain_of("".join(lines[:up_to]).encode())
    source = {"repoPath": "/r", "loopId": "demo"}
    return {"ok": True, "schemaVersion": "v1", "source": source, "events": envelopes, "cursor": cursor}


def read(body: dict[str, Any], after: int = 0) -> EventsPage:
    return EventsPage.read(body, loop_id="demo", after_line=after)


def batch(*, max_events: int = 1_000, max_bytes: int = 1_000_000, cursor: CursorPosition | None = None) -> Batch:
    return Batch(cursor or CursorPosition(epoch=3), max_events, max_bytes)


def test_a_page_is_continued_to_the_chain_an_independent_reader_computes() -> None:
    lines = log(5)
    taken = batch()
    taken.add(read(page_of(lines, 0, 5)))
    assert [digest.line for digest in taken.events] == [1, 2, 3, 4, 5]
    whole = chain_of("".join(lines).encode())
    assert taken.cursor == CursorPosition(epoch=3, line=5, chain=whole, h=taken.events[-1].h)


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=12), max_bytes=st.integers(1, 3_000))
def test_pages_and_batches_of_any_size_end_at_the_same_chain(sizes: list[int], max_bytes: int) -> None:
    lines = log(sum(sizes))
    position, seen, page_ends = CursorPosition(), [], iter(_ends(sizes))
    end = next(page_ends)
    while position.line < len(lines):
        while end <= position.line:
            end = next(page_ends)
        taken = batch(max_bytes=max_bytes, cursor=position)
        taken.add(read(page_of(lines, position.line, end, chain=len(sizes) % 2 == 0), position.line))
        assert taken.cursor.line > position.line
        seen += [digest.line for digest in taken.events]
        position = taken.cursor
    assert seen == list(range(1, len(lines) + 1))
    assert position.chain == chain_of("".join(lines).encode())


def _ends(sizes: list[int]) -> list[int]:
    return [sum(sizes[: index + 1]) for index in range(len(sizes))]


def test_a_batch_is_full_by_number_and_goes_on_where_it_stopped() -> None:
    lines = log(10)
    first = batch(max_events=4)
    first.add(read(page_of(lines, 0, 10)))
    assert (len(first.events), first.full, first.cursor.line) == (4, True, 4)
    second = batch(cursor=first.cursor)
    second.add(read(page_of(lines, 4, 10), 4))
    assert second.cursor.chain == chain_of("".join(lines).encode())


def test_the_cursor_knows_the_line_it_stands_at_by_its_hash_wherever_a_batch_is_cut() -> None:
    lines = log(5)
    cut = batch(max_events=2)
    cut.add(read(page_of(lines, 0, 5)))
    assert cut.cursor.h == cut.events[-1].h
    nothing_new = walk(cut.cursor, read({**page_of(lines, 2, 2), "events": []}, 2))
    assert nothing_new.end.h == cut.cursor.h


def test_the_cursor_knows_no_hash_of_a_line_that_is_no_event_or_was_not_shown() -> None:
    bad = {"line": 3, "reason": "not JSON", "h": BAD_H}
    for quarantined in ([bad], []):
        body = {**page_of(log(3), 0, 3, chain=False, left_out=frozenset({3})), "quarantined": quarantined}
        taken = batch()
        taken.add(read(body))
        assert (taken.cursor.line, taken.cursor.h) == (3, None)


def test_an_altered_event_is_an_invalid_page_where_a_chain_is_shown() -> None:
    body = page_of(log(3), 0, 3)
    body["events"][1]["event"]["raw"]["iteration"] = 99
    with pytest.raises(EnvelopeInvalid, match="its lines give chain"):
        batch().add(read(body))


def test_a_dropped_event_is_an_invalid_page_where_a_chain_is_shown() -> None:
    body = page_of(log(3), 0, 3, left_out=frozenset({2}))
    taken = batch()
    with pytest.raises(EnvelopeInvalid, match="line 2 is left out"):
        taken.add(read(body))
    assert taken.events == []


def test_a_dropped_event_is_invalid_too_where_our_own_chain_was_lost_before() -> None:
    body = page_of(log(5), 2, 5, left_out=frozenset({4}))
    with pytest.raises(EnvelopeInvalid, match="line 4 is left out"):
        walk(CursorPosition(line=2, chain=None), read(body, 2))


def test_a_line_that_a_foreign_service_cannot_show_makes_the_chain_unverifiable_from_there() -> None:
    taken = batch()
    taken.add(read(page_of(log(5), 0, 5, chain=False, left_out=frozenset({3}))))
    assert [digest.line for digest in taken.events] == [1, 2, 4, 5]
    assert (taken.cursor.line, taken.cursor.chain, taken.unverifiable_from) == (5, None, 3)


def test_a_bad_last_line_of_a_foreign_service_is_consumed() -> None:
    taken = batch()
    taken.add(read(page_of(log(5), 0, 5, chain=False, left_out=frozenset({5}))))
    assert (taken.cursor.line, taken.cursor.chain, taken.unverifiable_from) == (5, None, 5)


def test_unverifiable_is_told_once_only() -> None:
    walked = walk(CursorPosition(line=5, chain=None), read(page_of(log(8), 5, 8, chain=False), 5))
    assert (walked.unverifiable_from, walked.end.chain) == (None, None)


@pytest.mark.parametrize("after", [3, 5])
def test_a_chain_that_was_lost_is_taken_up_again_from_a_service_that_shows_its_own(after: int) -> None:
    lines = log(5)
    walked = walk(CursorPosition(line=after, chain=None), read(page_of(lines, after, 5), after))
    assert (walked.end.chain, walked.unverifiable_from) == (chain_of("".join(lines).encode()), None)


@pytest.mark.parametrize("shown", ["ab" * 31, "zz" * 32, "AB" * 32, 7, ""])
def test_what_is_no_chain_is_never_taken_for_one(shown: Any) -> None:
    body = page_of(log(5), 3, 5)
    body["cursor"]["chain"] = shown
    assert walk(CursorPosition(line=3, chain=None), read(body, 3)).end.chain is None


def test_a_cut_before_the_gap_does_not_tell_of_it_yet() -> None:
    taken = batch(max_events=2)
    taken.add(read(page_of(log(5), 0, 5, chain=False, left_out=frozenset({4}))))
    assert taken.cursor.line == 2
    assert taken.cursor.chain is not None
    assert taken.unverifiable_from is None


def test_a_quarantined_line_counts_by_its_hash() -> None:
    lines = log(3)
    body = page_of(lines, 0, 3, chain=False, left_out=frozenset({2}))
    body["quarantined"] = [{"line": 2, "reason": "not JSON", "h": BAD_H}]
    taken = batch()
    taken.add(read(body))
    assert [(bad.line, bad.reason, bad.h) for bad in taken.quarantined] == [(2, "not JSON", BAD_H[:16])]
    assert taken.unverifiable_from is None
    assert taken.cursor.chain is not None


@pytest.mark.parametrize(
    ("shown", "raw"),
    [
        ({"timestamp": None}, {"event": "role_start"}),
        ({"name": None}, {"timestamp": "2026-11-22T03:00:00Z"}),
        ({"name": 5}, {"event": 5, "timestamp": "2026-11-22T03:00:00Z"}),
        ({"timestamp": 17}, {"event": "role_start", "timestamp": 17}),
        ({"name": None, "timestamp": None, "raw": 42}, 42),
    ],
)
def test_a_line_of_a_foreign_service_that_is_no_event_is_quarantined_without_hash_and_delays_no_other_d4(
    shown: dict[str, Any], raw: Any
) -> None:
    body = page_of(log(3), 0, 3, chain=False)
    body["events"][1]["event"].update({"raw": raw, **shown})
    taken = batch()
    taken.add(read(body))
    assert [bad.line for bad in taken.quarantined] == [2]
    assert [event.line for event in taken.events] == [1, 3]
    assert taken.unverifiable_from == 2


def test_a_line_that_is_named_by_type_because_its_event_is_empty_is_an_event_whatever_a_foreign_service_calls_it() -> (
    None
):
    body = page_of(log(1), 0, 1, chain=False)
    raw = {**body["events"][0]["event"]["raw"], "event": "", "type": "role_start", "iteration": "two", "status": {}}
    body["events"][0]["event"].update({"raw": raw, "name": "", "status": {}})
    body["events"][0]["run"]["iteration"] = "two"
    taken = batch()
    taken.add(read(body))
    assert [(event.name, event.iteration, event.status) for event in taken.events] == [("role_start", 0, None)]
    assert taken.unverifiable_from is None


def _change(**fields: Any) -> Any:
    return lambda body: body.update(fields)


def _cursor(**fields: Any) -> Any:
    return lambda body: body["cursor"].update(fields)


def _first_event(path: str, value: Any) -> Any:
    def change(body: dict[str, Any]) -> None:
        part, name = path.split(".")
        body["events"][0][part][name] = value

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_cursor(eventLineOffset=9, eventLineCount=3), "beyond the 3 lines"),
        (_change(quarantined=[{"line": 2, "reason": "x", "h": BAD_H}]), "line 2 twice"),
        (_change(quarantined=[{"line": 9, "reason": "x", "h": BAD_H}]), "line 9 lies outside"),
        (_change(quarantined=[{"line": 4, "reason": "x", "h": "beef"}]), "lies outside"),
        (_first_event("sequence.value", 2), "sequence 2 at line 1"),
        (_first_event("event.name", "other"), "its raw line is not"),
        (_first_event("event.timestamp", "other"), "its raw line is not"),
        (_cursor(chain="00" * 32), "it shows"),
    ],
)
def test_a_page_that_contradicts_itself_is_refused(change: Any, complaint: str) -> None:
    body = deepcopy(page_of(log(3), 0, 3))
    change(body)
    with pytest.raises(EnvelopeInvalid, match=complaint):
        batch().add(read(body))


def test_a_hash_that_is_none_is_refused() -> None:
    body = page_of(log(3), 0, 3, chain=False, left_out=frozenset({2}))
    body["quarantined"] = [{"line": 2, "reason": "x", "h": "beef"}]
    with pytest.raises(EnvelopeInvalid, match="no SHA-256"):
        batch().add(read(body))
