"""The stand-in, driven by the commands of each recording, leaves what the real runtime left."""

import os
import re
import shlex
import signal
import subprocess
from typing import Any

import pytest

from sprite.standin.recording import LogEntry
from tests.recordings.unpack import SCENARIOS, recording
from tests.standin.support import TIMEOUT_S, Sandbox, Sandboxes, until

_CONTINUE, _CANDIDATE = {"outcome": "continue"}, {"outcome": "candidate"}

# What the scripted runner of each recording did; the config.json is the recorded one.
_RUNS: dict[str, list[list[dict[str, Any]]]] = {
    "01-happy": [[_CONTINUE, _CANDIDATE]],
    "02-approve": [[_CANDIDATE]],
    "04-cancel": [[_CONTINUE, {"outcome": "hang"}], [_CANDIDATE]],
    "05-max-iterations": [[_CONTINUE]],
    "06-role-timeout": [[_CONTINUE, {"outcome": "role_timeout"}]],
    "08-no-progress": [
        [{"outcome": "continue", "promise": False, "checklist": "remaining"}, {"outcome": "no_progress"}]
    ],
    "10-rate-limit": [[{"outcome": "rate_limit"}]],
    "11-kill9": [[{"outcome": "hang"}]],
    "14-tests-fail": [[{"outcome": "continue", "tests": "failed"}]],
}
# How many events were there when the recorded run, in the background, was interrupted.
_INTERRUPTED_AT = {"04-cancel": 30, "11-kill9": 5}

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_HASH = re.compile(r"(sha256\W{1,4}|code_signature\W{1,4})[0-9a-f]{64}")
_MTIME = re.compile(r"(mtime\W{1,3})\d+")


def _plain(text: str, repo: str) -> str:
    """Take out what differs from run to run: times, hashes of changing files, the repo's path."""
    text = _TIME.sub("<time>", text.replace(repo, "<repo>"))
    return _MTIME.sub(r"\1<mtime>", _HASH.sub(r"\1<hash>", text))


def _recorded_repo(scenario: str) -> str:
    return f"/srv/sprite/{scenario}"


def _arguments(entry: LogEntry, sandbox: Sandbox, scenario: str) -> list[str]:
    # The log does not quote; the only value of several words is a note at the end.
    text = re.sub(r"--note (.*)$", lambda found: f"--note {shlex.quote(found.group(1))}", entry.text)
    words = shlex.split(text.replace(_recorded_repo(scenario), str(sandbox.repo)))
    return [str(sandbox.runtime), *words[1:]]


def _await_events(sandbox: Sandbox, count: int) -> None:
    until(lambda: len(sandbox.lines()) >= count, f"{count} events are there")


def _drive(sandbox: Sandbox, scenario: str) -> list[tuple[LogEntry, str, int]]:
    """Do what commands.log says; return what the commands in the foreground printed and exited with."""
    did, background = [], None
    for entry in recording(scenario).log:
        if background is not None and not entry.text.startswith("run process"):
            _await_events(sandbox, _INTERRUPTED_AT[scenario])
        if entry.background:
            background = sandbox.start("--loop", "demo")
        elif entry.is_command:
            done = subprocess.run(
                _arguments(entry, sandbox, scenario),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
            did.append((entry, done.stdout, done.returncode))
        elif entry.text.startswith("SIGKILL"):
            assert background is not None
            os.killpg(background.pid, signal.SIGKILL)
        if background is not None and (entry.text.startswith("SIGKILL") or " cancel " in f"{entry.text} "):
            killed = -signal.SIGKILL if entry.text.startswith("SIGKILL") else 143
            assert background.wait(TIMEOUT_S) == killed
            background = None
    return did


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_commands_of_a_recording_give_its_events_files_and_answers(scenario: str, sandbox: Sandboxes) -> None:
    recorded = recording(scenario)
    runs = [{"iterations": iterations} for iterations in _RUNS[scenario]]
    repo = sandbox({"loops": {"demo": {"runs": runs}}})
    (repo.root / "config.json").write_bytes((recorded.folder / "config.json").read_bytes())

    did = _drive(repo, scenario)

    here, there = str(repo.repo), _recorded_repo(scenario)
    for entry, printed, code in did:
        assert (_plain(printed, here), code) == (_plain(entry.output, there), entry.exit_code), entry.text
    assert did
    for path, content in recorded.final.files.items():
        assert _plain((repo.root / path).read_text("utf-8"), here) == _plain(content.decode(), there), path
    watched = ("state.json", "active-run.json", "loops/demo/approval.json", "loops/demo/rate-limit.json")
    for path in watched:
        assert (repo.root / path).exists() == (path in recorded.final.files), path


def test_a_pending_request_and_a_running_process_have_the_recorded_shape(sandbox: Sandboxes) -> None:
    steps = {step.number: step.files for step in recording("02-approve").steps}
    repo = sandbox(
        {
            "loops": {
                "demo": {"approval_required": True, "runs": [{"iterations": [{"role": "tester", "wait_for": "go"}]}]}
            }
        }
    )
    process = repo.start("--loop", "demo")
    repo.until_role("tester")
    active = (repo.root / "active-run.json").read_text("utf-8")
    state = (repo.root / "state.json").read_text("utf-8")
    (repo.repo / "go").touch()
    assert process.wait(TIMEOUT_S) == 0
    approval = (repo.root / "loops/demo/approval.json").read_text("utf-8")

    def numbers(text: str) -> str:
        return re.sub(r'("pg?id": )\d+', r"\1<pid>", text)

    here, there = str(repo.repo), _recorded_repo("02-approve")
    assert _plain(state, here) == _plain(steps[16]["state.json"].decode(), there)
    assert numbers(_plain(active, here)) == numbers(_plain(steps[16]["active-run.json"].decode(), there))
    assert f'"pid": {process.pid},' in active
    assert f'"pgid": {process.pid},' in active
    assert _plain(approval, here) == _plain(steps[17]["loops/demo/approval.json"].decode(), there)


def test_a_plain_config_gives_24_events_an_iteration(sandbox: Sandboxes) -> None:
    repo = sandbox({"loops": {"demo": {"runs": [{"iterations": [_CONTINUE, _CANDIDATE]}]}}})
    assert repo.run("run", "--loop", "demo").returncode == 0
    assert len(repo.lines()) == 1 + 2 * 24 + 1
    assert "stuck_checked" not in repo.names()
