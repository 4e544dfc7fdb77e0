"""Cancel acts on a whole repo: it hits the target and no neighbour, or nothing (D6, D17)."""

import signal

import pytest

from contract.control import ControlStatus
from sprite.control import NothingToCancel, OtherLoopActive, PreconditionFailed
from sprite.errors import SpriteError
from tests.control.conftest import MakeController
from tests.control.support import effects, fake_runtime, loop_repo, request, write_active_run, write_state
from tests.standin.support import Sandbox, Sandboxes, at_work, bystander, is_alive, only, until

HANG = {"outcome": "hang"}
TWO_LOOPS = {"loops": {"demo": {"runs": [{"iterations": [HANG]}]}, "other": {"runs": [{"iterations": [HANG]}]}}}


def crashed(sandbox: Sandboxes) -> Sandbox:
    """A repo whose run was killed: state stays active, active-run.json names a dead pid."""
    repo, run = at_work(sandbox)
    run.send_signal(signal.SIGKILL)
    run.wait()
    return repo


async def test_cancel_of_a_running_loop_ends_it_and_is_confirmed_by_its_process(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo, run = at_work(sandbox)

    answer = await control(repo.repo, repo.runtime).execute(request("cancel", by="ana", wait=True))

    assert run.wait(timeout=10) == 143
    assert answer.ok
    assert answer.result is not None
    assert answer.result.status is ControlStatus.CONFIRMED
    assert answer.result.requested_by == "ana"
    assert answer.result.confirm is not None
    assert answer.result.confirm["stage"] == "confirmed"
    assert answer.result.confirm["reason"] == "inactive_not_running"
    assert repo.state() is None


async def test_d17_cancel_of_loop_a_while_b_runs_is_refused_and_b_lives(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = sandbox(TWO_LOOPS)
    run = repo.start("--loop", "other")
    repo.until_role("implementer", "other")

    with pytest.raises(OtherLoopActive, match=rf"no effect.*'other' is run by pid {run.pid}") as refusal:
        await control(repo.repo, repo.runtime).execute(request("cancel", "demo"))

    assert run.poll() is None
    assert repo.state()["active"] is True
    assert refusal.value.fields["current"]["runs"] == [{"pid": run.pid, "loopId": "other"}]


async def test_d17_crashed_run_is_cleared_and_nothing_is_killed(sandbox: Sandboxes, control: MakeController) -> None:
    repo = crashed(sandbox)

    with bystander() as innocent:
        answer = await control(repo.repo, repo.runtime).execute(request("cancel", wait=True))

        assert innocent.poll() is None
    assert answer.result is not None
    assert answer.result.status is ControlStatus.CONFIRMED
    assert repo.state() is None
    assert repo.active_run() is None
    assert repo.start("--loop", "demo").poll() is None, "a new run is accepted again"


async def test_d17_stale_pid_of_another_repos_run_is_refused_and_the_neighbour_lives(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = crashed(sandbox)
    neighbour = sandbox(only("demo", HANG), name="neighbour")
    run = neighbour.start("--loop", "demo")
    neighbour.until_role("implementer")
    write_active_run(repo.repo, run.pid)

    with pytest.raises(OtherLoopActive, match=r"no effect.*a run of another repo.*remove .superloop/active-run.json"):
        await control(repo.repo, repo.runtime).execute(request("cancel"))

    assert run.poll() is None
    assert repo.state()["active"] is True

    (repo.root / "active-run.json").unlink()
    answer = await control(repo.repo, repo.runtime).execute(request("cancel"))
    assert answer.ok, "done as told, the crash can be cleared"
    assert run.poll() is None


async def test_d17_stale_pid_of_another_program_is_left_alone_while_the_crash_is_cleared(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = crashed(sandbox)
    with bystander() as innocent:
        write_active_run(repo.repo, innocent.pid)

        answer = await control(repo.repo, repo.runtime).execute(request("cancel", wait=True))

        assert innocent.poll() is None
    assert answer.ok
    assert repo.state() is None


async def test_d17_stale_pid_of_another_program_without_a_crashed_run_is_refused(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = sandbox(only("demo", {"outcome": "candidate"}))
    repo.run("run", "--loop", "demo")
    with bystander() as innocent:
        write_active_run(repo.repo, innocent.pid)

        with pytest.raises(NothingToCancel, match="no effect"):
            await control(repo.repo, repo.runtime).execute(request("cancel"))

        assert innocent.poll() is None


async def test_crashed_run_of_another_loop_is_not_cleared(sandbox: Sandboxes, control: MakeController) -> None:
    repo = crashed(sandbox)

    with pytest.raises(OtherLoopActive, match="a crashed run of 'demo'"):
        await control(repo.repo, repo.runtime).execute(request("cancel", "other"))

    assert repo.state()["active"] is True


async def test_loop_waiting_for_approval_has_nothing_to_cancel(sandbox: Sandboxes, control: MakeController) -> None:
    repo = sandbox(only("demo", {"outcome": "candidate"}, approval_required=True))
    repo.run("run", "--loop", "demo")

    with pytest.raises(NothingToCancel, match="approve or reject it instead"):
        await control(repo.repo, repo.runtime).execute(request("cancel"))

    assert repo.state() is not None
    assert repo.read("loops/demo/approval.json")["status"] == "pending"


async def test_repo_in_which_nothing_ever_ran_has_nothing_to_cancel(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = sandbox()

    with pytest.raises(NothingToCancel):
        await control(repo.repo, repo.runtime).execute(request("cancel"))


async def test_two_live_runs_and_active_run_names_the_other_one_refuses(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = sandbox(TWO_LOOPS)
    first = repo.start("--loop", "demo")
    repo.until_role("implementer")
    write_state(repo.repo, active=False)
    second = repo.start("--loop", "other")
    repo.until_role("implementer", "other")

    with pytest.raises(OtherLoopActive, match=rf"several runs share this repo.*names pid {second.pid}"):
        await control(repo.repo, repo.runtime).execute(request("cancel", "demo"))

    assert first.poll() is None
    assert second.poll() is None


async def test_live_run_that_active_run_does_not_name_is_not_half_cancelled(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo, run = at_work(sandbox)
    (repo.root / "active-run.json").unlink()

    with pytest.raises(PreconditionFailed, match=rf"no effect.*active-run.json is missing.*kill {run.pid}"):
        await control(repo.repo, repo.runtime).execute(request("cancel"))

    assert run.poll() is None
    assert repo.state()["active"] is True


async def test_run_that_ended_by_itself_during_the_cancel_is_said_to(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo, run = at_work(sandbox)
    home = repo.root / "loops" / "demo"
    run_id = repo.events()[0]["run_id"]
    ended = f'{{"timestamp":"2026-11-22T08:00:00Z","event":"loop_stop","run_id":"{run_id}"}}'
    ending = fake_runtime(
        repo.repo.parent / "ending",
        f"kill {run.pid}; rm {repo.root}/state.json; echo '{ended}' >> {home}/events.jsonl",
    )

    answer = await control(repo.repo, ending).execute(request("cancel", wait=True))

    assert run.wait(timeout=10) == 143
    assert answer.result is not None
    assert answer.result.confirm is not None
    assert answer.result.confirm["reason"] == "ended_by_itself"
    assert answer.result.confirm["evidenceLine"] == len(repo.lines())


async def test_cancelled_run_stays_cancelled_whatever_a_later_run_does(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo, _ = at_work(sandbox)
    manager = control(repo.repo, repo.runtime, confirm_timeout_s=0.5)
    await manager.execute(request("cancel", idempotencyKey="k"))
    before = len(repo.lines())
    repo.start("--loop", "demo")
    until(lambda: len(repo.lines()) > before + 1 and repo.state(), "a later run is active")

    again = await manager.execute(request("cancel", idempotencyKey="k", noConfirm=False))

    assert (again.replayed, again.result.status) == (True, ControlStatus.CONFIRMED)
    confirm = again.result.confirm or {}
    assert (confirm["reason"], confirm["evidenceLine"]) == ("later_run_started", before + 1)


async def test_what_is_on_record_is_never_made_less_by_a_later_look(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo, run = at_work(sandbox)
    manager = control(repo.repo, fake_runtime(repo.repo.parent / "idle"), confirm_timeout_s=0.2)
    await manager.execute(request("cancel", idempotencyKey="k"))

    again = await manager.execute(request("cancel", idempotencyKey="k", noConfirm=False))

    assert again.result.status is ControlStatus.AMBIGUOUS
    known = manager.lookup("demo", "k")
    assert known is not None
    assert known.result.status is ControlStatus.EXECUTED_UNCONFIRMED
    assert run.poll() is None


async def test_cancel_that_ends_nothing_is_never_confirmed(sandbox: Sandboxes, control: MakeController) -> None:
    repo, run = at_work(sandbox)
    idle = fake_runtime(repo.repo.parent / "idle", f"rm -f {repo.root}/state.json {repo.root}/active-run.json")

    answer = await control(repo.repo, idle, confirm_timeout_s=0.3).execute(request("cancel", wait=True))

    assert is_alive(run.pid)
    assert answer.result is not None
    assert answer.result.status is ControlStatus.AMBIGUOUS
    assert answer.result.confirm is not None
    assert (answer.result.confirm["stage"], answer.result.confirm["reason"]) == ("recorded", "run_process_still_alive")


async def test_d16_half_written_state_is_read_again_and_refused_when_it_stays(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = sandbox().repo
    loop_repo(repo)
    runtime = fake_runtime(repo.parent / "fake")
    (repo / ".superloop" / "state.json").write_text("")

    with pytest.raises(SpriteError, match=r"no effect.*state.json is empty"):
        await control(repo, runtime).execute(request("cancel"))

    assert effects(runtime) == []


@pytest.mark.parametrize("approval", ["", "{", "[]"])
async def test_cancel_does_not_need_an_approval_that_can_be_read(
    sandbox: Sandboxes, control: MakeController, approval: str
) -> None:
    repo, run = at_work(sandbox)
    (repo.root / "loops/demo/approval.json").write_text(approval)
    run_id = repo.events()[0]["run_id"]

    answer = await control(repo.repo, repo.runtime).execute(request("cancel", expect={"runId": run_id}))

    assert answer.ok
    assert run.wait(timeout=10) == 143


async def test_cancel_that_expects_an_approval_is_refused_when_it_cannot_be_read(
    sandbox: Sandboxes, control: MakeController
) -> None:
    repo = crashed(sandbox)
    (repo.root / "loops/demo/approval.json").write_text("")

    with pytest.raises(SpriteError, match=r"^no effect.*approval.json is empty"):
        await control(repo.repo, repo.runtime).execute(request("cancel", expect={"approvalSha256": "0" * 8}))

    assert repo.state()["active"] is True


async def test_cancel_does_not_need_an_event_log_that_can_be_read(sandbox: Sandboxes, control: MakeController) -> None:
    repo = crashed(sandbox)
    log = repo.root / "loops/demo/events.jsonl"
    log.unlink()
    log.mkdir()
    manager = control(repo.repo, repo.runtime)
    for expect in ({"runId": "R1"}, {"iteration": 1}):
        with pytest.raises(SpriteError, match=r"^no effect.*events.jsonl is not a regular file"):
            await manager.execute(request("cancel", expect=expect))
    assert repo.state()["active"] is True

    answer = await manager.execute(request("cancel", wait=True))

    assert answer.result.status is ControlStatus.CONFIRMED
    assert repo.state() is None


async def test_cancel_needs_no_event_log(sandbox: Sandboxes, control: MakeController) -> None:
    repo = sandbox().repo
    write_state(repo, active=True)
    runtime = fake_runtime(repo.parent / "fake", f"rm {repo}/.superloop/state.json")

    answer = await control(repo, runtime).execute(request("cancel", wait=True))

    assert answer.result is not None
    assert answer.result.status is ControlStatus.CONFIRMED
    assert not (repo / ".superloop" / "loops").exists(), "nothing is created on the way"
