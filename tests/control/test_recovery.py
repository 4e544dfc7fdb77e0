"""A command whose process was killed with its service: what is told of it, and what is run again."""

import os
import signal
from pathlib import Path

import pytest

from contract.control import ControlStatus
from sprite.control import BinaryUnusable
from sprite.control.steps import AtStep, Step
from tests.control.conftest import MakeController
from tests.control.support import append, audited, effects, fake_runtime, loop_repo, request, write_state
from tests.standin.support import Sandboxes, at_work

CANCEL = request("cancel", idempotencyKey="k", by="ana")
REJECT = request("reject", idempotencyKey="k", by="ana")


class Crash(BaseException):
    """What stands for the end of the service."""


def crash_at(step: Step) -> AtStep:
    def at_step(reached: Step) -> None:
        if reached is step:
            raise Crash

    return at_step


async def test_cancel_that_did_a_part_stays_one_that_was_begun_when_it_cannot_be_finished(
    sandbox: Sandboxes, control: MakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """state.json was deleted, the run lives on: that must not become "nothing was done" by a second try that fails."""
    repo, run = at_work(sandbox)
    monkeypatch.setenv("SUPERLOOP_STANDIN_STOP", "cancel:1:kill")
    with pytest.raises(Crash):
        await control(repo.repo, repo.runtime, at_step=crash_at(Step.ENDED)).execute(CANCEL)
    assert repo.state() is None
    assert run.poll() is None

    manager = control(repo.repo, repo.repo / "moved-away")
    with pytest.raises(BinaryUnusable):
        await manager.execute(CANCEL)
    assert manager.lookup("demo", "k") is None, "it may be sent again"
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    known = manager.lookup("demo", "k")

    assert known is not None
    assert known.result.status is ControlStatus.AMBIGUOUS, "who ended the run is not known"


async def test_lost_cancel_never_ends_a_later_run_whose_log_is_another_one(
    sandbox: Sandboxes, control: MakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = sandbox({"loops": {"demo": {"runs": [{"iterations": [{"outcome": "hang"}]}] * 2}}})
    first = repo.start("--loop", "demo")
    repo.until_role("implementer")
    with pytest.raises(Crash):
        await control(repo.repo, repo.runtime, at_step=crash_at(Step.AUDITED)).execute(CANCEL)
    repo.run("cancel")
    first.wait()
    (repo.root / "loops/demo/events.jsonl").unlink()
    later = repo.start("--loop", "demo")
    repo.until_role("implementer")

    answer = await control(repo.repo, repo.runtime).execute(CANCEL)

    assert later.poll() is None
    assert answer.result.status is ControlStatus.AMBIGUOUS


async def test_events_of_a_longer_log_that_took_the_place_of_the_one_before_are_no_evidence(
    tmp_path: Path, control: MakeController
) -> None:
    repo = loop_repo(tmp_path / "repo", approval={"status": "pending", "run_id": "R1"})
    runtime = fake_runtime(tmp_path / "fake")
    with pytest.raises(Crash):
        await control(repo, runtime, at_step=crash_at(Step.AUDITED)).execute(REJECT)
    (repo / ".superloop/loops/demo/events.jsonl").unlink()
    (repo / ".superloop/loops/demo/approval.json").unlink()
    decision = {"status": "rejected", "by": "ana", "note": None, "at": "2099-01-01T00:00:00Z"}
    append(repo, {"event": "loop_start", "run_id": "R7"}, {"event": "approval_decision", "data": decision})

    answer = await control(repo, runtime).execute(REJECT)

    assert answer.result.status is ControlStatus.AMBIGUOUS
    assert effects(runtime) == []


async def test_command_that_is_run_again_leaves_no_beginning_without_an_end_in_the_audit(
    tmp_path: Path, control: MakeController
) -> None:
    repo = loop_repo(tmp_path / "repo")
    write_state(repo, active=True)
    runtime = fake_runtime(tmp_path / "fake", f"rm {repo}/.superloop/state.json")
    with pytest.raises(Crash):
        await control(repo, runtime, at_step=crash_at(Step.AUDITED)).execute(CANCEL)

    await control(repo, runtime).execute(CANCEL)

    phases = [(one["phase"], one.get("state")) for one in audited(tmp_path / "state")]
    assert phases == [("begun", None), ("settled", "failed"), ("begun", None), ("ended", None)]
