"""A log that is truncated, rotated, rewritten or replaced is never taken for the one before, nor mixed with it (D8)."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sprite import eventlog, loglines, logscan
from sprite.errors import CursorAhead, EventsRewritten, LogMismatch
from sprite.eventlog import EventLog, LogPage
from sprite.files import FileIdentity, identity, read_range
from sprite.loglines import classify
from tests.sprite.logs import assert_agrees, event_line, expected_of, log_of, replace_by_rename, walk

LINES = 60
OLD = log_of(LINES)
OTHER = log_of(LINES, run_id="another run")


@pytest.fixture(autouse=True)
def small_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small log has a middle, several chunks and several checkpoints."""
    monkeypatch.setattr(eventlog, "CHECKPOINT_LINES", 16)
    monkeypatch.setattr(logscan, "_EDGE", 512)
    monkeypatch.setattr(logscan, "_CHUNK", 1_000)
    monkeypatch.setattr(loglines, "_FIRST_CHUNK", 1_000)
    monkeypatch.setattr(loglines, "_LARGEST_CHUNK", 1_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(OLD)
    return path


def overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def edit(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(content)


def middle_edited(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + b"#" + content[middle + 1 :]


def rotate(path: Path) -> None:
    path.rename(path.with_suffix(".1"))
    path.write_bytes(OTHER)


CHANGES: dict[str, Callable[[Path], None]] = {
    "truncated": lambda path: os.truncate(path, 1_000),
    "emptied": lambda path: os.truncate(path, 0),
    "rewritten shorter": lambda path: overwrite(path, OTHER[:5_000]),
    "rewritten to the same size": lambda path: overwrite(path, OLD[:-5] + b"9" + OLD[-4:]),
    "truncated and regrown beyond its old size at once": lambda path: overwrite(path, OTHER + OTHER),
    "replaced by a longer one": lambda path: replace_by_rename(path, OTHER + OLD),
    "replaced by a shorter one": lambda path: replace_by_rename(path, OTHER[:5_000]),
    "replaced by one of the same size": lambda path: replace_by_rename(path, middle_edited(OLD)),
    "replaced by a longer one, the same at both ends": lambda path: replace_by_rename(path, middle_edited(OLD) + OTHER),
    "rotated away and begun anew": rotate,
    "edited in the middle, same size": lambda path: edit(path, len(OLD) // 2, b"#"),
    "first line edited while it grew": lambda path: overwrite(path, b"#" + OLD[1:] + OTHER),
}


@pytest.mark.parametrize("known_lines", [1, 50, LINES])
@pytest.mark.parametrize("change", CHANGES)
def test_log_that_was_changed_is_noticed_at_the_next_poll_d8(change: str, known_lines: int, path: Path) -> None:
    log = EventLog(path)
    chain_hex = log.page(0, max_events=known_lines).end.chain.hex()
    walk(log)
    old = expected_of(path.read_bytes())

    CHANGES[change](path)

    content = path.read_bytes()
    new = expected_of(content)
    if known_lines > len(new.events):
        with pytest.raises(CursorAhead) as caught:
            log.page(known_lines, chain_hex=chain_hex)
        assert caught.value.fields["cursor"] == {
            "eventLineOffset": len(new.events),
            "eventLineCount": len(new.events),
            "chain": new.chains[-1],
            "byteOffset": content.rfind(b"\n") + 1,
        }
    elif new.chains[known_lines] != old.chains[known_lines]:
        with pytest.raises(EventsRewritten) as rewritten:
            log.page(known_lines, chain_hex=chain_hex)
        assert rewritten.value.fields["cursor"]["chain"] == new.chains[-1]
        assert rewritten.value.fields["cursor"]["eventLineCount"] == len(new.events)
    assert_agrees(log, content)


def test_log_copied_to_another_inode_is_the_same_log(path: Path) -> None:
    log = EventLog(path)
    page = log.page(0, max_events=50)
    replace_by_rename(path, OLD + event_line(61))
    following = log.page(50, chain_hex=page.end.chain.hex())
    assert [line.number for line in following.lines] == list(range(51, 62))


def test_log_that_vanished_and_came_back_whole_goes_on(path: Path) -> None:
    log = EventLog(path)
    page = log.page(0)
    path.rename(path.with_suffix(".away"))
    with pytest.raises(FileNotFoundError):
        log.line_count()
    path.with_suffix(".away").rename(path)
    assert log.page(LINES, chain_hex=page.end.chain.hex()).lines == []


def test_chain_of_another_log_is_refused_even_by_a_reader_that_just_began(path: Path) -> None:
    foreign = expected_of(OTHER).chains
    log = EventLog(path)
    with pytest.raises(EventsRewritten):
        log.page(50, chain_hex=foreign[50])
    assert log.page(50, chain_hex=expected_of(OLD).chains[50].upper()).end.line == LINES
    assert log.page(0, chain_hex="0" * 64).end.line == LINES


def edit_and_append(path: Path) -> None:
    edit(path, len(OLD) // 2, b"#")
    with path.open("ab") as stream:
        stream.write(event_line(61))


def test_same_size_edit_hidden_by_growth_is_found_by_rehash_on_demand_d8(path: Path) -> None:
    log = EventLog(path)
    page = log.page(0)
    assert log.rehash()
    edit_and_append(path)
    assert log.page(LINES, chain_hex=page.end.chain.hex()).end.line == 61  # not seen by an ordinary poll
    assert not log.rehash()
    assert log.rehash()
    with pytest.raises(EventsRewritten):
        log.page(LINES, chain_hex=page.end.chain.hex())
    assert_agrees(log, path.read_bytes())


def test_same_size_edit_hidden_by_growth_is_found_when_the_rehash_is_due_d8(path: Path) -> None:
    log = EventLog(path, rehash_interval_s=0)
    page = log.page(0)
    edit_and_append(path)
    with pytest.raises(EventsRewritten):
        log.page(LINES, chain_hex=page.end.chain.hex())


@pytest.mark.parametrize(("lines_before", "page_of", "behind"), [(30, 20, 17), (15, 0, 14)])
def test_same_size_edit_that_a_page_runs_into_is_noticed(
    lines_before: int, page_of: int, behind: int, path: Path
) -> None:
    path.write_bytes(log_of(lines_before))
    log = EventLog(path)
    walk(log)
    path.write_bytes(middle_edited(log_of(lines_before)) + event_line(99))
    log.page(0, max_events=page_of)  # passes a checkpoint, or the furthest line known
    page = log.page(behind, max_events=2)
    assert page.end.chain.hex() == expected_of(path.read_bytes()).chains[page.end.line]
    assert_agrees(log, path.read_bytes())


def test_log_rewritten_to_its_size_within_one_tick_of_file_times_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarse(descriptor: int) -> FileIdentity:
        tick_ns = 50_000_000
        file = identity(descriptor)
        return file._replace(mtime_ns=file.mtime_ns // tick_ns * tick_ns, ctime_ns=0)

    monkeypatch.setattr(logscan, "identity", coarse)
    one, other = log_of(2, run_id="one"), log_of(2, run_id="two")
    log = EventLog(path)
    for content in [one, other] * 50:
        path.write_bytes(content)
        assert log.head().chain.hex() == expected_of(content).chains[-1]


def after(calls: int, function: Callable[..., Any], change: Callable[[], None]) -> Callable[..., Any]:
    """`function`, but before its `calls`-th call the change happens."""
    count = itertools.count(1)

    def wrapped(*arguments: Any) -> Any:
        if next(count) == calls:
            change()
        return function(*arguments)

    return wrapped


def test_log_rewritten_while_a_page_is_cut_is_not_mixed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(path)
    log.line_count()
    monkeypatch.setattr(eventlog, "classify", after(30, classify, lambda: overwrite(path, OTHER)))
    assert generation_of(log.page(0)) == {"another run"}
    assert_agrees(log, OTHER)


def test_log_rewritten_while_it_is_first_read_is_not_mixed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = middle_edited(OLD) + OTHER
    monkeypatch.setattr(logscan, "read_range", after(6, read_range, lambda: overwrite(path, new)))
    assert_agrees(EventLog(path), new)


class LogAndClient(RuleBasedStateMachine):
    """A log that suffers everything, and a client that starts over when told that it is another log."""

    folder: Path
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        number = next(self.numbers)
        self.path = self.folder / f"{number}.jsonl"
        self.path.write_bytes(b"")
        self.log = EventLog(self.path)
        self.serial = 0
        self.start_over()

    def start_over(self) -> None:
        self.cursor, self.chain = 0, "0" * 64
        self.events: list[object] = []

    def new_lines(self, count: int) -> bytes:
        self.serial += count
        return log_of(count, first=self.serial)

    @rule(count=st.integers(1, 60), cut=st.integers(0, 40))
    def append(self, count: int, cut: int) -> None:
        content = self.new_lines(count)
        with self.path.open("ab") as stream:
            stream.write(content[: len(content) - cut])

    @rule(share=st.floats(0, 1))
    def truncate(self, share: float) -> None:
        os.truncate(self.path, int(self.path.stat().st_size * share))

    @rule(share=st.floats(0, 1), count=st.integers(0, 90))
    def rewrite(self, share: float, count: int) -> None:
        content = self.path.read_bytes()
        self.path.write_bytes(content[: int(len(content) * share)] + self.new_lines(count))

    @rule(share=st.floats(0, 1), count=st.integers(0, 90))
    def replace(self, share: float, count: int) -> None:
        content = self.path.read_bytes()
        replace_by_rename(self.path, content[: int(len(content) * share)] + self.new_lines(count))

    @rule(share=st.floats(0, 0.999))
    def edit_and_rehash(self, share: float) -> None:
        if self.path.stat().st_size:
            edit(self.path, int(self.path.stat().st_size * share), b"#")
            self.log.rehash()

    @rule(max_events=st.sampled_from([0, 1, 15, 40]))
    def poll(self, max_events: int) -> None:
        try:
            page = self.log.page(self.cursor, max_events=max_events, chain_hex=self.chain)
        except LogMismatch:
            self.start_over()
        else:
            self.events += [line.event for line in page.lines]
            self.cursor, self.chain = page.end.line, page.end.chain.hex()
            expected = expected_of(self.path.read_bytes())
            assert self.events == expected.events[: self.cursor]
            assert self.chain == expected.chains[self.cursor]

    @invariant()
    def count_is_true(self) -> None:
        assert self.log.line_count() == self.path.read_bytes().count(b"\n")


def test_client_that_keeps_the_protocol_always_holds_the_log_as_it_is(tmp_path: Path) -> None:
    class Machine(LogAndClient):
        folder = tmp_path

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def generation_of(page: LogPage) -> set[str]:
    return {line.event["run_id"] for line in page.lines if line.event is not None}


@pytest.mark.parametrize("way", [overwrite, replace_by_rename])
def test_page_read_while_the_log_is_replaced_never_mixes_two_logs(
    way: Callable[[Path, bytes], None], path: Path
) -> None:
    done = threading.Event()

    def replace_again_and_again() -> None:
        for generation in range(60):
            way(path, log_of(200 + generation % 7, run_id=f"run {generation}"))
        done.set()

    writer = threading.Thread(target=replace_again_and_again)
    log = EventLog(path)
    writer.start()
    pages = 0
    cursor, chain_hex = 0, None
    held: set[str] = set()
    while not done.is_set():
        try:
            page = log.page(cursor, max_events=60, chain_hex=chain_hex)
        except LogMismatch:
            cursor, chain_hex, held = 0, None, set()
            continue
        except FileNotFoundError:
            continue
        pages += 1
        assert len(held | generation_of(page)) <= 1
        held |= generation_of(page)
        cursor, chain_hex = page.end.line, page.end.chain.hex()
    writer.join()
    assert pages
    assert_agrees(log, path.read_bytes())
