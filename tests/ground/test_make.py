"""The Makefile as a newcomer meets it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ground.project import ROOT, project_files

PROMISED = {"install", "demo", "test", "test-slow", "check", "dist", "lock", "clean"}


def make(*args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run make free of what an outer make handed down."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *args], cwd=cwd, env=env, capture_output=True, text=True)


def listed_targets() -> dict[str, str]:
    """Return the targets that plain `make` prints, with their descriptions."""
    done = make()
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^  ([a-z-]+) +(\S.*)$", done.stdout, re.MULTILINE))


def test_make_without_target_lists_every_target_with_a_description() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    assert set(listed_targets()) == set(phony.group(1).split())
    assert set(listed_targets()) >= PROMISED


def test_make_commands_in_the_documents_exist() -> None:
    documents = [path for path in project_files() if path.suffix == ".md"]
    named = {
        target
        for path in documents
        for target in re.findall(r"^(?:\$ )?make ([a-z-]+)|`make ([a-z-]+)", path.read_text(), re.M)
    }
    targets = {one or other for one, other in named}
    assert targets, "no document names a make command"
    assert targets <= set(listed_targets())


def test_ci_runs_the_test_command_of_the_documents() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail"
    assert commands[-1] == "exec make test"


def test_older_python_is_refused_with_the_remedy(tmp_path: Path) -> None:
    older = tmp_path / "python3"
    older.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.18"\n[ "$1" = --version ]\n')
    older.chmod(0o755)
    done = make(f"PYTHON={older}", f"VENV={tmp_path / 'venv'}", "install")
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "Python 3.9.18" in done.stderr
    assert "PYTHON=python3.11" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_environment_whose_making_was_interrupted_is_made_anew(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    # Goes no further than to the environment: what follows would download.
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "$@" > {tmp_path}/asked\nexit 1\n')
    python.chmod(0o755)
    assert make(f"PYTHON={python}", f"VENV={venv}", "install").returncode != 0
    assert (tmp_path / "asked").read_text() == f"-m venv --clear {venv}\n"


@pytest.mark.parametrize(("arguments", "kept"), [((), False), (("KEEP=1",), True)])
def test_demo_hands_keep_on(arguments: tuple[str, ...], kept: bool) -> None:
    done = make("--dry-run", "demo", *arguments)
    command = done.stdout.splitlines()[-1]
    assert command.split("bin/ops-manager ")[1].split() == (["demo", "--keep"] if kept else ["demo"])
