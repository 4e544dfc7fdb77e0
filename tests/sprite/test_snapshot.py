"""The snapshot's derivation: the contract's table, row by row, and values that no reader could use."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from contract.envelopes import SnapshotEnvelope
from sprite.artifacts import Patience
from sprite.errors import ArtifactUnreadable, LoopNotFound, NotReady
from sprite.snapshot import run_status
from tests.sprite.logs import TIME, event_line, log_of
from tests.sprite.repos import LOOP, Repo, summary_of, write_json

PENDING = {"status": "pending"}
DONE = {"completion_ok": True}
UNDONE = {"completion_ok": False}
RUNNING = {"active": True, "current_loop_id": LOOP}
OTHER_RUNNING = {"active": True, "current_loop_id": "other"}
INACTIVE = {"active": False, "current_loop_id": LOOP}
STOP = {"event": "loop_stop", "timestamp": TIME}
STOP_WITH_ERROR = {**STOP, "status": "error"}
TIMEOUT = {"event": "role_timeout", "timestamp": TIME, "status": "timeout"}


@pytest.mark.parametrize(
    ("status", "readings"),
    [
        ("awaiting_approval", {"approval": PENDING}),
        ("awaiting_approval", {"approval": PENDING, "entry": DONE, "state": RUNNING}),
        ("complete", {"entry": DONE}),
        ("complete", {"approval": {"status": "approved"}, "entry": DONE, "state": RUNNING, "last_event": STOP}),
        ("running", {"state": RUNNING}),
        ("running", {"state": RUNNING, "entry": UNDONE, "last_event": STOP_WITH_ERROR, "approval": {}}),
        ("stopped", {"last_event": STOP}),
        ("stopped", {"last_event": {"type": "rate_limit_stop"}}),
        ("stopped", {"last_event": {"event": "no_progress_stop", "status": "blocked"}, "state": OTHER_RUNNING}),
        ("stopped", {"last_event": STOP_WITH_ERROR, "state": INACTIVE, "entry": UNDONE}),
        ("failed", {"last_event": TIMEOUT}),
        ("failed", {"last_event": {**TIMEOUT, "status": "error"}, "state": INACTIVE, "entry": UNDONE}),
        ("failed", {"last_event": {**TIMEOUT, "status": "blocked"}}),
        ("failed", {"last_event": {**TIMEOUT, "status": "rate_limited"}}),
        ("idle", {"state": INACTIVE, "entry": UNDONE}),
        ("idle", {"state": INACTIVE, "entry": {}, "last_event": {"event": "approval_decision", "status": "approved"}}),
        ("unknown", {}),
        ("unknown", {"state": INACTIVE}),
        ("unknown", {"entry": UNDONE}),
        ("unknown", {"state": OTHER_RUNNING, "entry": UNDONE}),
        ("unknown", {"state": {}, "entry": UNDONE}),
        # Only true is true.
        ("unknown", {"state": {"active": 1, "current_loop_id": LOOP}, "entry": {"completion_ok": "true"}}),
        ("unknown", {"state": {"active": 0}, "entry": {"completion_ok": 1}, "approval": {"status": True}}),
        ("unknown", {"last_event": {"event": ["loop_stop"], "status": ["error"]}}),
    ],
)
def test_status_is_the_first_row_of_the_table_that_matches(status: str, readings: dict[str, Any]) -> None:
    given: dict[str, Any] = {"state": None, "approval": None, "entry": None, "last_event": {}, **readings}
    assert run_status(LOOP, **given) == status


def test_loop_without_folder_is_not_found(repo: Repo) -> None:
    with pytest.raises(LoopNotFound) as caught:
        repo.reader().snapshot("nope")
    assert caught.value.message == f"required artifact root missing: {repo.loop_folder('nope')}"


def test_loop_without_events_is_not_ready(repo: Repo) -> None:
    with pytest.raises(NotReady) as caught:
        repo.reader().snapshot(LOOP)
    assert caught.value.message == f"required artifact missing: {repo.events}"


def test_bare_loop_has_a_snapshot_of_zeros_and_nulls(repo: Repo) -> None:
    snapshot = repo.with_events(b"").reader().snapshot(LOOP, trace_id="t-1")
    assert snapshot["traceId"] == "t-1"
    assert snapshot["run"] == {"runId": "unknown", "iteration": 0, "status": "unknown", "summary": None}
    assert snapshot["artifacts"]["state"] == {
        "path": ".superloop/state.json",
        "exists": False,
        "sizeBytes": 0,
        "lineCount": 0,
        "sha256": None,
        "mtimeEpoch": None,
    }
    assert snapshot["health"]["lastEventAt"] is None
    assert snapshot["runtime"]["process"] == {
        "state": "dead",
        "pid": None,
        "startTime": None,
        "loopId": None,
        "source": "scan",
        "runs": [],
    }
    SnapshotEnvelope.read(snapshot, loop_id=LOOP)


def test_run_is_that_of_the_last_summary_entry_then_of_the_last_event_then_of_the_state(repo: Repo) -> None:
    reader = repo.with_events(b"").reader()
    write_json(repo.state, {**RUNNING, "iteration": 7})
    assert reader.snapshot(LOOP)["run"]["iteration"] == 7
    repo.events.write_bytes(event_line(1, run_id="R-event", iteration=3))
    assert reader.snapshot(LOOP)["run"].items() >= {"runId": "R-event", "iteration": 3}.items()
    write_json(repo.summary, summary_of(2, run_id="R-summary", iteration=2, gates={"lifecycle": "ok"}, ended_at=TIME))
    snapshot = reader.snapshot(LOOP)
    assert snapshot["run"].items() >= {"runId": "R-summary", "iteration": 2}.items()
    assert snapshot["health"]["gates"] == {"lifecycle": "ok"}  # an open map (D2)
    assert snapshot["health"]["lastSummaryAt"] == "2026-11-22T03:00:00Z"


@pytest.mark.parametrize("unusable", [None, False, {"a": 1}, ["x"]])
def test_value_of_no_use_falls_through_to_the_next_source(unusable: Any, repo: Repo) -> None:
    repo.with_events(event_line(1, run_id="R", iteration=4))
    entry = {"run_id": unusable, "iteration": unusable, "gates": unusable if unusable != {"a": 1} else None}
    summary = summary_of(1, **entry, stuck=False, ended_at=TIME)
    write_json(repo.summary, {**summary, "updated_at": unusable})
    snapshot = repo.reader().snapshot(LOOP)
    assert snapshot["run"].items() >= {"runId": "R", "iteration": 4}.items()
    assert snapshot["health"]["gates"] is None
    assert snapshot["health"]["stuck"] is None
    assert snapshot["health"]["lastSummaryAt"] == TIME
    SnapshotEnvelope.read(snapshot, loop_id=LOOP)


@pytest.mark.parametrize("summary", [{"entries": []}, {"entries": None}, {}, {"entries": [None]}, None])
def test_summary_without_an_entry_counts_as_none(summary: Any, repo: Repo) -> None:
    repo.with_events()
    write_json(repo.state, INACTIVE)
    write_json(repo.summary, summary)
    run = repo.reader().snapshot(LOOP)["run"]
    assert (run["summary"], run["status"]) == (None, "unknown")


def test_approval_that_is_an_empty_object_is_shown_and_pends_nothing(repo: Repo) -> None:
    repo.with_events()
    write_json(repo.approval, {})
    snapshot = repo.reader().snapshot(LOOP)
    assert snapshot["runtime"]["approval"] == {}
    assert snapshot["health"]["hasPendingApproval"] is False


def test_heartbeat_may_be_any_json(repo: Repo) -> None:
    repo.with_events()
    for heartbeat in ({"timestamp": TIME, "stage": "x"}, ["any"], "thing", None):
        write_json(repo.heartbeat, heartbeat)
        assert repo.reader().snapshot(LOOP)["runtime"]["heartbeat"] == heartbeat


def test_last_bad_line_leaves_the_last_event_and_counts_as_a_line(repo: Repo) -> None:
    snapshot = repo.with_events(event_line(1, event="loop_stop") + b'{"torn\n').reader().snapshot(LOOP)
    assert snapshot["run"]["status"] == "stopped"
    assert snapshot["health"]["eventCount"] == snapshot["sequence"]["value"] == 2


def test_numbers_that_json_cannot_hold_are_sent_as_null(repo: Repo) -> None:
    repo.with_events()
    repo.state.write_text(
        '{"active": true, "current_loop_id": "demo", "iteration": NaN, "note": "\\ud800", "big": 1e999}'
    )
    snapshot = repo.reader().snapshot(LOOP)
    text = json.dumps(snapshot, allow_nan=False, ensure_ascii=False).encode().decode()
    assert json.loads(text)["runtime"]["superloopState"] == {**RUNNING, "iteration": None, "note": "�", "big": None}
    assert snapshot["run"]["iteration"] == 1


def test_answer_changed_by_the_caller_does_not_change_the_next_one(repo: Repo) -> None:
    repo.with_events()
    write_json(repo.state, RUNNING)
    reader = repo.reader()
    reader.snapshot(LOOP)["runtime"]["superloopState"]["active"] = "changed"
    assert reader.snapshot(LOOP)["runtime"]["superloopState"] == RUNNING


HALF_WRITTEN = [b"", b"\n", b'{"active": tr', b'{"active": true}{"x"', b'{"status": "pend']
JSON_FILES = ["state", "active_run", "approval", "summary", "heartbeat"]


@pytest.mark.parametrize("half", HALF_WRITTEN)
@pytest.mark.parametrize("name", JSON_FILES)
def test_artifact_that_stays_half_written_is_an_error_that_names_it_d16(name: str, half: bytes, repo: Repo) -> None:
    path: Path = getattr(repo.with_events(), name)
    path.write_bytes(half)
    started = time.monotonic()
    with pytest.raises(ArtifactUnreadable, match="and stayed so") as caught:
        repo.reader().snapshot(LOOP)
    assert str(path) in caught.value.message
    assert time.monotonic() - started >= 0.2  # it was waited for


@pytest.mark.parametrize("name", ["state", "approval", "summary"])
def test_artifact_that_is_no_object_is_an_error_at_once(name: str, repo: Repo) -> None:
    write_json(getattr(repo.with_events(), name), ["no", "object"])
    with pytest.raises(ArtifactUnreadable, match="no JSON object but list"):
        repo.reader().snapshot(LOOP)


@pytest.mark.parametrize("name", JSON_FILES)
def test_artifact_completed_while_waiting_is_read_whole_d16(
    name: str, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    path: Path = getattr(repo.with_events(), name)
    path.write_bytes(b"")
    finished = summary_of(1) if name == "summary" else {"timestamp": TIME}
    sleep = time.sleep

    def finish_meanwhile(seconds: float) -> None:
        sleep(seconds)
        write_json(path, finished)

    monkeypatch.setattr(time, "sleep", finish_meanwhile)
    snapshot = repo.reader().snapshot(LOOP)
    shown = {"state": "superloopState", "active_run": "activeRun"}.get(name, name)
    if name == "summary":
        assert snapshot["run"]["summary"] == finished["entries"][-1]
    else:
        assert snapshot["runtime"][shown] == finished


def test_state_rewritten_all_the_time_as_the_runtime_does_never_fails_a_snapshot_d16(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may keep the writer from going on for longer than the runtime ever takes.
    monkeypatch.setattr("sprite.reader.Patience", lambda: Patience(30.0))
    repo.with_events()
    write_json(repo.state, RUNNING)
    done = threading.Event()

    def rewrite() -> None:
        for number in range(100):
            descriptor = os.open(repo.state, os.O_WRONLY | os.O_TRUNC)
            time.sleep(0.002)  # jq starts only now
            os.write(descriptor, json.dumps({**RUNNING, "iteration": number}).encode())
            os.close(descriptor)
            time.sleep(0.003)
        done.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    reader = repo.reader()
    seen = set()
    while not done.is_set():
        seen.add(reader.snapshot(LOOP)["run"]["status"])
    writer.join()
    assert seen == {"running"}


def test_state_rewritten_to_the_same_size_in_one_tick_of_the_clock_is_not_served_from_memory(repo: Repo) -> None:
    reader = repo.with_events(b"").reader()
    for iteration in range(1, 9):
        write_json(repo.state, {**RUNNING, "iteration": iteration})
        assert reader.snapshot(LOOP)["run"]["iteration"] == iteration


def test_etag_ignores_when_it_was_said_and_sees_everything_else(repo: Repo) -> None:
    reader = repo.with_events().reader()
    snapshot = reader.snapshot(LOOP, trace_id="one")
    etag = reader.etag_of(snapshot)
    assert reader.snapshot_etag(LOOP) == etag
    assert reader.etag_of({**snapshot, "emittedAt": "2030-01-01T00:00:00Z", "traceId": None}) == etag
    os.utime(repo.events, (1, 1))
    assert reader.snapshot_etag(LOOP) == etag

    tags = [etag]
    write_json(repo.heartbeat, {"timestamp": TIME})
    tags.append(reader.snapshot_etag(LOOP))
    repo.events.write_bytes(log_of(4))
    tags.append(reader.snapshot_etag(LOOP))
    repo.runs(LOOP)
    tags.append(reader.snapshot_etag(LOOP))
    repo.runs(LOOP, None)
    tags.append(reader.snapshot_etag(LOOP))
    write_json(repo.state, RUNNING)
    tags.append(reader.snapshot_etag(LOOP))
    assert len(set(tags)) == len(tags)
    assert reader.etag_of(reader.snapshot(LOOP)) == tags[-1]


def test_etag_without_a_snapshot_tells_why_there_is_none(repo: Repo) -> None:
    reader = repo.reader()
    tags = [reader.snapshot_etag("nope"), reader.snapshot_etag(LOOP)]
    repo.with_events()
    tags.append(reader.snapshot_etag(LOOP))
    repo.state.write_text("")
    tags.append(reader.snapshot_etag(LOOP))
    assert len(set(tags)) == 4
    assert reader.snapshot_etag("nope") == tags[0]
