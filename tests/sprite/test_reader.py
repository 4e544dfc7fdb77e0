"""The reader as its users see it: pages, loops, and the wait for news."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from contract.envelopes import EventsPage
from contract.errors import ErrorCode, IdentifierInvalid
from sprite import processes
from sprite import reader as reader_module
from sprite.artifacts import PATIENCE_S
from sprite.errors import CursorAhead, EventsRewritten, LoopNotFound, NotReady
from sprite.processes import LoopRun, ScanResult
from sprite.reader import SpriteReader
from tests.sprite.logs import TIME, event_line, expected_of, log_of
from tests.sprite.repos import LOOP, Repo, summary_of, write_json

READINGS: list[Callable[[SpriteReader, str], object]] = [
    SpriteReader.snapshot,
    SpriteReader.snapshot_etag,
    SpriteReader.events_page,
    SpriteReader.line_count,
    SpriteReader.rehash,
    lambda reader, loop_id: asyncio.run(reader.wait_for_news(loop_id, cursor=0, snapshot_etag=None, timeout_s=0.0)),
]
BAD_IDS = ["", "../demo", "a/b", "..", ".", "-rf", "a\nb", "a\0b", "x" * 129, "a\\b", " demo"]


@pytest.mark.parametrize("loop_id", BAD_IDS)
def test_loop_id_that_could_reach_elsewhere_is_refused_before_anything_is_read_d11(loop_id: str, repo: Repo) -> None:
    (repo.path / ".superloop" / "events.jsonl").write_bytes(log_of(1))  # where loops/.. would lead
    reader = repo.with_events().reader()
    before = sorted(repo.path.rglob("*"))
    for reading in READINGS:
        with pytest.raises(IdentifierInvalid):
            reading(reader, loop_id)
    assert sorted(repo.path.rglob("*")) == before


def test_reading_writes_nothing_into_the_repo(repo: Repo) -> None:
    repo.with_events()
    before = {path: path.stat().st_mtime_ns for path in repo.path.rglob("*")}
    for reading in READINGS:
        reading(repo.reader(), LOOP)
    assert {path: path.stat().st_mtime_ns for path in repo.path.rglob("*")} == before


def test_events_page_has_the_contracts_fields_and_our_additions(repo: Repo) -> None:
    content = log_of(2) + b"garbage\n" + event_line(4, role="planner", status="ok", message="m", iteration=2)
    reader = repo.with_events(content).reader()
    page = reader.events_page(LOOP, trace_id="t-1")
    expected = expected_of(content)
    assert list(page)[:3] == ["ok", "schemaVersion", "traceId"]
    assert page["cursor"] == {
        "eventLineOffset": 4,
        "eventLineCount": 4,
        "updatedAt": page["events"][0]["emittedAt"],
        "chain": expected.chains[-1],
        "byteOffset": len(content),
    }
    (quarantined,) = page["quarantined"]
    assert quarantined["line"] == 3
    assert "not JSON" in quarantined["reason"]
    assert page["spriteId"] == reader.sprite_id
    assert page["source"] == {"repoPath": str(repo.path), "loopId": LOOP}
    last = page["events"][-1]
    assert last["sequence"] == {"source": "cursor_event_line_offset", "value": 4}
    assert last["traceId"] == "t-1"
    assert last["event"].items() >= {"role": "planner", "status": "ok", "message": "m", "payload": {"n": 4}}.items()
    EventsPage.read(page, loop_id=LOOP, after_line=0)


def test_events_page_without_trace_or_news_is_as_recorded(repo: Repo) -> None:
    page = repo.with_events().reader().events_page(LOOP, cursor=3)
    assert "traceId" not in page
    assert (page["events"], page["cursor"]["eventLineOffset"]) == ([], 3)


@pytest.mark.parametrize("odd", [5, True, ["x"], {"a": 1}, None])
def test_field_of_another_type_than_the_contracts_is_null_and_whole_in_raw(odd: Any, repo: Repo) -> None:
    fields = {"role": odd, "status": odd, "message": odd, "run_id": odd, "data": odd}
    repo.with_events(event_line(1, **fields, iteration="3"))
    page = repo.reader().events_page(LOOP)
    (envelope,) = page["events"]
    assert envelope["run"] == {"runId": "unknown", "iteration": 0}
    shown = envelope["event"]
    assert (shown["role"], shown["status"], shown["message"]) == (None, None, None)
    assert shown["payload"] == odd
    assert shown["raw"].items() >= fields.items()
    EventsPage.read(page, loop_id=LOOP, after_line=0)


@pytest.mark.parametrize(
    ("iteration", "shown"), [(3, 3), (3.0, 3), (3.5, 0), (False, 0), (1e300, 0), (float("nan"), 0), (2**60, 0)]
)
def test_iteration_is_an_integer_or_zero(iteration: float, shown: int, repo: Repo) -> None:
    repo.with_events(event_line(1, iteration=iteration, data=False))
    (envelope,) = repo.reader().events_page(LOOP)["events"]
    assert envelope["run"]["iteration"] == shown
    assert envelope["event"]["payload"] is None


def test_cursor_that_does_not_fit_is_refused_with_the_current_head(repo: Repo) -> None:
    content = log_of(3)
    reader = repo.with_events(content).reader()
    head = {
        "eventLineOffset": 3,
        "eventLineCount": 3,
        "chain": expected_of(content).chains[3],
        "byteOffset": len(content),
    }
    with pytest.raises(CursorAhead) as ahead:
        reader.events_page(LOOP, cursor=99)
    assert (ahead.value.code, ahead.value.fields) == (ErrorCode.CURSOR_AHEAD, {"cursor": head})
    assert ahead.value.message == "cursor offset (99) exceeds available events (3); reset cursor or use --from-start"
    with pytest.raises(EventsRewritten) as rewritten:
        reader.events_page(LOOP, cursor=2, chain="ab" * 32)
    assert (rewritten.value.code, rewritten.value.fields) == (ErrorCode.EVENTS_REWRITTEN, {"cursor": head})


def test_loops_are_those_with_folders_and_those_of_the_configuration(repo: Repo) -> None:
    repo.with_events()
    write_json(repo.state, {"active": True, "current_loop_id": LOOP})
    repo.loop_folder("begun").mkdir()
    repo.loop_folder("-refused").mkdir()
    (repo.loop_folder() / ".." / "a-file").write_text("")
    loops = [{"id": "configured"}, {"id": LOOP}, {"id": "../bad"}, {"id": 7}, "odd"]
    write_json(repo.path / ".superloop" / "config.json", {"loops": loops})
    assert repo.reader().loops() == [
        {"loopId": "begun", "status": None},
        {"loopId": "configured", "status": None},
        {"loopId": LOOP, "status": "running"},
    ]


def test_loops_of_a_bare_repo_are_none_and_of_an_unreadable_one_have_no_status(repo: Repo) -> None:
    repo.loop_folder().rmdir()
    assert repo.reader().loops() == []
    many = [f"loop-{number}" for number in range(40)]
    for loop_id in many:
        repo.loop_folder(loop_id).mkdir()
        (repo.loop_folder(loop_id) / "events.jsonl").write_bytes(log_of(1))
    repo.state.write_text("")
    (repo.path / ".superloop" / "config.json").write_text("{")
    started = time.monotonic()
    assert [loop["status"] for loop in repo.reader().loops()] == [None] * len(many)
    assert time.monotonic() - started < len(many) * PATIENCE_S / 2  # they share one patience


def test_many_threads_read_one_reader_and_agree(repo: Repo) -> None:
    reader = repo.with_events(log_of(700)).reader()
    write_json(repo.summary, summary_of(3))
    with ThreadPoolExecutor(8) as pool:
        snapshots = list(pool.map(lambda _: reader.etag_of(reader.snapshot(LOOP)), range(16)))
        pages = list(pool.map(lambda n: reader.events_page(LOOP, cursor=n * 40)["cursor"]["chain"], range(16)))
    assert len(set(snapshots)) == 1
    assert len(set(pages)) == 1


async def woken_by(reader: SpriteReader, change: Callable[[], object], **wait: Any) -> bool:
    """Whether `change`, made while the reader waits, ends the wait."""
    waiting = asyncio.create_task(reader.wait_for_news(LOOP, timeout_s=20, poll_interval_s=0.01, **wait))
    # Only once the first look is over does the change come while waiting.
    await asyncio.to_thread(looked.wait, 20)
    assert not waiting.done()
    change()
    return await waiting


looked = threading.Event()


@pytest.fixture(autouse=True)
def first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets `looked` when a wait has looked once."""
    looked.clear()
    has_news = SpriteReader._has_news

    def watched(*arguments: Any) -> bool:
        result = has_news(*arguments)
        looked.set()
        return result

    monkeypatch.setattr(SpriteReader, "_has_news", watched)


async def test_wait_ends_at_once_when_there_is_news_already(repo: Repo) -> None:
    reader = repo.with_events().reader()
    assert await reader.wait_for_news(LOOP, cursor=2, snapshot_etag=None, timeout_s=60)
    assert await reader.wait_for_news(LOOP, cursor=4, snapshot_etag=None, timeout_s=60)  # the log has become shorter
    assert await reader.wait_for_news(LOOP, cursor=3, snapshot_etag="other", timeout_s=60)


async def test_wait_without_news_ends_with_its_time(repo: Repo) -> None:
    reader = repo.with_events().reader()
    etag = reader.snapshot_etag(LOOP)
    assert not await reader.wait_for_news(LOOP, cursor=3, snapshot_etag=etag, timeout_s=0.1)


async def test_wait_ends_with_a_terminated_line_only(repo: Repo) -> None:
    reader = repo.with_events().reader()
    with repo.events.open("ab") as stream:
        stream.write(event_line(4)[:-1])
    assert not await reader.wait_for_news(LOOP, cursor=3, snapshot_etag=None, timeout_s=0.1)
    with repo.events.open("ab") as stream:
        stream.write(b"\n")
    assert await reader.wait_for_news(LOOP, cursor=3, snapshot_etag=None, timeout_s=20)


CHANGES: dict[str, Callable[[Repo], object]] = {
    "a new event": lambda repo: repo.events.write_bytes(log_of(4)),
    "a log of the same length": lambda repo: repo.events.write_bytes(log_of(3, run_id="other")),
    "a state": lambda repo: write_json(repo.state, {"active": True}),
    "an approval": lambda repo: write_json(repo.approval, {"status": "pending"}),
    "a heartbeat": lambda repo: write_json(repo.heartbeat, {"timestamp": TIME}),
    "a summary": lambda repo: write_json(repo.summary, summary_of(1)),
    "the end of the log": lambda repo: repo.events.unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_wait_with_a_tag_ends_with(change: str, repo: Repo) -> None:
    reader = repo.with_events().reader()
    etag = reader.snapshot_etag(LOOP)
    assert await woken_by(reader, lambda: CHANGES[change](repo), cursor=3, snapshot_etag=etag)
    assert reader.snapshot_etag(LOOP) != etag


@pytest.mark.parametrize(("before", "after"), [((), (LOOP,)), ((LOOP,), ()), ((LOOP,), (LOOP, "other"))])
async def test_wait_with_a_tag_ends_with_a_run_that_begins_or_ends(
    before: tuple[str, ...], after: tuple[str, ...], repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "WAIT_SCAN_INTERVAL_S", 0.05)
    reader = repo.with_events().reader()
    repo.runs(*before)
    etag = reader.snapshot_etag(LOOP)
    assert await woken_by(reader, lambda: repo.runs(*after), cursor=3, snapshot_etag=etag)


async def test_wait_notices_the_end_of_a_known_process_without_a_scan_being_due(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = {10_000: True}
    monkeypatch.setattr(reader_module, "WAIT_SCAN_INTERVAL_S", 3600.0)
    monkeypatch.setattr(processes, "is_alive", lambda pid, _: alive[pid])
    reader = repo.with_events().reader()
    repo.scan = ScanResult((LoopRun(10_000, "1.00", LOOP),))
    etag = reader.snapshot_etag(LOOP)

    def end() -> None:
        repo.scan = ScanResult()
        alive[10_000] = False

    assert await woken_by(reader, end, cursor=3, snapshot_etag=etag)


async def test_wait_for_a_loop_not_begun_ends_with_its_first_line(repo: Repo) -> None:
    reader = repo.reader()
    with pytest.raises(NotReady):
        reader.line_count(LOOP)
    with pytest.raises(LoopNotFound):
        reader.line_count("other")
    assert await woken_by(reader, repo.with_events, cursor=0, snapshot_etag=None)


async def test_waiting_scans_processes_only_when_due(repo: Repo) -> None:
    scans = 0

    def counting(_: object) -> ScanResult:
        nonlocal scans
        scans += 1
        return ScanResult()

    repo.with_events()
    reader = SpriteReader(repo.path, state_dir=repo.state_dir, process_scan=counting)
    etag = reader.snapshot_etag(LOOP)
    waits = [
        reader.wait_for_news(LOOP, cursor=3, snapshot_etag=etag, timeout_s=0.5, poll_interval_s=0.01) for _ in range(20)
    ]
    assert not any(await asyncio.gather(*waits))
    assert scans == 1
