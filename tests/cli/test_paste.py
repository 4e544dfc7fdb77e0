"""Commands that are printed work in the shell they were printed in."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cli import paste

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent


@pytest.fixture
def bare_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell in which the virtual environment is not activated."""
    kept = [part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != SCRIPTS]
    monkeypatch.setenv("PATH", os.pathsep.join(kept))


@pytest.mark.usefixtures("bare_path")
def test_program_in_the_projects_environment_is_named_by_its_relative_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SCRIPTS.parent.parent)
    assert paste.program("ops-manager") == f"{SCRIPTS.parent.name}/bin/ops-manager"


@pytest.mark.usefixtures("bare_path")
def test_program_is_named_by_its_whole_path_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert paste.program("ops-manager") == str(SCRIPTS / "ops-manager")


def test_program_on_the_path_is_named_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
    assert paste.program("ops-manager") == "ops-manager"
    assert paste.program("temporal") == "temporal"


def test_other_installation_on_the_path_is_not_taken_for_this_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "ops-manager"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert paste.program("ops-manager") == str(SCRIPTS / "ops-manager")


@pytest.mark.usefixtures("bare_path")
def test_only_commands_are_named_as_the_shell_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SCRIPTS.parent.parent)
    here = f"{SCRIPTS.parent.name}/bin"
    told = "no worker serves ops-manager in time: ops-manager worker; temporal is down; temporal workflow list"
    assert paste.localized(told) == (
        f"no worker serves ops-manager in time: {here}/ops-manager worker; temporal is down; "
        f"{here}/temporal workflow list"
    )


@pytest.mark.usefixtures("bare_path")
def test_printed_command_runs_in_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command = paste.ops_manager("status", "--help", connection=("--data", "a folder's name"))
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert shlex.split(command)[-1] == "a folder's name"


def test_temporal_command_names_address_and_other_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paste, "program", lambda name: name)
    assert paste.temporal("workflow", "list", address="h:1", namespace="default") == (
        "temporal workflow list --address h:1"
    )
    assert paste.temporal("workflow", "list", address="h:1", namespace="loops").endswith("--namespace loops")


def test_commands_in_a_sentence_get_this_shells_names_and_the_way_to_temporal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paste, "program", lambda name: f".venv/bin/{name}")
    said = paste.localized(
        "Do not repeat; see: ops-manager status acme/demo",
        ours=("--data", "/d"),
        theirs=("--address", "h:1"),
    )
    assert said == "Do not repeat; see: .venv/bin/ops-manager status --data /d acme/demo"
    said = paste.localized("temporal workflow signal --workflow-id x", ours=(), theirs=("--address", "h:1"))
    assert said == ".venv/bin/temporal workflow signal --address h:1 --workflow-id x"


@pytest.mark.parametrize(
    "text",
    [
        "see https://example.net/ops-manager status",
        "the ops-manager.toml",
        "/opt/temporal workflow signal",
        "Temporal unreachable",
        "a temporal: thing",
    ],
)
def test_text_that_is_no_command_stays_as_it_is(text: str) -> None:
    assert paste.localized(text, ours=("--data", "/d"), theirs=("--address", "h:1")) == text


def test_command_that_brings_its_own_temporal_gets_no_options_to_find_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paste, "program", lambda name: name)
    assert paste.localized("Start one with `ops-manager up`, or", ours=("--address", "h:1")) == (
        "Start one with `ops-manager up`, or"
    )
