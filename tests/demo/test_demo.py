"""`ops-manager demo` as a person starts it: it shows what it promises, fails where it cannot, and leaves nothing."""

import json
import shlex
import signal
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cli.demo.acts import ACTS, AT_WORK_AGAIN
from cli.exit_codes import ExitCode
from tests.demo.performance import DEMO_S, Performance
from tests.ground.project import ROOT
from worker.server_binary import find_binary

NAMES = [act.name for act in ACTS]


def assert_nothing_is_left(demo: Performance) -> None:
    assert demo.started() >= 3, "a service, a manager and its Temporal at the least"
    assert [process.pid for process in demo.left()] == []
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.timeout(DEMO_S + 60)
def test_demo_shows_every_act_with_evidence_and_leaves_nothing(tmp_path: Path) -> None:
    with Performance(tmp_path) as demo:
        code = demo.process.wait(DEMO_S)
        assert code == ExitCode.DONE, demo.said
        assert_nothing_is_left(demo)
        report = demo.report
    assert report["ok"] is True
    assert report["absent"] == []
    assert [entry["act"] for entry in report["acts"]] == NAMES
    for entry in report["acts"]:
        assert entry["ok"] is True
        assert found(entry["evidence"], "line"), f"{entry['act']} names no event line"
        assert times(entry["evidence"]), f"{entry['act']} names no time"
    assert_evidence({entry["act"]: entry["evidence"] for entry in report["acts"]})


def assert_evidence(acts: dict[str, Any]) -> None:
    """What an act is there to show is in its evidence, and one act follows from the other."""
    assert acts["iterations"]["second"]["iteration"] >= 2
    assert acts["approval_pending"]["lifecycle"] == "awaiting_approval"
    approved = stages(acts["approved_by_signal"])
    assert list(approved) == ["received", "accepted", "executing", "recorded"]
    assert approved["recorded"]["line"] == acts["approval_pending"]["line"] + 1
    confirmed = stages(acts["approval_confirmed"])
    assert confirmed["confirmed"]["line"] > approved["recorded"]["line"]
    assert acts["approval_confirmed"]["end"]["lifecycle"] == "complete"
    assert acts["service_lost"]["through"]["transport"] == "local"
    assert acts["service_lost"]["through"]["line"] > acts["service_lost"]["before"]["line"]
    assert acts["service_back"]["through"]["transport"] == "sprite_service"
    assert (acts["crash_recognised"]["lifecycle"], acts["crash_recognised"]["reason"]) == ("failed", "crashed")
    assert acts["crash_cleared"]["end"]["reason"] == "cancelled"
    assert acts["crash_cleared"]["end"]["runId"] == acts["crash_recognised"]["runId"]
    assert str(acts["cancel_confirmed"]["runPid"]) in stages(acts["cancel_confirmed"])["confirmed"]["evidence"]
    assert acts["completion"]["end"]["lifecycle"] == "complete"
    assert acts["completion"]["end"]["line"] > acts["cancel_confirmed"]["end"]["line"]


def stages(evidence: dict[str, Any]) -> dict[str, Any]:
    """The stages of an intent by name, in their order."""
    return {stage["stage"]: stage for stage in evidence["stages"]}


def found(value: object, key: str) -> list[Any]:
    """Everything that stands under `key`, however deep."""
    if isinstance(value, dict):
        here = [value[key]] if value.get(key) is not None else []
        return here + [hit for inner in value.values() for hit in found(inner, key)]
    return [hit for inner in value for hit in found(inner, key)] if isinstance(value, list) else []


def times(evidence: object) -> list[datetime]:
    """The times of an act's evidence."""
    return [datetime.fromisoformat(text) for key in ("since", "at") for text in found(evidence, key)]


@pytest.mark.timeout(DEMO_S + 60)
def test_demo_in_which_the_signal_fails_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    temporal = tmp_path / "temporal"
    temporal.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "workflow signal" ] && exit 1\nexec {shlex.quote(str(find_binary(tmp_path)))} "$@"\n'
    )
    temporal.chmod(0o755)
    with Performance(tmp_path, OPS_MANAGER_TEMPORAL_BIN=str(temporal)) as demo:
        assert demo.process.wait(DEMO_S) == ExitCode.UNEXPECTED, demo.said
        assert_nothing_is_left(demo)
        assert "MISSING: a signal sent by the Temporal CLI" in demo.said
        report = demo.report
    assert report["ok"] is False
    assert [(entry["act"], entry["ok"]) for entry in report["acts"]] == list(
        zip(NAMES[:3], [True, True, False], strict=True)
    )
    assert report["acts"][-1]["missing"] == "a signal sent by the Temporal CLI"
    assert report["absent"] == NAMES[2:]


def test_demo_whose_report_cannot_be_written_starts_nothing(tmp_path: Path) -> None:
    nowhere = tmp_path / "missing" / "report.json"
    with Performance(tmp_path, "--report", str(nowhere)) as demo:
        assert demo.process.wait(60) == ExitCode.USAGE
        assert demo.started() == 0
        assert list(demo.temporary.iterdir()) == []
        assert str(nowhere) in demo.said
        assert "--report FILE" in demo.said


@pytest.mark.slow
@pytest.mark.timeout(DEMO_S + 60)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_demo_interrupted_in_an_act_leaves_nothing_and_no_report_that_is_ok(
    tmp_path: Path, number: signal.Signals
) -> None:
    with Performance(tmp_path) as demo:
        demo.until(lambda: "superloop.sh run" in demo.said, "the first act")
        assert demo.end(number) == ExitCode.INTERRUPTED, demo.said
        assert_nothing_is_left(demo)
        assert demo.report["ok"] is False
        assert set(demo.report["absent"]) >= set(NAMES[1:])


@pytest.mark.slow
@pytest.mark.timeout(DEMO_S + 120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_demo_kept_up_is_approved_by_the_printed_command_and_ends_cleanly(
    tmp_path: Path, number: signal.Signals
) -> None:
    with Performance(tmp_path, "--keep") as demo:
        demo.until(lambda: "Ctrl-C ends everything." in demo.said, "it stays up")
        assert demo.report["ok"] is True
        assert [entry["act"] for entry in demo.report["acts"]] == [*NAMES[:-1], AT_WORK_AGAIN.name]
        approve, status, run = (
            line.strip() for line in demo.said.partition("Approve it")[2].splitlines() if line.startswith("  ")
        )
        assert stage_of(status) == "confirmed", "of the last act's cancel"
        assert pasted(approve).returncode == 0
        demo.until(lambda: stage_of(status) == "recorded", "the approval is recorded", 60)
        assert pasted(run).returncode == 0
        demo.until(lambda: stage_of(status) == "confirmed", "the approval is confirmed", 60)
        assert demo.end(number) == ExitCode.DONE, demo.said
        assert_nothing_is_left(demo)


def pasted(command: str) -> "subprocess.CompletedProcess[str]":
    """Run a printed command as a shell in the project's folder does."""
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def stage_of(status: str) -> str | None:
    """The stage of the newest intent; None while the supervisor is too busy to say."""
    intents = json.loads(pasted(f"{status} -o json").stdout)["intents"]
    return str(intents[-1]["stage"]) if intents else None
