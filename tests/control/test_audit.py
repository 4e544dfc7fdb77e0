"""The audit log: what was asked, what was run and what it left behind, before and after, refusals included."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sprite.control import KeyReused, PreconditionFailed
from sprite.control.audit import AUDIT_FILE, KEPT, Audit
from sprite.control.errors import NothingToCancel
from tests.control.conftest import MakeController
from tests.control.support import audited, fake_runtime, loop_repo, request
from tests.standin.support import Sandbox, Sandboxes, at_work, only

PENDING = {"status": "pending", "run_id": "R1", "iteration": 3}


def waiting(sandbox: Sandboxes) -> Sandbox:
    repo = sandbox(only("demo", {"outcome": "candidate"}, approval_required=True))
    repo.run("run", "--loop", "demo")
    return repo


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_command_is_audited_before_it_is_run_and_with_what_it_left_behind(
    sandbox: Sandboxes, tmp_path: Path, control: MakeController
) -> None:
    repo = waiting(sandbox)
    approval, log = repo.root / "loops/demo/approval.json", repo.root / "loops/demo/events.jsonl"
    before, lines = digest(approval), len(repo.lines())

    asked = request("approve", idempotencyKey="k", by="ana", note="ship it", traceId="t-1", expect={"iteration": 1})
    await control(repo.repo, repo.runtime).execute(asked)

    begun, ended = audited(tmp_path / "state")
    who = {"by": "ana", "note": "ship it", "key": "k", "traceId": "t-1", "loopId": "demo", "intent": "approve"}
    for record, phase in ((begun, "begun"), (ended, "ended")):
        assert record.items() >= who.items()
        assert (record["phase"], record["expect"], record["transport"]) == (phase, {"iteration": 1}, "sprite_service")
        assert record["servicePid"] == os.getpid()
        assert record["at"].endswith("+00:00")
    argv = [
        str(repo.runtime),
        "approve",
        "--repo",
        str(repo.repo),
        "--loop",
        "demo",
        "--by",
        "ana",
        "--note",
        "ship it",
    ]
    assert begun["argv"] == argv
    assert (begun["before"]["approvalSha256"], begun["before"]["eventLines"]) == (before, lines)
    assert (ended["status"], ended["exitCode"]) == ("executed_unconfirmed", 0)
    after = {
        "approvalSha256": digest(approval),
        "stateSha256": digest(repo.root / "state.json"),
        "eventLines": lines + 1,
    }
    assert ended["after"] == after
    evidence = ended["evidence"]
    assert (evidence["effect"], evidence["reason"]) == ("seen", "decision_recorded")
    sources = {one["source"]: one.get("line") for one in evidence["decisions"]}
    assert sources == {"approval.json": None, "decisions.jsonl": None, "approval_decision": lines + 1}
    assert json.loads(log.read_text().splitlines()[lines])["event"] == "approval_decision"


async def test_cancel_is_audited_with_the_state_before_and_after(
    sandbox: Sandboxes, tmp_path: Path, control: MakeController
) -> None:
    repo, run = at_work(sandbox)
    before = digest(repo.root / "state.json")

    await control(repo.repo, repo.runtime).execute(request("cancel", idempotencyKey="k", by="ana"))

    begun, ended = audited(tmp_path / "state")
    assert begun["before"]["stateSha256"] == before
    assert ended["after"]["stateSha256"] is None
    assert (ended["evidence"]["reason"], ended["evidence"]["pidsGone"]) == ("state_removed", [run.pid])


async def test_refusals_are_audited_with_their_reason_and_repetitions_are_none(
    tmp_path: Path, control: MakeController
) -> None:
    repo = loop_repo(tmp_path / "repo", approval=PENDING)
    manager = control(repo, fake_runtime(tmp_path / "fake"))
    with pytest.raises(PreconditionFailed):
        await manager.execute(request("approve", idempotencyKey="a", by="ana", expect={"runId": "R0"}))
    with pytest.raises(NothingToCancel):
        await manager.execute(request("cancel", idempotencyKey="b", by="ana"))
    for _ in range(2):
        await manager.execute(request("approve", idempotencyKey="c", by="ana"))
    with pytest.raises(KeyReused):
        await manager.execute(request("reject", idempotencyKey="c", by="bo"))

    records = [(one["phase"], one["key"], one.get("code")) for one in audited(tmp_path / "state")]

    assert records == [
        ("refused", "a", "precondition_failed"),
        ("refused", "b", "nothing_to_cancel"),
        ("begun", "c", None),
        ("ended", "c", None),
        ("refused", "c", "key_reused"),
    ]
    assert all("no effect" in one["message"] for one in audited(tmp_path / "state") if one["phase"] == "refused")


def refuse(audit: Audit, number: int) -> None:
    audit.refused(request("approve", by="ana"), f"k{number}", PreconditionFailed("no effect: " + "x" * 500))


def keys_in(path: Path) -> list[str]:
    return [json.loads(line)["key"] for line in path.read_text().splitlines()]


def test_log_is_moved_aside_when_it_is_full_and_the_oldest_goes(tmp_path: Path) -> None:
    audit = Audit(tmp_path, transport="test", sprite_id="s", max_bytes=2_000)
    for number in range(60):
        refuse(audit, number)

    logs = [tmp_path / AUDIT_FILE, *(tmp_path / f"{AUDIT_FILE}.{n}" for n in range(1, KEPT + 1))]
    kept = [key for log in reversed(logs) for key in keys_in(log)]

    assert kept == [f"k{number}" for number in range(60 - len(kept), 60)]
    assert all(log.stat().st_size < 3_000 for log in logs)
    assert not (tmp_path / f"{AUDIT_FILE}.{KEPT + 1}").exists()


def test_line_that_a_crash_has_torn_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    audit = Audit(tmp_path, transport="test", sprite_id="s")
    refuse(audit, 1)
    with (tmp_path / AUDIT_FILE).open("a") as log:
        log.write('{"at":"2026-11-2')

    refuse(audit, 2)

    lines = (tmp_path / AUDIT_FILE).read_text().splitlines()
    assert [json.loads(line)["key"] for line in (lines[0], lines[2])] == ["k1", "k2"]


def test_record_holds_nothing_but_ascii_whatever_people_write(tmp_path: Path) -> None:
    audit = Audit(tmp_path, transport="test", sprite_id="s")
    asked: Any = request("approve", by="ana", note="schön\u2028 \U0001f600")

    audit.refused(asked, "k", PreconditionFailed("no effect"))

    (line,) = (tmp_path / AUDIT_FILE).read_bytes().splitlines()
    assert json.loads(line)["note"] == asked.note
