"""One idempotency key, one effect: concurrent, repeated, for something else, failed, killed in between (D12)."""

import asyncio
import errno
import selectors
import signal
from pathlib import Path
from typing import NoReturn

import pytest

from contract.control import ControlStatus
from sprite.control import (
    BinaryUnusable,
    BrokenBefore,
    InFlight,
    KeyReused,
    PreconditionFailed,
    StoreUnusable,
    command,
    execution,
)
from tests.control.conftest import MakeController
from tests.control.support import (
    another_process,
    change_ledger,
    effects,
    fake_runtime,
    is_in_flight,
    loop_repo,
    request,
)
from tests.standin.support import until

ASKED = request("approve", idempotencyKey="k")
AS_ANA = request("approve", idempotencyKey="k", by="ana")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return loop_repo(tmp_path / "repo", approval={"status": "pending", "run_id": "R1", "iteration": 3})


def shortage(*_: object) -> NoReturn:
    raise OSError(errno.EMFILE, "Too many open files")


async def test_d12_four_concurrent_requests_of_one_key_are_one_execution(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake", "sleep 0.2")
    managers = [control(repo, runtime) for _ in range(4)]

    answers = await asyncio.gather(*(manager.execute(ASKED) for manager in managers), return_exceptions=True)

    executed = [answer for answer in answers if not isinstance(answer, BaseException)]
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(effects(runtime)) == 1
    assert len(executed) >= 1
    assert all(isinstance(refusal, InFlight) for refusal in refused)
    assert all(refusal.fields["retryAfterSeconds"] > 0 for refusal in refused if isinstance(refusal, InFlight))


async def test_d12_repetition_gets_the_first_answer_marked_as_replayed(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake", "echo done")
    first = await control(repo, runtime).execute(request("approve", idempotencyKey="k", traceId="t1", by="ana"))

    again = await control(repo, runtime).execute(request("approve", idempotencyKey="k", traceId="t2", by="ana"))

    assert (first.replayed, again.replayed) == (False, True)
    assert again.model_copy(update={"replayed": False}) == first
    assert len(effects(runtime)) == 1


async def test_d12_repetition_by_somebody_else_is_told_whose_request_was_executed(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    await control(repo, runtime).execute(request("approve", idempotencyKey="k", by="ana", note="ship it"))

    again = await control(repo, runtime).execute(request("approve", idempotencyKey="k", by="bo", note="after friday"))

    assert (again.replayed, again.result.requested_by, again.result.note) == (True, "ana", "ship it")
    assert len(effects(runtime)) == 1


@pytest.mark.parametrize(
    "other",
    [
        request("reject", idempotencyKey="k"),
        request("cancel", idempotencyKey="k"),
        request("approve", idempotencyKey="k", expect={"runId": "R1"}),
    ],
)
async def test_d12_key_used_for_something_else_is_refused(
    repo: Path, tmp_path: Path, control: MakeController, other: object
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    await control(repo, runtime).execute(ASKED)

    with pytest.raises(KeyReused, match="no effect") as refusal:
        await control(repo, runtime).execute(other)  # type: ignore[arg-type]

    assert refusal.value.fields["first"] == {"loopId": "demo", "intent": "approve"}
    assert len(effects(runtime)) == 1


async def test_d12_same_key_for_another_loop_is_another_request(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    await control(repo, runtime).execute(ASKED)

    answer = await control(repo, runtime).execute(request("approve", "other", idempotencyKey="k"))

    assert not answer.replayed
    assert len(effects(runtime)) == 2


async def test_d12_failed_command_is_replayed_as_the_failure_it_was(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake", "echo error: not pending >&2; exit 1")
    await control(repo, runtime).execute(ASKED)

    again = await control(repo, runtime).execute(ASKED)

    assert (again.ok, again.exit_code, again.replayed) == (False, 1, True)
    assert again.result is not None
    assert again.result.status is ControlStatus.FAILED_COMMAND
    assert len(effects(runtime)) == 1


async def test_d12_failure_before_any_effect_may_be_retried_under_the_same_key(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    script = runtime.read_bytes()
    runtime.write_bytes(b"\x00not a program")
    with pytest.raises(BinaryUnusable, match="no effect"):
        await control(repo, runtime).execute(ASKED)
    runtime.write_bytes(script)

    answer = await control(repo, runtime).execute(ASKED)

    assert (answer.ok, answer.replayed) == (True, False)
    assert len(effects(runtime)) == 1


async def test_d12_shortage_before_the_start_is_no_effect_and_gives_the_key_back(
    repo: Path, tmp_path: Path, control: MakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    manager = control(repo, runtime)
    with monkeypatch.context() as patch:
        patch.setattr(selectors, "DefaultSelector", shortage)
        with pytest.raises(BinaryUnusable, match=r"no effect.*Too many open files"):
            await manager.execute(ASKED)

    assert effects(runtime) == []
    assert not (await manager.execute(ASKED)).replayed


async def test_d12_failure_after_the_start_is_ambiguous_and_keeps_the_key(
    repo: Path, tmp_path: Path, control: MakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = fake_runtime(tmp_path / "fake", "sleep 60")
    manager = control(repo, runtime)

    def watch(*_: object) -> bool:
        until(lambda: effects(runtime), "the command has its effect")
        return bool(shortage())

    with monkeypatch.context() as patch:
        patch.setattr(command._Output, "read_until_exit", watch)
        first = await manager.execute(ASKED)
    again = await manager.execute(ASKED)

    for answer in (first, again):
        assert answer.result is not None
        assert (answer.ok, answer.result.status) == (False, ControlStatus.AMBIGUOUS)
        assert answer.result.confirm == {"confirmed": False, "stage": "unknown", "reason": "command_lost"}
    assert again.replayed
    assert len(effects(runtime)) == 1


async def test_d12_unforeseen_failure_before_the_command_is_no_effect(
    repo: Path, tmp_path: Path, control: MakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    manager = control(repo, runtime)
    with monkeypatch.context() as patch:
        patch.setattr(execution, "child_environment", shortage)
        with pytest.raises(BrokenBefore, match="no effect: OSError"):
            await manager.execute(ASKED)

    assert effects(runtime) == []
    assert not (await manager.execute(ASKED)).replayed


async def test_d12_refused_precondition_leaves_the_key_unused(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    with pytest.raises(PreconditionFailed):
        await control(repo, runtime).execute(request("approve", idempotencyKey="k", expect={"runId": "R0"}))

    assert control(repo, runtime).lookup("demo", "k") is None
    assert (await control(repo, runtime).execute(ASKED)).ok


async def test_d12_key_is_in_flight_in_every_process_while_the_command_runs(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake", 'while [ ! -e "$HERE/go" ]; do sleep 0.02; done')
    manager = control(repo, runtime)
    other = another_process(repo, runtime, tmp_path / "state")
    until(lambda: effects(runtime), "the other process runs the command")

    with pytest.raises(InFlight):
        await manager.execute(ASKED)
    with pytest.raises(InFlight):
        manager.lookup("demo", "k")

    (tmp_path / "fake" / "go").touch()
    out, errors = other.communicate(timeout=20)
    assert out == "executed_unconfirmed\n", errors
    assert (await manager.execute(ASKED)).replayed
    assert len(effects(runtime)) == 1


DECIDED = (
    '{"status":"approved","run_id":"R1","iteration":3,'
    """"decision":{"status":"approved","by":"%s","note":null,"at":"'$(date -u +%%FT%%TZ)'"}}"""
)


@pytest.mark.parametrize(
    ("left_behind", "status", "ran"),
    [
        (DECIDED % "ana", ControlStatus.EXECUTED_UNCONFIRMED, 1),
        ("", ControlStatus.AMBIGUOUS, 1),
        ('{"status":"appro', ControlStatus.AMBIGUOUS, 1),
        (None, ControlStatus.EXECUTED_UNCONFIRMED, 2),
        (DECIDED % "bo", ControlStatus.EXECUTED_UNCONFIRMED, 2),
    ],
    ids=["its_decision", "an_empty_file", "half_a_file", "nothing", "the_decision_of_another"],
)
async def test_d12_service_killed_while_its_command_runs_is_judged_by_what_the_command_left_behind(
    repo: Path, tmp_path: Path, control: MakeController, left_behind: str | None, status: ControlStatus, ran: int
) -> None:
    """D12: whatever shows that it was done, or cannot be decided, is never run again; what was not done may be."""
    approval = repo / ".superloop/loops/demo/approval.json"
    write = "" if left_behind is None else f"printf %s '{left_behind}' > {approval}"
    again = '[ -e "$HERE/over" ] && exit 0'
    runtime = fake_runtime(
        tmp_path / "fake", f'{again}; while [ ! -e "$HERE/go" ]; do sleep 0.02; done; {write}\ntouch "$HERE/over"'
    )
    manager = control(repo, runtime)
    other = another_process(repo, runtime, tmp_path / "state")
    until(lambda: effects(runtime), "the other process runs the command")
    other.send_signal(signal.SIGKILL)
    other.communicate()

    with pytest.raises(InFlight):
        await manager.execute(AS_ANA)  # the orphaned command still runs
    with pytest.raises(InFlight):
        manager.lookup("demo", "k")

    (tmp_path / "fake" / "go").touch()
    until((tmp_path / "fake" / "over").exists, "the orphaned command has ended")
    until(lambda: not is_in_flight(manager, "k"), "its claim is free")
    found = manager.lookup("demo", "k")
    answer = await manager.execute(AS_ANA)

    assert (found is None, answer.replayed) == (ran == 2, ran == 1)
    assert answer.result.status is status
    assert len(effects(runtime)) == ran
    if ran == 1:
        assert found == answer
        confirm = answer.result.confirm or {}
        assert confirm["stage"] == ("unknown" if status is ControlStatus.AMBIGUOUS else "recorded")


async def test_commands_of_one_repo_never_run_at_the_same_time(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(
        tmp_path / "fake", 'mkdir "$HERE/alone" || echo overlap >> "$HERE/overlaps"; sleep 0.1; rmdir "$HERE/alone"'
    )
    managers = [control(repo, runtime) for _ in range(4)]

    await asyncio.gather(*(one.execute(request("approve", idempotencyKey=f"k{n}")) for n, one in enumerate(managers)))

    assert len(effects(runtime)) == 4
    assert not (tmp_path / "fake" / "overlaps").exists()


async def test_request_without_a_key_gets_one_of_its_own(repo: Path, tmp_path: Path, control: MakeController) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    manager = control(repo, runtime)

    first, second = await manager.execute(request("approve")), await manager.execute(request("approve"))

    assert first.result is not None
    assert second.result is not None
    assert first.result.idempotency_key != second.result.idempotency_key
    assert first.result.idempotency_key is not None
    assert first.result.idempotency_key.startswith("approve-")
    assert len(effects(runtime)) == 2


async def test_lookup_tells_what_was_done_and_by_whom(repo: Path, tmp_path: Path, control: MakeController) -> None:
    manager = control(repo, fake_runtime(tmp_path / "fake"))
    assert manager.lookup("demo", "k") is None
    await manager.execute(request("approve", idempotencyKey="k", by="ana"))

    known = manager.lookup("demo", "k")

    assert known is not None
    assert known.result is not None
    assert (known.result.requested_by, known.replayed) == ("ana", True)
    assert manager.lookup("other", "k") is None


async def test_damaged_record_runs_nothing_and_says_where_it_is(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    manager = control(repo, runtime)
    await manager.execute(ASKED)
    change_ledger(tmp_path / "state", "UPDATE claims SET record = '{}'")

    with pytest.raises(StoreUnusable, match=r"no effect.*another key"):
        await manager.execute(ASKED)

    assert len(effects(runtime)) == 1


async def test_records_are_readable_by_their_owner_only(repo: Path, tmp_path: Path, control: MakeController) -> None:
    await control(repo, fake_runtime(tmp_path / "fake")).execute(ASKED)

    files = list((tmp_path / "state").rglob("control/*"))

    assert files
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
