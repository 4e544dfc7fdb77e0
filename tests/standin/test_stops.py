"""Stops in the middle of a command: after each of its effects, with exactly those effects on the disk."""

import signal
import subprocess
from pathlib import Path

import pytest

from sprite.standin.stops import GO_FILE, HELD_FILE, STOP_ENV
from tests.standin.support import Sandbox, Sandboxes, only, until

APPROVE = ("approve", "--loop", "demo", "--by", "ana")
NONE = (False, "pending", 0, False, False)


def waiting(sandbox: Sandboxes, stop: str) -> Sandbox:
    repo = sandbox({**only("demo", {"outcome": "candidate"}, approval_required=True), "stop": stop})
    repo.run("run", "--loop", "demo")
    return repo


def written(repo: Sandbox) -> tuple[bool, str, int, bool, bool]:
    """What an approval has left: half a file beside, status, lines of decisions, text of them, event."""
    folder = repo.root / "loops" / "demo"
    decisions = folder / "decisions.jsonl"
    return (
        (folder / "approval.json.tmp").exists(),
        repo.read("loops/demo/approval.json")["status"],
        len(decisions.read_text().splitlines()) if decisions.exists() else 0,
        (folder / "decisions.md").exists(),
        "approval_decision" in repo.names(),
    )


@pytest.mark.parametrize("command", ["approve", "reject"])
@pytest.mark.parametrize(
    ("effects", "left"),
    [
        (0, NONE),
        (1, (True, "pending", 0, False, False)),
        (2, (False, "DECIDED", 0, False, False)),
        (3, (False, "DECIDED", 1, False, False)),
        (4, (False, "DECIDED", 1, True, False)),
        (5, (False, "DECIDED", 1, True, True)),
    ],
)
def test_decision_killed_after_an_effect_leaves_what_it_had_written(
    sandbox: Sandboxes, command: str, effects: int, left: tuple[bool, str, int, bool, bool]
) -> None:
    repo = waiting(sandbox, f"{command}:{effects}:kill")

    done = repo.run(*APPROVE, *(["--reject"] if command == "reject" else []))

    assert done.returncode == -signal.SIGKILL
    status = left[1].replace("DECIDED", "approved" if command == "approve" else "rejected")
    assert written(repo) == (left[0], status, *left[2:])


def test_stop_of_another_command_is_none_and_one_that_comes_too_late_neither(sandbox: Sandboxes) -> None:
    for number, stop in enumerate(("cancel:1:kill", "reject:1:kill", "approve:6:kill")):
        repo = sandbox(
            {**only("demo", {"outcome": "candidate"}, approval_required=True), "stop": stop}, name=f"repo-{number}"
        )
        repo.run("run", "--loop", "demo")

        assert repo.run(*APPROVE).returncode == 0
        assert written(repo)[-1]


@pytest.mark.parametrize(("effects", "state_left", "run_lives"), [(0, True, True), (1, False, True), (2, False, False)])
def test_cancel_killed_after_an_effect_leaves_the_run_as_far_as_it_came(
    sandbox: Sandboxes, effects: int, state_left: bool, run_lives: bool
) -> None:
    repo = sandbox({**only("demo", {"outcome": "hang"}), "stop": f"cancel:{effects}:kill"})
    run = repo.start("--loop", "demo")
    repo.until_role("implementer")

    assert repo.run("cancel").returncode == -signal.SIGKILL

    if not run_lives:
        run.wait(20)
    assert ((repo.root / "state.json").exists(), run.poll() is None) == (state_left, run_lives)


def test_command_that_is_held_says_so_and_goes_on_when_told(sandbox: Sandboxes, tmp_path: Path) -> None:
    repo = waiting(sandbox, "cancel:0:kill")
    command = subprocess.Popen(
        [str(repo.runtime), APPROVE[0], "--repo", str(repo.repo), *APPROVE[1:]],
        env={"PATH": "/usr/bin:/bin", STOP_ENV: "approve:3:hold"},
        stdout=subprocess.DEVNULL,
    )
    held = repo.repo / HELD_FILE
    until(held.exists, "it is held")
    assert written(repo) == (False, "approved", 1, False, False)
    assert int(held.read_text()) > 0

    (repo.repo / GO_FILE).touch()

    assert command.wait(20) == 0
    assert written(repo)[-1]


@pytest.mark.parametrize("words", ["approve", "approve:2", "run:1:kill", "approve:x:kill", "approve:1:stop"])
def test_words_that_name_no_stop_are_refused_before_anything_is_written(sandbox: Sandboxes, words: str) -> None:
    repo = waiting(sandbox, "cancel:0:kill")

    done = repo.run(*APPROVE, env={"PATH": "/usr/bin:/bin", STOP_ENV: words})

    assert done.returncode == 1
    assert f"error: {STOP_ENV}: must be approve|reject|cancel" in done.stderr
    assert written(repo) == NONE
