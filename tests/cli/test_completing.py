"""What the shell offers when a loop is being typed."""

import subprocess
import sys
from pathlib import Path

import pytest

from cli.completing import matching
from tests.cli.canned import start_canned
from tests.cli.conftest import QUEUE, Place
from tests.cli.ops import ROOT
from tests.cli.reports import report


@pytest.mark.parametrize(
    ("begun", "offered"),
    [
        ("", ["acme/demo", "acme/web", "bolt/demo"]),
        ("ac", ["acme/demo", "acme/web"]),
        ("acme/w", ["acme/web"]),
        ("de", ["acme/demo", "bolt/demo"]),
        ("x", []),
    ],
)
def test_loops_are_offered_by_the_beginning_of_either_name(begun: str, offered: list[str]) -> None:
    assert matching(begun, ["bolt/demo", "acme/web", "acme/demo"]) == offered


def complete(place: Place, typed: str) -> list[str]:
    """What bash is answered after `typed`."""
    words = typed.split(" ")
    environment = {
        **place.ops.env(),
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
        "_OPS_MANAGER_COMPLETE": "bash_complete",
    }
    program = Path(sys.executable).parent / "ops-manager"
    done = subprocess.run([program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


async def test_bash_completes_commands_and_supervised_loops(place: Place) -> None:
    await start_canned(place.client, QUEUE, report())
    assert complete(place, "ops-manager stat") == ["plain,status"]
    assert complete(place, "ops-manager status ac") == ["plain,acme/demo"]
    assert complete(place, "ops-manager approve --by ana de") == ["plain,acme/demo"]


async def test_nothing_is_offered_and_nothing_is_said_without_temporal(place: Place) -> None:
    assert complete(place, "ops-manager status --address 127.0.0.1:1 a") == []
