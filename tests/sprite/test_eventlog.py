"""What is a line and what is an event: D3, D4, and pages that add up to the whole whatever their size."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sprite import eventlog, loglines
from sprite.errors import ArtifactUnreadable
from sprite.eventlog import PAGE_MAX_EVENTS, EventLog
from tests.sprite.logs import TIME, assert_agrees, event_line, expected_of, log_of, walk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_log_that_is_missing_is_said_to_be(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        EventLog(path).page(0)


def test_log_that_is_empty_has_no_lines(path: Path) -> None:
    path.write_bytes(b"")
    assert_agrees(EventLog(path), b"")


def test_unterminated_last_line_is_invisible_until_terminated_d3(path: Path) -> None:
    path.write_bytes(log_of(2) + event_line(3)[:-1])
    log = EventLog(path)
    assert walk(log).pages[-1].end.line == 2
    assert log.line_count() == 2
    assert log.facts().last_event == {"timestamp": TIME, "event": "role_start", "run_id": TIME, "iteration": 1}

    with path.open("ab") as stream:
        stream.write(b"\n")
    assert_agrees(log, log_of(3))


def test_line_torn_over_several_writes_is_read_whole(path: Path) -> None:
    log = EventLog(path)
    line = event_line(1, message="x" * 10_000)
    for cut in (1, 4096, 8192, len(line) - 1):
        path.write_bytes(line[:cut])
        assert log.page(0).lines == []
    path.write_bytes(line + event_line(2))
    assert_agrees(log, line + event_line(2))


BAD_LINES: dict[str, tuple[bytes, str]] = {
    "torn": (event_line(9)[:40] + b"\n", "not JSON"),
    "garbage": (b"\x00\xff\xfe garbage\n", "not JSON"),
    "null bytes": (b"\0" * 100 + b"\n", "not JSON"),
    "array": (b"[1,2]\n", "not an object but list"),
    "number": (b"7\n", "not an object but int"),
    "nameless": (b'{"timestamp":"2026-11-22T03:12:07Z"}\n', "no event name"),
    "timeless": (b'{"event":"role_start"}\n', "no timestamp"),
    "blank": (b"\n", "empty line"),
    "blank with CR": (b"\r\n", "empty line"),
    "too deep": (b'{"event":"e","timestamp":"t","data":' + b"[" * 5_000 + b"]" * 5_000 + b"}\n", "nested too deeply"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_bad_line_is_quarantined_and_blocks_nothing_d4(kind: str, path: Path) -> None:
    bad, reason = BAD_LINES[kind]
    content = log_of(2) + bad + log_of(2, first=4)
    path.write_bytes(content)
    log = EventLog(path)
    lines = log.page(0).lines
    assert [line.number for line in lines if line.event] == [1, 2, 4, 5]
    assert lines[2].event is None
    assert reason in str(lines[2].reason)
    assert_agrees(log, content)


def test_bad_lines_at_the_end_leave_the_last_event_standing(path: Path) -> None:
    content = event_line(1, event="loop_stop") + BAD_LINES["torn"][0] * 3
    path.write_bytes(content)
    log = EventLog(path)
    assert (log.facts().last_event or {})["event"] == "loop_stop"
    with path.open("ab") as stream:
        stream.write(b"garbage\n" * 20_000)
    assert (log.facts().last_event or {})["event"] == "loop_stop"
    assert log.line_count() == 20_004


@pytest.mark.parametrize(("levels", "is_event"), [(120, True), (130, False)])
@pytest.mark.parametrize("callers", [0, 300])
def test_verdict_on_a_nested_line_does_not_depend_on_who_reads_it(
    levels: int, is_event: bool, callers: int, path: Path
) -> None:
    path.write_bytes(b'{"event":"e","timestamp":"t","data":' + b"[" * levels + b"]" * levels + b"}\n")

    def read(callers: int) -> bool:
        return EventLog(path).page(0).lines[0].event is not None if callers == 0 else read(callers - 1)

    assert read(callers) is is_event


ODD_EVENTS: dict[str, bytes] = {
    "CRLF": event_line(1)[:-1] + b"\r\n",
    "byte that is no UTF-8": b'{"event":"e","timestamp":"t","message":"\xff\xc3"}\n',
    "lone surrogate": b'{"event":"e","timestamp":"t","message":"\\ud800"}\n',
    "huge integer": b'{"event":"e","timestamp":"t","data":' + b"9" * 5_000 + b"}\n",
    "infinite": b'{"event":"e","timestamp":"t","data":1e999}\n',
    "NaN": b'{"event":"e","timestamp":"t","data":NaN}\n',
    "key twice": b'{"event":"a","event":"b","timestamp":"t"}\n',
    "type instead of event": b'{"type":"e","timestamp":"t"}\n',
    "spaces around": b'  {"event":"e","timestamp":"t"}  \n',
}


@pytest.mark.parametrize("kind", ODD_EVENTS)
def test_odd_but_readable_line_is_an_event(kind: str, path: Path) -> None:
    path.write_bytes(ODD_EVENTS[kind])
    log = EventLog(path)
    (line,) = log.page(0).lines
    assert line.event is not None
    assert_agrees(log, ODD_EVENTS[kind])


@pytest.mark.parametrize("length", [1_000_000, 5_000_000])
def test_line_of_megabytes_is_delivered(length: int, path: Path) -> None:
    content = event_line(1) + event_line(2, message="m" * length) + event_line(3)
    path.write_bytes(content)
    log = EventLog(path)
    assert_agrees(log, content)
    assert [len(page.lines) for page in walk(log, max_bytes=1_000).pages] == [1, 1, 1]


@pytest.mark.parametrize("end", [b"", event_line(3)])
@pytest.mark.parametrize("length", [1_001, 64 * 1024, 300_000])
def test_line_too_long_to_hold_is_quarantined_with_the_hash_of_its_bytes(
    length: int, end: bytes, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loglines, "_FIRST_CHUNK", 500)
    monkeypatch.setattr(loglines, "_LARGEST_CHUNK", 2_000)
    path.write_bytes(event_line(1) + b"x" * length + b"\n" + end)
    log = EventLog(path, max_line_bytes=1_000)
    lines = log.page(0).lines
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert lines[1].reason == f"line too long: {length} bytes"
    # The oracle quarantines it as well, for being no JSON: the hash must be the same.
    assert_agrees(log, path.read_bytes())


def test_page_ends_at_wanted_events_and_counts_no_quarantined_line(path: Path) -> None:
    path.write_bytes(log_of(2) + b"bad\n" + log_of(3, first=4))
    page = EventLog(path).page(0, max_events=3)
    assert [line.number for line in page.lines] == [1, 2, 3, 4]
    assert page.end.line == 4
    assert page.line_count == 6


def test_page_holds_at_most_its_limit_of_lines_d20(path: Path) -> None:
    path.write_bytes(b'{"event":"e","timestamp":"t"}\n' * (PAGE_MAX_EVENTS + 10) + b"\n" * (PAGE_MAX_EVENTS + 10))
    sizes = [len(page.lines) for page in walk(EventLog(path), max_events=100_000).pages]
    assert sizes == [PAGE_MAX_EVENTS, PAGE_MAX_EVENTS, 20]


def test_page_asked_for_far_behind_the_known_lines_has_the_right_chain(path: Path) -> None:
    content = log_of(5_000)
    path.write_bytes(content)
    expected = expected_of(content)
    for cursor in (4_999, 5_000, 2_304, 2_305, 1, 0):
        page = EventLog(path).page(cursor, max_events=3)
        assert page.end.chain.hex() == expected.chains[page.end.line]


def test_pipe_in_place_of_the_log_is_refused_at_once(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(ArtifactUnreadable, match="not a regular file"):
        EventLog(path).page(0)


@pytest.mark.parametrize(("cursor", "max_events"), [(-1, 0), (0, -1)])
def test_negative_wish_is_refused(cursor: int, max_events: int, path: Path) -> None:
    path.write_bytes(log_of(1))
    with pytest.raises(ValueError, match="negative"):
        EventLog(path).page(cursor, max_events=max_events)


def test_log_that_grows_while_read_by_several_threads_loses_and_doubles_nothing(path: Path) -> None:
    lines = [event_line(number, message="ü" * (number % 50)) for number in range(1, 1_500)]
    path.write_bytes(b"")
    log = EventLog(path)
    read: list[list[Any]] = []

    def follow() -> None:
        events: list[Any] = []
        cursor, link = 0, None
        while cursor < len(lines):
            page = log.page(cursor, max_events=37, chain_hex=link)
            events += [(line.number, line.event) for line in page.lines]
            cursor, link = page.end.line, page.end.chain.hex()
        read.append(events)

    followers = [threading.Thread(target=follow) for _ in range(3)]
    for follower in followers:
        follower.start()
    with path.open("ab", buffering=0) as stream:
        for line in lines:
            stream.write(line[:100])
            stream.write(line[100:])
    for follower in followers:
        follower.join()
    whole = [(number, json.loads(line)) for number, line in enumerate(lines, start=1)]
    assert read == [whole] * 3


# What JSON writers and readers disagree about: escapes, line separators, astral characters, lone surrogates.
texts = st.text('ab"\\/{\x00\x1f\x7f\u00e9\u2028\uffff\U0001f600\ud800\udc00', max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=5,
)


@st.composite
def event_lines(draw: st.DrawFn) -> bytes:
    event = {"timestamp": TIME, draw(st.sampled_from(["event", "type"])): "e", "data": draw(json_values)}
    event.update(draw(st.dictionaries(texts, json_values, max_size=2)))
    return json.dumps(event, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


garbage_lines = st.binary(max_size=60).map(lambda content: content.replace(b"\n", b""))
torn_lines = event_lines().flatmap(lambda line: st.integers(0, len(line)).map(lambda cut: line[:cut]))
lines_of_any_kind = event_lines() | garbage_lines | torn_lines | st.sampled_from([b"", b"\r", b"{}", b"[]", b"null"])


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    lines=st.lists(lines_of_any_kind, max_size=25),
    unterminated=garbage_lines | torn_lines,
    max_events=st.integers(0, 6),
    max_bytes=st.integers(1, 4_000),
    start=st.integers(0, 25),
    chunk=st.integers(1, 300),
)
def test_pages_of_any_size_add_up_to_the_whole_log(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[bytes],
    unterminated: bytes,
    max_events: int,
    max_bytes: int,
    start: int,
    chunk: int,
) -> None:
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    terminated = b"".join(line + b"\n" for line in lines)
    path.write_bytes(terminated + unterminated)
    expected = expected_of(terminated)
    start = min(start, len(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loglines, "_FIRST_CHUNK", chunk)
        patch.setattr(loglines, "_LARGEST_CHUNK", 2 * chunk)
        patch.setattr(eventlog, "CHECKPOINT_LINES", 4)
        patch.setattr(eventlog, "_SLICE_LINES", 5)
        log = EventLog(path)
        walked = walk(log, start=start, max_events=max_events, max_bytes=max_bytes)
        assert repr(walked.events) == repr(expected.events[start:])  # repr: NaN is not equal to itself
        assert walked.chains == [expected.chains[page.end.line] for page in walked.pages]
        for page in walked.pages:
            assert page.end.offset == sum(len(line) + 1 for line in lines[: page.end.line])
            assert max_events == 0 or sum(line.event is not None for line in page.lines) <= max_events
