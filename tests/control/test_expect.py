"""`expect`: compare-and-swap against what is on disk right before the command."""

import hashlib
import re
from pathlib import Path

import pytest

from contract.intents import Expect
from sprite.control import PreconditionFailed
from sprite.control.situation import addressed_by_cancel
from sprite.reader import SpriteReader
from tests.control.conftest import MakeController
from tests.control.support import append, effects, fake_runtime, loop_repo, request, write_state
from tests.standin.support import Sandboxes, at_work

PENDING = {"status": "pending", "run_id": "R1", "iteration": 3}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return loop_repo(tmp_path / "repo", approval=PENDING)


def approval_hash(repo: Path) -> str:
    return hashlib.sha256((repo / ".superloop/loops/demo/approval.json").read_bytes()).hexdigest()


async def test_every_precondition_that_holds_lets_the_command_run(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    sprite_id = SpriteReader(repo, state_dir=tmp_path / "state").sprite_id
    expect = {"spriteId": sprite_id, "runId": "R1", "iteration": 3, "approvalSha256": approval_hash(repo)[:8]}

    answer = await control(repo, runtime).execute(request("approve", expect=expect))

    assert answer.ok


@pytest.mark.parametrize(
    ("expect", "differing"),
    [
        ({"spriteId": "another"}, ["spriteId"]),
        ({"runId": "R0"}, ["runId"]),
        ({"iteration": 2}, ["iteration"]),
        ({"approvalSha256": "0" * 64}, ["approvalSha256"]),
        ({"runId": "R0", "iteration": 3, "approvalSha256": "00000000"}, ["runId", "approvalSha256"]),
    ],
)
async def test_every_precondition_that_differs_refuses_with_the_current_values(
    repo: Path, tmp_path: Path, control: MakeController, expect: dict[str, object], differing: list[str]
) -> None:
    runtime = fake_runtime(tmp_path / "fake")
    manager = control(repo, runtime)

    with pytest.raises(PreconditionFailed, match="no effect") as refusal:
        await manager.execute(request("reject", expect=expect))

    current = refusal.value.fields["current"]
    assert refusal.value.fields["differing"] == differing
    assert (current["runId"], current["iteration"], current["approvalStatus"]) == ("R1", 3, "pending")
    assert current["approvalSha256"] == approval_hash(repo)
    assert effects(runtime) == []


async def test_approval_that_is_gone_matches_no_expectation(
    repo: Path, tmp_path: Path, control: MakeController
) -> None:
    (repo / ".superloop/loops/demo/approval.json").unlink()

    with pytest.raises(PreconditionFailed, match=re.escape("runId is None")):
        await control(repo, fake_runtime(tmp_path / "fake")).execute(request("approve", expect={"runId": "R1"}))


async def test_cancel_expects_the_run_of_the_last_loop_start(sandbox: Sandboxes, control: MakeController) -> None:
    repo, run = at_work(sandbox)
    manager = control(repo.repo, repo.runtime)
    with pytest.raises(PreconditionFailed):
        await manager.execute(request("cancel", expect={"runId": "2020-01-01T00:00:00Z"}))
    assert run.poll() is None

    answer = await manager.execute(request("cancel", expect={"runId": repo.events()[0]["run_id"], "iteration": 1}))

    assert answer.ok
    assert run.wait(timeout=10) == 143


def test_last_loop_start_is_found_behind_megabytes_of_other_events(repo: Path) -> None:
    append(repo, {"event": "loop_start", "run_id": "R2", "iteration": 1})
    append(repo, *[{"event": "role_end", "run_id": "R2", "data": {"says": "loop_start " + "x" * 5_000}}] * 400)
    write_state(repo, active=True, iteration=7)

    addressed = addressed_by_cancel(repo, "demo", Expect())

    assert (addressed.run_id, addressed.iteration) == ("R2", 7)


def test_loop_start_still_being_written_is_not_seen(repo: Path) -> None:
    with (repo / ".superloop/loops/demo/events.jsonl").open("a") as log:
        log.write('{"timestamp":"2026-11-22T08:00:00Z","event":"loop_start","run_id":"R2"}')

    assert addressed_by_cancel(repo, "demo", Expect()).run_id == "R1"


@pytest.mark.parametrize("content", ["", "\n", "garbage\n", '{"event":"loop_start"}\n'])
def test_log_without_a_usable_loop_start_names_no_run(repo: Path, content: str) -> None:
    (repo / ".superloop/loops/demo/events.jsonl").write_text(content)

    assert addressed_by_cancel(repo, "demo", Expect()).run_id is None
