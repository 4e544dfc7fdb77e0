"""Envelopes: tolerant of what is new, strict in version, type and loop (D2)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from contract.envelopes import EventsPage, SnapshotEnvelope
from contract.errors import EnvelopeInvalid

SOURCE = {"repoPath": "/srv/sprite/demo", "loopId": "demo"}
ARTIFACT = {
    "path": ".superloop/state.json",
    "exists": True,
    "sizeBytes": 9,
    "lineCount": 1,
    "sha256": "a",
    "mtimeEpoch": 1,
}
SNAPSHOT: dict[str, Any] = {
    "schemaVersion": "v1",
    "envelopeType": "loop_run_snapshot",
    "emittedAt": "2026-11-22T03:12:07Z",
    "traceId": None,
    "source": SOURCE,
    "sequence": {"source": "cursor_event_line_offset", "value": 3},
    "run": {"runId": "R1", "iteration": 1, "status": "running", "summary": None},
    "runtime": {"superloopState": {"active": True}, "activeRun": None, "approval": None, "heartbeat": None},
    "artifacts": {"state": ARTIFACT},
    "cursor": {"eventLineOffset": 3, "eventLineCount": 3},
    "health": {"eventCount": 3, "gates": {"tests": "ok", "lifecycle": "skipped", "a new gate": {"any": "shape"}}},
}


def event(line: int, **changes: Any) -> dict[str, Any]:
    raw = {"timestamp": "t", "event": "role_start"}
    return {
        "schemaVersion": "v1",
        "envelopeType": "loop_run_event",
        "emittedAt": "2026-11-22T03:12:07Z",
        "traceId": None,
        "source": SOURCE,
        "sequence": {"source": "cursor_event_line_offset", "value": line},
        "cursor": {"eventLineOffset": line, "eventLineCount": 9},
        "run": {"runId": "R1", "iteration": 1},
        "event": {"timestamp": "t", "name": "role_start", "role": None, "raw": raw},
        **changes,
    }


def page(*lines: int, offset: int | None = None, **changes: Any) -> dict[str, Any]:
    end = (lines[-1] if lines else 0) if offset is None else offset
    return {
        "ok": True,
        "schemaVersion": "v1",
        "source": SOURCE,
        "events": [event(line) for line in lines],
        "cursor": {"eventLineOffset": end, "eventLineCount": 9, "updatedAt": "t"},
        **changes,
    }


def read_snapshot(body: Any) -> SnapshotEnvelope:
    return SnapshotEnvelope.read(body, loop_id="demo")


def read_page(body: Any, after_line: int = 0) -> EventsPage:
    return EventsPage.read(body, loop_id="demo", after_line=after_line)


def with_(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    *parents, last = path.split(".")
    at: Any = changed
    for parent in parents:
        at = at[int(parent)] if isinstance(at, list) else at[parent]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return changed


def test_snapshot_reads_and_writes_back_what_it_was_given() -> None:
    envelope = read_snapshot(SNAPSHOT)
    assert envelope.health.gates == {"tests": "ok", "lifecycle": "skipped", "a new gate": {"any": "shape"}}
    assert envelope.runtime.process is None
    written = envelope.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert written == SNAPSHOT


@pytest.mark.parametrize(
    "path",
    ["new", "run.new", "runtime.new", "runtime.superloopState.new", "health.new", "artifacts.state.new", "source.new"],
)
def test_unknown_field_of_a_snapshot_is_accepted_and_kept(path: str) -> None:
    body = with_(SNAPSHOT, path, {"later": ["version"]})
    assert read_snapshot(body).model_dump(mode="json", by_alias=True, exclude_unset=True) == body


@pytest.mark.parametrize("path", ["new", "cursor.new", "events.0.new", "events.0.event.new", "events.0.event.raw.new"])
def test_unknown_field_of_a_page_is_accepted_and_kept(path: str) -> None:
    body = with_(page(1), path, 7)
    assert read_page(body).model_dump(mode="json", by_alias=True, exclude_unset=True) == body


def test_additions_of_ours_are_read_when_they_are_there() -> None:
    process = {
        "state": "alive",
        "pid": 7,
        "startTime": "1.00",
        "loopId": "demo",
        "source": "scan",
        "runs": [{"pid": 7}],
    }
    body = with_(with_(SNAPSHOT, "runtime.process", process), "spriteId", "sprite-1")
    envelope = read_snapshot(body)
    assert envelope.runtime.process is not None
    assert [run.pid for run in envelope.runtime.process.runs] == [7]
    assert envelope.sprite_id == "sprite-1"
    ours = read_page(
        page(1, 3, quarantined=[{"line": 2, "reason": "not JSON", "h": "ab"}], spriteId="s", snapshotEtag="e")
    )
    assert [(bad.line, bad.reason) for bad in ours.quarantined] == [(2, "not JSON")]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("schemaVersion", "v2", "schemaVersion 'v2'; this manager speaks 'v1' only"),
        ("schemaVersion", ..., "schemaVersion 'None'"),
        ("schemaVersion", 1, "schemaVersion '1'"),
        ("schemaVersion", ["v1"], "schemaVersion"),
        ("envelopeType", "loop_run_event", "envelopeType"),
        ("envelopeType", ..., "envelopeType"),
        ("source.loopId", "other", "is about loop 'other', but 'demo' was asked for"),
        ("source.loopId", 7, "source.loopId"),
        ("source", None, "source"),
        ("cursor.eventLineOffset", -1, "cursor.eventLineOffset"),
        ("cursor", ..., "cursor"),
        ("runtime", [], "runtime"),
        ("spriteId", "s" * 129, "spriteId"),
        ("spriteId", "s\udfff", "spriteId"),
        ("source.repoPath", "/" * 5_000, "source.repoPath"),
        ("run", "R1", "run"),
        ("emittedAt", None, "emittedAt"),
        ("sequence", 3, "sequence"),
    ],
)
def test_snapshot_that_breaks_the_contract_is_refused_and_says_where(path: str, value: Any, words: str) -> None:
    with pytest.raises(EnvelopeInvalid) as raised:
        read_snapshot(with_(SNAPSHOT, path, value))
    assert words in str(raised.value)
    assert str(raised.value).startswith("snapshot")


ODD: list[Any] = [None, 7, 2.5, "text", True, [1], {"a": 1}]


@pytest.mark.parametrize(
    "path",
    [
        *("run.runId", "run.iteration", "run.status", "run.summary", "runtime.process", "artifacts.state"),
        *("artifacts.state.mtimeEpoch", "artifacts.state.exists", "health.lastEventAt", "health.gates", "traceId"),
    ],
)
def test_value_of_the_wrong_type_in_what_shows_an_artifact_does_not_keep_the_snapshot_from_being_read(
    path: str,
) -> None:
    for odd in ODD:
        read_snapshot(with_(SNAPSHOT, path, odd))


@pytest.mark.parametrize("path", ["name", "timestamp", "role", "status", "message", "payload", "raw"])
def test_value_of_the_wrong_type_on_a_line_does_not_keep_the_lines_beside_it_from_being_read_d4(path: str) -> None:
    for odd in ODD:
        assert len(read_page(with_(page(1, 2), f"events.1.event.{path}", odd)).events) == 2
        assert len(read_page(with_(page(1, 2), "events.1.run", {"runId": odd, "iteration": odd})).events) == 2


def test_process_evidence_of_another_shape_is_no_evidence_of_absence() -> None:
    process = read_snapshot(with_(SNAPSHOT, "runtime.process", {"state": "sleeping"})).runtime.process
    assert process is not None
    assert process.state == "unknown"


@pytest.mark.parametrize("body", [None, [], "text", 7, True, [SNAPSHOT]])
def test_body_that_is_no_object_is_refused(body: Any) -> None:
    for read in (read_snapshot, read_page):
        with pytest.raises(EnvelopeInvalid, match="must be a JSON object, not "):
            read(body)


@pytest.mark.parametrize(
    ("body", "after_line", "words"),
    [
        (page(1, ok=False), 0, "ok"),
        (page(1, schemaVersion="v3"), 0, "schemaVersion 'v3'"),
        (page(2, 1), 0, "line 1 follows line 2"),
        (page(1, 1), 0, "line 1 follows line 1"),
        (page(3), 3, "line 3 follows line 3"),
        (page(3, 4, offset=3), 0, "cursor 3 lies before line 4"),
        (page(offset=2), 3, "cursor 2 lies before line 3"),
        (with_(page(1), "source.loopId", "other"), 0, "is about loop 'other'"),
        (with_(page(1), "events.0.envelopeType", "loop_run_snapshot"), 0, "events.0.envelopeType"),
        (with_(page(1), "events.0.event.raw", ...), 0, "events.0.event.raw"),
        (with_(page(1), "events", None), 0, "events"),
        (with_(page(1), "events.0.source", {"repoPath": "/r", "loopId": "other"}), 0, "holds an event of 'other'"),
    ],
)
def test_page_that_breaks_the_contract_is_refused_and_says_where(body: Any, after_line: int, words: str) -> None:
    with pytest.raises(EnvelopeInvalid) as raised:
        read_page(body, after_line)
    assert words in str(raised.value)


@pytest.mark.parametrize(("lines", "offset", "after"), [((), 0, 0), ((), 5, 5), ((2, 5), 7, 1), ((9,), 9, 8)])
def test_page_with_gaps_or_nothing_new_is_read(lines: tuple[int, ...], offset: int, after: int) -> None:
    assert len(read_page(page(*lines, offset=offset), after).events) == len(lines)


def test_refusal_never_repeats_the_body() -> None:
    with pytest.raises(EnvelopeInvalid) as raised:
        read_snapshot(with_(SNAPSHOT, "run", "s3cret" * 1_000))
    assert "s3cret" not in str(raised.value)
    assert len(str(raised.value)) < 300
