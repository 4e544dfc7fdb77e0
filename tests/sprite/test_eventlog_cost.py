"""What reading costs, counted in bytes: a poll pays for what was appended, whatever the log has grown to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sprite.eventlog import EventLog
from tests.sprite.logs import BytesRead, event_line, log_of, walk
from tests.sprite.repos import LOOP, Repo, summary_of, write_json

EDGES = 2 * 4096
"""What a poll reads again to see that the log is still the same."""


@pytest.fixture
def large_log(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(log_of(4_000))
    return path


def test_poll_without_news_reads_nothing_once_file_times_have_settled(large_log: Path) -> None:
    log = EventLog(large_log)
    head = walk(log).pages[-1].end
    settle(large_log)
    log.line_count()
    with BytesRead().counted() as read:
        log.page(head.line, chain_hex=head.chain.hex())
        log.line_count()
        log.facts()
    assert read.count == 0


def test_poll_after_growth_reads_what_was_appended_and_both_ends(large_log: Path) -> None:
    log = EventLog(large_log)
    head = walk(log).pages[-1].end
    added = 0
    for number in range(5):
        line = event_line(number)
        with large_log.open("ab") as stream:
            stream.write(line)
        with BytesRead().counted() as read:
            page = log.page(head.line, chain_hex=head.chain.hex())
        head = page.end
        assert len(page.lines) == 1
        added = max(added, read.count)
    # Each new line is read three times: to be hashed, to be the last event, to be delivered.
    assert added <= 2 * EDGES + 3 * len(event_line(0))


def test_backlog_is_drained_in_pages_that_read_each_line_a_bounded_number_of_times_d20(large_log: Path) -> None:
    log = EventLog(large_log)
    with BytesRead().counted() as read:
        pages = walk(log, max_events=400).pages
    assert len(pages) == 10
    # Once to hash, once to deliver, and per page what its last chunk held beyond its end.
    assert read.count < 2 * large_log.stat().st_size + len(pages) * (4 * 64 * 1024)


def test_page_behind_the_head_begins_at_a_checkpoint_not_at_the_start(large_log: Path) -> None:
    log = EventLog(large_log)
    walk(log)
    settle(large_log)
    log.line_count()
    with BytesRead().counted() as read:
        log.page(3_700, max_events=10)
    assert read.count <= 2 * 64 * 1024 < large_log.stat().st_size


def settle(path: Path) -> None:
    """Let the file's times be old enough to be trusted."""
    os.utime(path, (1_000_000_000, 1_000_000_000))


def snapshot_cost(repo: Repo) -> int:
    """Bytes read by a snapshot of a repo in which nothing changed since the last one."""
    reader = repo.reader()
    for path in (repo.events, repo.summary):
        settle(path)
    for _ in range(2):
        reader.snapshot(LOOP)
    with BytesRead().counted() as read:
        reader.snapshot(LOOP)
    return read.count


def test_snapshot_of_a_grown_log_and_summary_reads_neither_again_d15(repo: Repo) -> None:
    repo.with_events(log_of(3_000))
    write_json(repo.summary, summary_of(500))
    assert repo.summary.stat().st_size > 1_000_000
    assert snapshot_cost(repo) == 0


def test_summary_of_hundreds_of_entries_leaves_only_its_last_in_memory_d15(repo: Repo) -> None:
    repo.with_events()
    write_json(repo.summary, summary_of(500, completion_ok=True, iteration=500))
    reader = repo.reader()
    assert reader.snapshot(LOOP)["run"]["status"] == "complete"
    kept = reader._artifacts._cache[f".superloop/loops/{LOOP}/run-summary.json"].artifact.text
    assert len(kept) < 10_000


def test_snapshot_after_one_more_event_reads_that_event_not_the_log_d15(repo: Repo) -> None:
    repo.with_events(log_of(3_000))
    reader = repo.reader()
    reader.snapshot(LOOP)
    with repo.events.open("ab") as stream:
        stream.write(event_line(3_001))
    with BytesRead().counted() as read:
        assert reader.snapshot(LOOP)["cursor"]["eventLineCount"] == 3_001
    assert read.count <= 2 * EDGES + 3 * len(event_line(3_001))
