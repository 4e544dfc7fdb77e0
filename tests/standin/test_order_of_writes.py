"""In which order the stand-in changes what others read, as the real runtime was seen to (superloop.md)."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.standin.support import TIMEOUT_S, Sandbox, Sandboxes, only

# The stand-in itself, which notes every effect on a file that readers look at.
_NOTED = """
import json, sys
from pathlib import Path
from sprite.standin.disk import Disk
from sprite.standin.main import main

notes = Path(sys.argv.pop(1))
watched = ("state.json", "active-run.json", "approval.json", "run-summary.json", "decisions.jsonl")

def note(text):
    with notes.open("a") as file:
        file.write(text + "\\n")

def noting(name, what):
    original = getattr(Disk, name)
    def effect(self, path, *arguments):
        done = original(self, path, *arguments)
        if name == "append_event":
            note(json.loads(arguments[0])["event"])
        elif path.name in watched:
            active = json.loads(arguments[0]).get("active") if path.name == "state.json" and arguments else None
            note(f"{what} {path.name}" + ("" if active is None else f" {str(active).lower()}"))
        return done
    setattr(Disk, name, effect)

for name, what in {
    "truncate_write": "write", "replace": "replace", "append": "append", "append_event": "", "delete": "delete",
}.items():
    noting(name, what)
main(sys.argv)
"""

_CANDIDATE = {"outcome": "candidate"}
_CONTINUE = {"outcome": "continue"}
_BEGINS = ["write active-run.json", "write active-run.json", "loop_start"]
_WORKS = ["write state.json true", "iteration_start"]
_ENDS = ["delete active-run.json"]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def effects(repo: Sandbox, notes: Path, command: str, *arguments: str) -> list[str]:
    """What a command did, in order; the events within an iteration are left out."""
    notes.write_text("")
    argv = [sys.executable, "-c", _NOTED, str(notes), command, "--repo", str(repo.repo), *arguments]
    subprocess.run(argv, capture_output=True, timeout=TIMEOUT_S, check=False)
    within = ("role_", "promise_", "checklist_", "tests_", "validation_", "prerequisites_", "evidence_", "lifecycle_")
    return [line for line in notes.read_text().splitlines() if not line.startswith((*within, "gates_", "stuck_"))]


def test_a_run_that_completes(sandbox: Sandboxes, notes: Path) -> None:
    repo = sandbox(only("demo", _CANDIDATE))
    assert effects(repo, notes, "run", "--loop", "demo") == [
        *_BEGINS,
        *_WORKS,
        *("iteration_end", "replace run-summary.json", "loop_complete", "write state.json false"),
        *_ENDS,
    ]


def test_a_run_that_reaches_its_last_iteration(sandbox: Sandboxes, notes: Path) -> None:
    repo = sandbox(only("demo", _CONTINUE, max_iterations=1))
    assert effects(repo, notes, "run", "--loop", "demo") == [
        *_BEGINS,
        *_WORKS,
        *("iteration_end", "replace run-summary.json", "loop_stop", "write state.json false"),
        *_ENDS,
    ]


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ("no_progress", ["no_progress_stop", "loop_stop"]),
        ("stuck", ["loop_stop"]),
        ("lifecycle_gate", ["loop_stop"]),
    ],
)
def test_a_run_that_stops_within_an_iteration(sandbox: Sandboxes, notes: Path, outcome: str, told: list[str]) -> None:
    repo = sandbox(only("demo", {"outcome": outcome}))
    assert effects(repo, notes, "run", "--loop", "demo") == [
        *_BEGINS, *_WORKS, *told, "write state.json false", *_ENDS,
    ]  # fmt: skip


def test_an_approval_from_the_request_to_its_consumption(sandbox: Sandboxes, notes: Path) -> None:
    repo = sandbox(only("demo", _CANDIDATE, approval_required=True))
    run = ("run", "--loop", "demo")
    assert effects(repo, notes, *run) == [
        *_BEGINS,
        *_WORKS,
        *("iteration_end", "replace run-summary.json"),
        *("write approval.json", "approval_requested", "write state.json false"),
        *_ENDS,
    ]
    assert effects(repo, notes, *run) == [*_BEGINS, "approval_wait", "write state.json false", *_ENDS]
    assert effects(repo, notes, "approve", "--loop", "demo", "--by", "ana") == [
        "replace approval.json",
        "append decisions.jsonl",
        "approval_decision",
    ]
    assert effects(repo, notes, *run) == [
        *_BEGINS,
        *("approval_consumed", "replace run-summary.json", "loop_complete"),
        *("delete approval.json", "write state.json false"),
        *_ENDS,
    ]


def test_a_rejection_and_the_run_that_starts_over(sandbox: Sandboxes, notes: Path) -> None:
    repo = sandbox(only("demo", _CANDIDATE, approval_required=True))
    effects(repo, notes, "run", "--loop", "demo")
    assert effects(repo, notes, "approve", "--loop", "demo", "--by", "bo", "--reject") == [
        "replace approval.json",
        "append decisions.jsonl",
        "approval_decision",
    ]
    assert effects(repo, notes, "run", "--loop", "demo")[: len(_BEGINS) + 4] == [
        *_BEGINS,
        *("approval_rejected", "delete approval.json"),
        *_WORKS,
    ]


def test_a_cancel_of_a_crashed_run(sandbox: Sandboxes, notes: Path) -> None:
    repo = sandbox(only("demo", {"outcome": "role_error"}))
    assert effects(repo, notes, "run", "--loop", "demo") == [*_BEGINS, *_WORKS, *_ENDS]
    assert effects(repo, notes, "cancel") == ["delete state.json", "delete active-run.json"]
