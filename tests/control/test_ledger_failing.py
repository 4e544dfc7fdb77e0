"""The record of what was done fails: nothing is begun without it, and what was executed is answered all the same."""

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contract.control import ControlAnswer, ControlResult, ControlStatus
from contract.errors import HTTP_STATUS
from sprite.control import InFlight, StoreUnusable, database
from sprite.control.ledger import Ledger
from sprite.errors import NotReady
from tests.control.conftest import MakeController
from tests.control.support import (
    GATED,
    ROOT,
    change_ledger,
    effects,
    eventually,
    fake_runtime,
    ledger_kept,
    ledger_that_refuses,
    loop_repo,
    open_gate,
    request,
)

CONSUMED = '{"timestamp":"2026-11-22T08:00:00Z","event":"approval_consumed","run_id":"R1"}'


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return loop_repo(tmp_path / "repo", approval={"status": "pending", "run_id": "R1", "iteration": 3})


def result_of(answer: ControlAnswer) -> ControlResult:
    assert answer.result is not None
    return answer.result


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("wait", [False, True])
async def test_executed_command_is_answered_although_its_record_is_gone(
    repo: Path, tmp_path: Path, control: MakeController, wait: bool
) -> None:
    log = repo / ".superloop/loops/demo/events.jsonl"
    runtime = fake_runtime(tmp_path / "fake", f"echo '{CONSUMED}' >> {log}; rm -rf {tmp_path}/state; echo done")
    manager = control(repo, runtime)

    answer = await manager.execute(request("approve", wait=wait, idempotencyKey="k"))

    expected = ControlStatus.CONFIRMED if wait else ControlStatus.EXECUTED_UNCONFIRMED
    assert (result_of(answer).status, result_of(answer).command_output) == (expected, "done")


async def test_confirmation_that_cannot_be_recorded_is_answered_all_the_same(
    repo: Path, tmp_path: Path, control: MakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = repo / ".superloop/loops/demo/events.jsonl"
    manager = control(repo, fake_runtime(tmp_path / "fake", f"echo '{CONSUMED}' >> {log}"))

    def fail(*_: object) -> None:
        raise StoreUnusable("the disk is gone")

    monkeypatch.setattr(Ledger, "update", fail)
    answer = await manager.execute(request("approve", wait=True, idempotencyKey="k"))

    assert result_of(answer).status is ControlStatus.CONFIRMED
    known = manager.lookup("demo", "k")
    assert known is not None
    assert result_of(known).status is ControlStatus.EXECUTED_UNCONFIRMED


async def test_without_its_folder_nothing_is_done_and_nothing_claimed_to_be_known(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    manager = control(repo, runtime)
    await manager.execute(request("approve", idempotencyKey="k"))
    shutil.rmtree(tmp_path / "state")

    for key in ("k", "another"):
        with pytest.raises(StoreUnusable, match=r"^no effect: .*No such file"):
            await manager.execute(request("approve", idempotencyKey=key))
        with pytest.raises(StoreUnusable, match=r"^the record of control requests cannot be used"):
            manager.lookup("demo", key)
    with pytest.raises(NotReady, match="cannot be used"):
        manager.check_ready()
    assert len(effects(runtime)) == 1


async def test_beginning_that_cannot_be_recorded_leaves_the_key_unused(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    manager = control(repo, runtime)
    for what in ("INSERT", "UPDATE"):
        with (
            ledger_that_refuses(tmp_path / "state", what),
            pytest.raises(StoreUnusable, match=r"^no effect: .*disk is full"),
        ):
            await manager.execute(request("approve", idempotencyKey=what))

    assert effects(runtime) == []
    assert manager.lookup("demo", "INSERT") is None
    assert (await manager.execute(request("approve", idempotencyKey="INSERT"))).ok


async def test_claim_that_cannot_be_given_back_ends_with_its_holder(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    manager = control(repo, runtime)
    with ledger_that_refuses(tmp_path / "state", "UPDATE"), pytest.raises(StoreUnusable):
        await manager.execute(request("approve", idempotencyKey="k"))

    manager.close()

    assert (await control(repo, runtime).execute(request("approve", idempotencyKey="k"))).ok
    assert len(effects(runtime)) == 1


async def test_claim_that_could_not_be_given_back_is_no_longer_in_flight_and_can_be_made_again(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    manager = control(repo, runtime)
    with ledger_that_refuses(tmp_path / "state", "UPDATE"):
        with pytest.raises(StoreUnusable):
            await manager.execute(request("approve", idempotencyKey="k"))
        assert manager.lookup("demo", "k") is None

    assert (await manager.execute(request("approve", idempotencyKey="k"))).ok
    assert len(effects(runtime)) == 1


async def test_result_that_cannot_be_recorded_is_answered_and_recorded_later(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake", GATED)
    manager, another = control(repo, runtime), control(repo, runtime)
    answering = asyncio.create_task(manager.execute(request("approve", idempotencyKey="k")))
    await eventually(lambda: effects(runtime), "the command runs")
    with ledger_that_refuses(tmp_path / "state", "UPDATE"):
        open_gate(runtime)
        answer = await answering
        known = manager.lookup("demo", "k")
        with pytest.raises(InFlight):
            another.lookup("demo", "k")
        with pytest.raises(StoreUnusable, match="no effect"):
            await manager.execute(request("approve", idempotencyKey="k"))

    assert result_of(answer).status is ControlStatus.EXECUTED_UNCONFIRMED
    assert known is not None
    assert known.result == answer.result
    assert (await manager.execute(request("approve", idempotencyKey="k"))).result == answer.result
    assert another.lookup("demo", "k") == known
    assert len(effects(runtime)) == 1


async def test_record_that_others_keep_to_themselves_is_a_reason_to_ask_again(
    repo: Path, tmp_path: Path, control: MakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.05)
    runtime = fake_runtime(tmp_path / "fake")
    manager = control(repo, runtime)
    with (
        ledger_kept(tmp_path / "state"),
        pytest.raises(StoreUnusable, match=r"^no effect: .*locked.*try again") as busy,
    ):
        await manager.execute(request("approve", idempotencyKey="k"))

    assert HTTP_STATUS[busy.value.code] == 503
    assert effects(runtime) == []
    assert (await manager.execute(request("approve", idempotencyKey="k"))).ok


async def test_damaged_file_of_records_runs_nothing_and_says_what_to_do(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    manager = control(repo, runtime)
    (path,) = (tmp_path / "state").glob("*/control/ledger.sqlite3")
    path.write_bytes(b"no database" * 1000)

    with pytest.raises(StoreUnusable, match=r"^no effect: .*not a database.*damaged.*move it aside"):
        await manager.execute(request("approve", idempotencyKey="k"))
    with pytest.raises(StoreUnusable, match="damaged"):
        control(repo, runtime)

    assert effects(runtime) == []


async def test_records_of_a_newer_version_are_left_alone(repo: Path, tmp_path: Path, control: MakeController) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    control(repo, runtime)
    change_ledger(tmp_path / "state", "PRAGMA user_version = 2")

    with pytest.raises(StoreUnusable, match="newer version"):
        control(repo, runtime)


def test_processes_that_start_at_once_all_get_the_ledger(tmp_path: Path) -> None:
    start = f"from pathlib import Path; from sprite.control.ledger import Ledger; Ledger(Path({str(tmp_path)!r}))"
    started = [subprocess.Popen([sys.executable, "-c", start], cwd=ROOT) for _ in range(4)]

    assert [process.wait(timeout=60) for process in started] == [0, 0, 0, 0]


async def test_command_that_cannot_be_audited_is_not_run(
    repo: Path, tmp_path: Path, control: MakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    manager = control(repo, runtime)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(StoreUnusable, match=r"^no effect: the audit log .*No space left"):
            await manager.execute(request("approve", idempotencyKey="k"))

    assert effects(runtime) == []
    assert manager.lookup("demo", "k") is None
    assert (await manager.execute(request("approve", idempotencyKey="k"))).ok


async def test_audit_log_that_cannot_be_opened_is_not_ready(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    manager = control(repo, fake_runtime(tmp_path / "fake"))
    (folder,) = (tmp_path / "state").glob("*/control")
    (folder / "control-invocations.jsonl").mkdir()

    with pytest.raises(NotReady, match="audit log of control cannot be used"):
        manager.check_ready()
