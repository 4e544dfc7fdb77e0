import json
from copy import deepcopy
from typing import Any

import pytest

from activities.digest import decision_digest, event_digest, is_awake, snapshot_digest
from contract.envelopes import SnapshotEnvelope
from contract.observation import Contact, Freshness, ProcessDigest, SnapshotDigest
from tests.recordings.unpack import exchanges, recordings_root


def recorded(scenario: str, step: int) -> dict[str, Any]:
    path = recordings_root() / scenario / f"step-{step:04}" / "expected-snapshot.json"
    body: dict[str, Any] = json.loads(path.read_bytes())
    return body


def waiting() -> dict[str, Any]:
    return deepcopy(exchanges()["03-snapshot-ok"]["response"]["body"])


def shrunk(body: dict[str, Any], *, stale_after_s: float = 300.0) -> SnapshotDigest:
    return snapshot_digest(SnapshotEnvelope.read(body, loop_id="demo"), stale_after_s=stale_after_s)


def running(**heartbeat: Any) -> dict[str, Any]:
    body = recorded("11-kill9", 4)
    body["runtime"]["heartbeat"] = heartbeat or None
    body["emittedAt"] = "2026-11-22T08:10:00Z"
    return body


def digest_of(body: dict[str, Any], **options: Any) -> str:
    return decision_digest(Contact.OK, shrunk(body, **options))


def test_a_waiting_loop_keeps_its_request_and_gates() -> None:
    digest = shrunk(waiting())
    assert digest.status == "awaiting_approval"
    assert digest.approval is not None
    assert (digest.approval.status, digest.approval.run_id, digest.approval.iteration) == (
        "pending",
        "2026-11-22T08:32:42Z",
        1,
    )
    assert digest.approval.sha256 == waiting()["artifacts"]["approval"]["sha256"]
    assert digest.approval.promise is True
    assert digest.gates["lifecycle"] == "ok"
    assert digest.completion_ok is False
    assert (digest.state_present, digest.state_active, digest.state_loop_id) == (True, False, "demo")
    assert digest.process.state == "absent"


def test_a_decision_is_kept_with_its_author() -> None:
    body = waiting()
    body["runtime"]["approval"]["decision"] = {"status": "approved", "by": "ana", "note": None, "at": "t"}
    approval = shrunk(body).approval
    assert approval is not None
    assert (approval.decision_status, approval.decision_by, approval.decision_at) == ("approved", "ana", "t")


@pytest.mark.parametrize(
    ("age_s", "freshness"), [(299, Freshness.FRESH), (300, Freshness.FRESH), (301, Freshness.STALE)]
)
def test_a_running_loop_is_stale_by_the_age_of_its_heartbeat(age_s: int, freshness: Freshness) -> None:
    stamp = f"2026-11-22T08:{10 - (age_s + 59) // 60:02}:{-age_s % 60:02}Z"
    digest = shrunk(running(timestamp=stamp))
    assert (digest.heartbeat_age_s, digest.freshness) == (age_s, freshness)


def test_a_heartbeat_may_say_updated_at_instead() -> None:
    assert shrunk(running(updatedAt="2026-11-22T08:09:50Z")).heartbeat_age_s == 10


def test_without_a_heartbeat_nothing_is_stale() -> None:
    assert shrunk(running()).freshness is Freshness.NO_HEARTBEAT


def test_a_waiting_loop_is_never_stale_however_old_its_heartbeat() -> None:
    body = waiting()
    body["runtime"]["heartbeat"] = {"timestamp": "2026-11-20T08:00:00Z"}
    assert shrunk(body).freshness is Freshness.FRESH


def test_time_passing_is_no_news() -> None:
    body = running(timestamp="2026-11-22T08:09:50Z")
    later = deepcopy(body)
    later["emittedAt"] = "2026-11-22T08:11:00Z"
    later["traceId"] = "another"
    later["runtime"]["heartbeat"] = {"timestamp": "2026-11-22T08:10:55Z"}
    later["artifacts"]["events"]["mtimeEpoch"] = 1
    assert digest_of(body) == digest_of(later)


def _set(path: str, value: Any) -> Any:
    def change(body: dict[str, Any]) -> None:
        *parents, name = path.split(".")
        place = body
        for parent in parents:
            place = place[parent]
        place[name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("run.status", "idle"),
        _set("runtime.superloopState.active", True),
        _set("runtime.superloopState.current_loop_id", "other"),
        _set("artifacts.state.exists", False),
        _set("artifacts.approval.sha256", "f" * 64),
        _set("runtime.approval.status", "approved"),
        _set("health.gates.tests", "failed"),
        _set("run.summary.completion_ok", True),
        _set("runtime.process", {"state": "dead"}),
        _set("runtime.process", {"state": "alive", "pid": 7, "startTime": "1"}),
        _set("runtime.activeRun", {"pid": 7, "loop_id": "demo"}),
    ],
)
def test_every_change_that_decides_something_is_news(change: Any) -> None:
    body = waiting()
    change(body)
    assert digest_of(body) != digest_of(waiting())


def test_two_processes_with_one_pid_are_told_apart_by_their_start() -> None:
    digests = set()
    for start in ("1", "2"):
        body = waiting()
        run = {"pid": 7, "startTime": start, "loopId": "demo"}
        body["runtime"]["process"] = {"state": "alive", "runs": [run]}
        digests.add(digest_of(body))
    assert len(digests) == 2


def test_becoming_stale_is_news() -> None:
    body = running(timestamp="2026-11-22T08:09:50Z")
    assert digest_of(body, stale_after_s=5) != digest_of(body, stale_after_s=60)


def test_every_condition_has_its_own_digest() -> None:
    assert len({decision_digest(contact, None) for contact in Contact}) == len(Contact)


@pytest.mark.parametrize(
    ("process", "status", "active_run", "awake"),
    [
        ("alive", "awaiting_approval", None, True),
        ("dead", "running", "demo", False),
        ("absent", "running", "demo", True),
        ("absent", "running", None, True),
        ("absent", "complete", None, False),
        ("absent", "complete", "demo", True),
        ("absent", "complete", "other", False),
        ("unknown", "running", None, True),
    ],
)
def test_awake_is_decided_by_the_process_and_only_without_it_by_words(
    process: Any, status: str, active_run: str | None, awake: bool
) -> None:
    digest = SnapshotDigest(
        emitted_at="t",
        status=status,
        process=ProcessDigest(state=process),
        active_run_present=active_run is not None,
        active_run_loop_id=active_run,
        last_event_age_s=60,
    )
    assert is_awake(digest, "demo") is awake


def test_a_run_without_events_for_hours_keeps_no_machine_awake_without_process_evidence() -> None:
    digest = SnapshotDigest(emitted_at="t", status="running", active_run_present=True, last_event_age_s=5 * 3600)
    assert not is_awake(digest, "demo")


def test_only_what_rules_read_of_an_event_is_kept_and_clipped() -> None:
    raw = {
        "timestamp": "t",
        "event": "loop_stop",
        "run_id": "r",
        "iteration": 3,
        "message": "m" * 1_000,
        "data": {
            "reason": "stuck",
            "streak": 3,
            "note": "n" * 10_000,
            "prompt_file": "/home/secret",
            "at": {"nested": True},
            "approval": True,
            "threshold": float("inf"),
        },
    }
    digest = event_digest(7, raw, b"\x12" * 32)
    assert (digest.line, digest.h, digest.name, digest.iteration) == (7, "12" * 8, "loop_stop", 3)
    assert len(digest.message or "") == 200
    assert set(digest.data) == {"reason", "streak", "note", "approval"}
    assert len(digest.data["note"]) == 200


def test_an_event_of_hostile_types_is_kept_without_them() -> None:
    raw = {
        "timestamp": "t", "type": "x", "run_id": 5, "iteration": "9", "role": [], "status": {},
        "message": "\ud800 half a pair", "data": ["no", "object"],
    }  # fmt: skip
    digest = event_digest(1, raw, bytes(32))
    assert (digest.run_id, digest.iteration, digest.role, digest.data) == ("unknown", 0, None, {})
    assert digest.model_dump_json()


def test_gates_of_any_number_and_kind_stay_bounded() -> None:
    body = waiting()
    body["health"]["gates"] = {f"gate-{n}": "x" * 1_000 for n in range(1_000)} | {"odd": ["list"]}
    digest = shrunk(body)
    assert len(digest.gates) <= 32
    assert len(digest.model_dump_json()) < 10_000
