"""The rules of the house, run as tests: formatting, lint, types, imports, and purity of the inner rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ground.project import ROOT

TOOLS = Path(sys.executable).parent


def run_tool(*argv: str) -> None:
    """Run a tool of the environment in the project's folder; fail with its own words if it objects."""
    done = subprocess.run([TOOLS / argv[0], *argv[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(argv)}:\n{done.stdout}{done.stderr}"


def test_tree_when_formatted_is_unchanged() -> None:
    run_tool("ruff", "format", "--check", ".")


def test_tree_linted_has_no_findings() -> None:
    run_tool("ruff", "check", ".")


@pytest.mark.timeout(400)  # a cold cache on a busy machine takes minutes
def test_tree_type_checked_strictly_has_no_errors() -> None:
    run_tool("mypy")


def test_imports_point_only_downwards() -> None:
    run_tool("lint-imports", "--no-cache")


CLOCKS = {"now", "utcnow", "today", "fromtimestamp", "uuid1", "uuid4"}
FILES_AND_TERMINAL = {"open", "input", "print"}


def impure_calls(source: str) -> list[str]:
    """Return `line: name` of every call that reads a clock, draws randomness, or opens a file or the terminal."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in FILES_AND_TERMINAL:
            found.append(f"{node.lineno}: {called.id}")
        # `workflow.now()`, `workflow.uuid4()`: Temporal's deterministic ones
        deterministic = (
            isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "workflow"
        )
        if isinstance(called, ast.Attribute) and called.attr in CLOCKS and not deterministic:
            found.append(f"{node.lineno}: {called.attr}")
    return found


@pytest.mark.parametrize("room", ["contract", "workflows"])
def test_pure_rooms_call_no_clock_and_open_nothing(room: str) -> None:
    modules = sorted((ROOT / room).rglob("*.py"))
    assert modules, f"{room}/ has no modules"
    found = [f"{path.relative_to(ROOT)}:{call}" for path in modules for call in impure_calls(path.read_text())]
    assert found == [], "time and files are handed in as values here"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from datetime import datetime, UTC\nx = datetime.now(UTC)", ["2: now"]),
        ("import uuid\nx = uuid.uuid4()", ["2: uuid4"]),
        ("x = open('f')", ["1: open"]),
        ("from temporalio import workflow\nx = workflow.now(), workflow.uuid4()", []),
    ],
)
def test_purity_check_knows_clock_from_workflow_time(source: str, found: list[str]) -> None:
    assert impure_calls(source) == found
