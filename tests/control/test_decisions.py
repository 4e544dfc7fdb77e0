"""Approve and reject: recorded by the command, confirmed only by evidence that comes after it (D7, D18)."""

import asyncio
import time

import pytest

from contract.control import CommandAnswer, ControlAnswer, ControlRequest, ControlResult, ControlStatus
from sprite.control import Busy, SpriteController
from tests.control.conftest import MakeController
from tests.control.support import append, effects, eventually, fake_runtime, loop_repo, request
from tests.standin.support import Sandbox, Sandboxes, only, until

PENDING = {"status": "pending", "run_id": "R1", "iteration": 3}
RECORD = "echo recorded"


def waiting(sandbox: Sandboxes, *iterations: dict[str, str]) -> Sandbox:
    """A repo whose loop waits for an approval."""
    repo = sandbox(only("demo", *(iterations or ({"outcome": "candidate"},)), approval_required=True))
    repo.run("run", "--loop", "demo")
    assert repo.read("loops/demo/approval.json")["status"] == "pending"
    return repo


def result_of(answer: ControlAnswer) -> ControlResult:
    assert answer.result is not None
    return answer.result


def stage_of(answer: ControlAnswer) -> tuple[str, str]:
    confirm = result_of(answer).confirm
    assert confirm is not None
    return confirm["stage"], confirm["reason"]


async def test_d7_approve_without_confirmation_is_executed_and_shown_as_recorded(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = waiting(sandbox)

    answer = await control(repo.repo, repo.runtime).execute(request("approve", by="ana", note="ship it"))

    result = result_of(answer)
    assert (answer.ok, answer.exit_code, result.status) == (True, 0, ControlStatus.EXECUTED_UNCONFIRMED)
    assert result.command_output == "Recorded approval decision (approved) for loop 'demo'."
    assert result.confirm is None
    decision = repo.read("loops/demo/approval.json")["decision"]
    assert (decision["by"], decision["note"]) == ("ana", "ship it")


async def test_d7_approve_is_confirmed_when_the_next_run_consumes_it(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = waiting(sandbox)
    waits = asyncio.create_task(control(repo.repo, repo.runtime).execute(request("approve", wait=True)))
    await eventually(lambda: "approval_decision" in repo.names(), "the decision is recorded")
    repo.start("--loop", "demo")

    answer = await asyncio.wait_for(waits, 15)

    assert result_of(answer).status is ControlStatus.CONFIRMED
    assert stage_of(answer) == ("confirmed", "approval_consumed_observed")
    assert repo.names()[(result_of(answer).confirm or {})["evidenceLine"] - 1] == "approval_consumed"


async def test_d7_approve_that_nobody_consumes_is_ambiguous_in_stage_recorded_never_failed(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = waiting(sandbox)

    answer = await control(repo.repo, repo.runtime, confirm_timeout_s=0.3).execute(request("approve", wait=True))

    assert result_of(answer).status is ControlStatus.AMBIGUOUS
    assert (answer.ok, answer.exit_code) == (False, 0)
    assert stage_of(answer) == ("recorded", "approved_not_consumed_yet")
    assert (result_of(answer).confirm or {})["observedApprovalStatus"] == "approved"


async def test_reject_is_confirmed_only_when_the_work_goes_on(sandbox: Sandboxes, control: MakeController) -> None:
    repo = waiting(sandbox, {"outcome": "candidate"}, {"outcome": "hang"})
    waits = asyncio.create_task(control(repo.repo, repo.runtime).execute(request("reject", wait=True)))
    await eventually(lambda: "approval_decision" in repo.names(), "the decision is recorded")
    repo.start("--loop", "demo")

    answer = await asyncio.wait_for(waits, 15)

    assert stage_of(answer) == ("confirmed", "rejection_observed")
    assert repo.names()[(result_of(answer).confirm or {})["evidenceLine"] - 1] == "iteration_start"


async def test_reject_whose_run_dies_before_its_first_iteration_is_not_confirmed(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = loop_repo(sandbox().repo, approval=PENDING)
    log = repo / ".superloop/loops/demo/events.jsonl"
    after = '{"timestamp":"2026-11-22T08:00:00Z","event":"%s","run_id":"R2"}'
    runtime = fake_runtime(
        repo.parent / "fake",
        f"echo '{after % 'loop_start'}' >> {log}; echo '{after % 'approval_rejected'}' >> {log}",
    )

    answer = await control(repo, runtime, confirm_timeout_s=0.3).execute(request("reject", wait=True))

    assert stage_of(answer) == ("recorded", "rejected_not_continued_yet")


@pytest.mark.parametrize("intent", ["approve", "reject"])
async def test_d18_events_of_an_earlier_decision_never_confirm(
    sandbox: Sandboxes, control: MakeController, intent: str
) -> None:
    repo = loop_repo(sandbox().repo, approval=PENDING)
    append(
        repo,
        {"event": "approval_consumed", "run_id": "R1"},
        {"event": "approval_rejected", "run_id": "R1"},
        {"event": "iteration_start", "run_id": "R1"},
        {"event": "loop_complete", "run_id": "R1"},
    )

    answer = await control(repo, fake_runtime(repo.parent / "fake", RECORD), confirm_timeout_s=0.2).execute(
        request(intent, wait=True)
    )

    assert result_of(answer).status is ControlStatus.AMBIGUOUS


async def test_d18_approve_is_not_confirmed_by_the_consumption_of_another_runs_approval(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = loop_repo(sandbox().repo, approval=PENDING)
    log = repo / ".superloop/loops/demo/events.jsonl"
    other = '{"timestamp":"2026-11-22T08:00:00Z","event":"loop_complete","run_id":"R9"}'
    runtime = fake_runtime(repo.parent / "fake", f"echo '{other}' >> {log}")

    answer = await control(repo, runtime, confirm_timeout_s=0.2).execute(request("approve", wait=True))

    assert stage_of(answer) == ("recorded", "approved_not_consumed_yet")


async def test_d18_approve_with_nothing_pending_fails_with_the_runtimes_reason(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = sandbox(only("demo", {"outcome": "candidate"}))
    repo.run("run", "--loop", "demo")

    answer = await control(repo.repo, repo.runtime).execute(request("approve", wait=True))

    result = result_of(answer)
    assert (answer.ok, answer.exit_code, result.status) == (False, 1, ControlStatus.FAILED_COMMAND)
    assert result.command_output == "error: no approval request found for loop 'demo'"
    assert result.confirm is None


async def test_late_evidence_upgrades_what_is_recorded_under_the_key(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = waiting(sandbox)
    manager = control(repo.repo, repo.runtime, confirm_timeout_s=0.2)
    asked = request("approve", wait=True, idempotencyKey="k")
    assert result_of(await manager.execute(asked)).status is ControlStatus.AMBIGUOUS

    repo.run("run", "--loop", "demo")
    again = await manager.execute(asked)

    assert (again.replayed, result_of(again).status) == (True, ControlStatus.CONFIRMED)
    assert repo.names().count("approval_decision") == 1
    known = manager.lookup("demo", "k")
    assert known is not None
    assert result_of(known).confirmed


async def test_log_replaced_meanwhile_confirms_nothing(sandbox: Sandboxes, control: MakeController) -> None:
    repo = loop_repo(sandbox().repo, approval=PENDING)
    append(repo, *[{"event": "role_start", "run_id": "R1"}] * 5)
    log = repo / ".superloop/loops/demo/events.jsonl"
    runtime = fake_runtime(repo.parent / "fake", f": > {log}")

    answer = await control(repo, runtime, confirm_timeout_s=0.2).execute(request("approve", wait=True))

    assert stage_of(answer) == ("recorded", "cursor_ahead")


async def test_waiting_ends_at_once_when_the_service_stops(sandbox: Sandboxes, control: MakeController) -> None:
    repo = loop_repo(sandbox().repo, approval=PENDING)
    give_up = asyncio.Event()
    manager = control(repo, fake_runtime(repo.parent / "fake", RECORD))
    waits = asyncio.create_task(manager.execute(request("approve", wait=True), give_up=give_up))
    await eventually(lambda: effects(manager.binary), "the command runs")
    started = time.monotonic()
    give_up.set()

    answer = await waits

    assert time.monotonic() - started < 15
    assert stage_of(answer) == ("recorded", "approved_not_consumed_yet")


async def test_a_hundred_waiting_requests_hold_no_thread_that_another_needs(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = loop_repo(sandbox().repo, approval=PENDING)
    manager = control(repo, fake_runtime(repo.parent / "fake", RECORD))
    first = await manager.execute(request("approve", idempotencyKey="k"))
    give_up = asyncio.Event()
    waits = [
        asyncio.create_task(manager.execute(request("approve", wait=True, idempotencyKey="k"), give_up=give_up))
        for _ in range(30)
    ]
    for _ in range(70):
        await asyncio.sleep(0)
        waits.append(asyncio.create_task(_patient(manager, give_up)))
    started = time.monotonic()

    another = await _patient(manager, None, wait=False)

    assert time.monotonic() - started < 15
    assert another.replayed
    assert not any(wait.done() for wait in waits)
    give_up.set()
    answers = await asyncio.gather(*waits)
    assert {result_of(answer).status for answer in answers} == {ControlStatus.AMBIGUOUS}
    assert first.ok
    assert len(effects(manager.binary)) == 1


async def _patient(manager: SpriteController, give_up: asyncio.Event | None, *, wait: bool = True) -> CommandAnswer:
    """Ask again for as long as the sprite says that it is busy."""
    asked: ControlRequest = request("approve", wait=wait, idempotencyKey="k")
    while True:
        try:
            return await manager.execute(asked, give_up=give_up)
        except Busy:
            await asyncio.sleep(0.05)


async def test_command_over_its_time_is_ambiguous_and_never_confirmed_by_what_follows(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = loop_repo(sandbox().repo, approval=PENDING)
    runtime = fake_runtime(repo.parent / "fake", "sleep 60")

    answer = await control(repo, runtime, command_timeout_s=0.3).execute(request("approve", wait=True))

    result = result_of(answer)
    assert (answer.ok, result.status, result.exit_code) == (False, ControlStatus.AMBIGUOUS, -1)
    assert stage_of(answer) == ("unknown", "command_timed_out")


async def test_cancelled_caller_does_not_lose_what_its_command_did(sandbox: Sandboxes, control: MakeController) -> None:
    repo = loop_repo(sandbox().repo, approval=PENDING)
    manager = control(repo, fake_runtime(repo.parent / "fake", "sleep 0.3"))
    caller = asyncio.create_task(manager.execute(request("approve", idempotencyKey="k")))
    await eventually(lambda: effects(manager.binary), "the command runs")

    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    def known() -> ControlAnswer | None:
        try:
            return manager.lookup("demo", "k")
        except Exception:  # noqa: BLE001  (in flight)
            return None

    answer = until(known, "the result is recorded")
    assert answer is not None
    assert result_of(answer).status is ControlStatus.EXECUTED_UNCONFIRMED
