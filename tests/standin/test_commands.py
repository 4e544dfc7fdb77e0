"""The command line: grammar, texts and exit codes."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sprite.standin import install_runtime, runtime_path
from tests.standin.support import Sandboxes, only


def _call(*arguments: str, runtime: Path | None = None, **environment: str) -> tuple[int, str, str]:
    words = [str(runtime)] if runtime else [sys.executable, str(runtime_path())]
    done = subprocess.run(
        [*words, *arguments], capture_output=True, text=True, timeout=30, check=False, env={**os.environ, **environment}
    )
    return done.returncode, done.stdout, done.stderr


def test_version_begins_with_the_observed_version_and_owns_up() -> None:
    assert _call("--version") == (0, "0.6.1 (stand-in)\n", "")


def test_help_says_that_it_is_a_stand_in() -> None:
    code, printed, _ = _call("--help")
    assert code == 0
    assert "This is a stand-in for Superloop" in printed


@pytest.mark.parametrize("arguments", [[], ["explode"]])
def test_no_or_an_unknown_command_prints_the_usage_on_stdout_and_fails(arguments: list[str]) -> None:
    code, printed, complained = _call(*arguments)
    assert (code, complained) == (1, "")
    assert printed.startswith("Usage: superloop.sh")


@pytest.mark.parametrize("command", ["run", "status", "cancel", "approve", "list"])
def test_an_unknown_option_is_named(command: str) -> None:
    assert _call(command, "--frobnicate") == (1, "", "error: unknown argument: --frobnicate\n")


@pytest.mark.parametrize("option", ["--repo", "--note"])
def test_an_option_without_its_value_fails_like_bash(option: str) -> None:
    code, _, complained = _call("status", option)
    assert code == 1
    assert complained.endswith("$2: unbound variable\n")


def test_a_missing_repo_fails_like_cd(tmp_path: Path) -> None:
    code, _, complained = _call("run", "--repo", str(tmp_path / "nowhere"))
    assert code == 1
    assert complained.endswith(f"cd: {tmp_path}/nowhere: No such file or directory\n")


def test_commands_ignore_options_they_do_not_use_in_any_order(sandbox: Sandboxes) -> None:
    repo = sandbox()
    done = repo.run("status", "--reject", "--note", "x y", "--fast", "--loop", "other", "--skip-validate")
    assert (done.returncode, done.stdout) == (0, "No state file found.\n")


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("approve", "error: --loop is required for approve"),
        ("approve --loop demo", "error: no approval request found for loop 'demo'"),
        ("run --loop other", "error: loop id not found: other"),
        ("run --config missing.json", "error: config not found: missing.json"),
    ],
)
def test_bad_use_is_refused_and_writes_nothing(command: str, complaint: str, sandbox: Sandboxes) -> None:
    repo = sandbox()
    before = sorted(repo.root.rglob("*"))
    done = repo.run(*shlex.split(command))
    assert (done.returncode, done.stderr.strip()) == (1, complaint)
    assert sorted(repo.root.rglob("*")) == before


def test_a_missing_spec_refuses_the_run(sandbox: Sandboxes) -> None:
    repo = sandbox()
    (repo.root / "specs" / "demo.md").unlink()
    done = repo.run("run", "--loop", "demo")
    assert (done.returncode, "spec file not found" in done.stderr) == (1, True)


def test_a_dry_run_writes_nothing(sandbox: Sandboxes) -> None:
    repo = sandbox()
    assert repo.run("run", "--loop", "demo", "--dry-run").returncode == 0
    assert not (repo.root / "loops").exists()
    assert repo.active_run() is None


@pytest.mark.parametrize("command", ["run --loop demo", "status --summary --loop demo"])
def test_an_artifact_that_is_not_json_leaks_as_exit_4(command: str, sandbox: Sandboxes) -> None:
    repo = sandbox()
    (repo.root / "loops/demo").mkdir(parents=True)
    (repo.root / "state.json").write_text("{not json")
    (repo.root / "loops/demo/run-summary.json").write_text("{not json")
    assert repo.run(*shlex.split(command)).returncode == 4


def test_status_summary_says_when_there_is_none(sandbox: Sandboxes) -> None:
    done = sandbox().run("status", "--summary", "--loop", "demo")
    assert (done.returncode, done.stdout) == (0, "No run summary found for loop 'demo'.\n")


def test_list_calls_a_finished_loop_stopped(sandbox: Sandboxes) -> None:
    repo = sandbox()
    repo.run("run", "--loop", "demo")
    assert repo.run("list").stdout == "demo\tSTOPPED\n"


def test_cancel_ignores_loop_and_always_exits_0(sandbox: Sandboxes) -> None:
    done = sandbox().run("cancel", "--loop", "demo")
    assert (done.returncode, done.stdout) == (0, "No active state file found.\n")


def test_approve_takes_an_empty_object_for_a_pending_request_of_an_unknown_run(sandbox: Sandboxes) -> None:
    repo = sandbox()
    (repo.root / "loops/demo").mkdir(parents=True)
    (repo.root / "loops/demo/approval.json").write_text("{}\n")
    done = repo.run("approve", "--loop", "demo", env={**os.environ, "USER": "carol"})
    assert done.returncode == 0
    (decision,) = repo.events()
    assert (decision["run_id"], decision["iteration"], decision["data"]["by"]) == ("unknown", 0, "carol")


def test_a_note_in_any_script_arrives_unchanged(sandbox: Sandboxes) -> None:
    repo = sandbox({"loops": {"demo": {"approval_required": True}}})
    repo.run("run", "--loop", "demo")
    note = 'gut "so" \\ — 良い\n; $(reboot)'
    repo.run("approve", "--loop", "demo", "--by", "ana", "--note", note)
    assert repo.read("loops/demo/approval.json")["decided_note"] == note
    assert repo.events()[-1]["data"]["note"] == note


def test_an_event_too_long_for_a_command_line_vanishes(sandbox: Sandboxes) -> None:
    big = {"after": "iteration_start", "event": "recovery_proposed", "data": {"text": "x" * 131_072}}
    small = {"after": "iteration_start", "event": "recovery_skipped", "data": {"text": "x" * 100_000}}
    repo = sandbox(only("demo", {"extra_events": [big, small]}))
    repo.run("run", "--loop", "demo")
    assert repo.names()[:3] == ["loop_start", "iteration_start", "recovery_skipped"]


def test_it_runs_by_path_from_anywhere_without_any_installed_package(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(runtime_path()), "--version"],
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout == "0.6.1 (stand-in)\n"
    assert os.access(runtime_path(), os.X_OK)


@pytest.mark.parametrize("folder", ["plain", "with space", "x" * 200])
def test_an_installed_runtime_is_executable_whatever_the_interpreter_is_called(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / folder / "python3"
    interpreter.parent.mkdir()
    interpreter.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    runtime = install_runtime(tmp_path / "bin")
    assert runtime == tmp_path / "bin" / "superloop.sh"
    assert _call("--version", runtime=runtime) == (0, "0.6.1 (stand-in)\n", "")


def test_a_run_is_found_in_the_process_list_by_its_script_command_and_repo(sandbox: Sandboxes) -> None:
    repo = sandbox(only("demo", {"outcome": "hang"}))
    process = repo.start("--loop", "demo")
    repo.until_role("implementer")
    words = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode().split("\0")
    at = next(index for index, word in enumerate(words) if Path(word).name == "superloop.sh")
    assert words[at + 1 : at + 6] == ["run", "--repo", str(repo.repo), "--loop", "demo"]
