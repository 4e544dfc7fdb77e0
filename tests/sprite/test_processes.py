"""The scan for live runs, over real processes: whose they are, which loop they run, and what is no run at all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from contract.clock import format_utc
from sprite.processes import LoopRun, RunArguments, ScanResult, evidence, is_alive, run_arguments, scan_runs
from tests.sprite.repos import LOOP, Repo, write_json

# Says that it is there, then lives until its input ends.
PYTHON_RUNTIME = "import sys\nprint('up', flush=True)\nsys.stdin.read()\n"
BASH_RUNTIME = "#!/usr/bin/env bash\n( read -r _; true ) | while read -r line; do :; done <&0 &\necho up\nread -r _\n"


class Processes:
    """Starts processes and ends them, each by its own pid."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "superloop.sh"
        self.program.write_text(PYTHON_RUNTIME)
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *argv: str | Path, cwd: Path | None = None, own_session: bool = False) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=own_session,
        )
        self.started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start the program as the runtime is started."""
        return self.start(sys.executable, self.program, *arguments, cwd=cwd)

    def end(self) -> None:
        for process in self.started:
            for child in _children(process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()
            process.communicate()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Processes]:
    processes_started = Processes(tmp_path)
    yield processes_started
    processes_started.end()


@pytest.mark.parametrize(
    ("argv", "arguments"),
    [
        (["superloop.sh", "run"], RunArguments(None, None)),
        (["bash", "/opt/superloop.sh", "run", "--repo", "/r", "--loop", "a"], RunArguments("/r", "a")),
        (["timeout", "9", "superloop.sh", "run", "--fast", "--loop", "a", "--repo", "/r"], RunArguments("/r", "a")),
        (["superloop.sh", "--repo", "/r", "run", "--loop", "a", "--loop", "b"], RunArguments("/r", "b")),
        (["superloop.sh", "run", "--loop"], RunArguments(None, None)),
        (["superloop.sh", "approve", "--loop", "run", "--note", "run"], None),
        (["superloop.sh", "--loop", "run", "status"], None),
        (["superloop.sh", "--version"], None),
        (["superloop.sh"], None),
        (["bash", "-c", "superloop.sh run --repo /r"], None),
        (["other.sh", "run"], None),
        ([], None),
    ],
)
def test_command_line_of_a_run_is_told_from_others(argv: list[str], arguments: RunArguments | None) -> None:
    assert run_arguments(argv) == arguments


def test_run_of_this_repo_is_found_with_its_loop(repo: Repo, started: Processes) -> None:
    process = started.run("run", "--loop", LOOP, "--skip-validate", "--repo", repo.path)
    scan = scan_runs(repo.path)
    (run,) = scan.runs
    assert scan == ScanResult((LoopRun(process.pid, run.start_time, LOOP),))
    since_boot = psutil.Process(process.pid).create_time() - psutil.boot_time()
    assert abs(float(run.start_time) - since_boot) < 1.0
    found = evidence(scan, LOOP)
    assert (found["state"], found["pid"], found["loopId"], found["source"]) == ("alive", process.pid, LOOP, "scan")


def test_repo_without_a_run_is_dead_by_a_complete_scan(repo: Repo) -> None:
    assert scan_runs(repo.path) == ScanResult()
    assert evidence(ScanResult(), LOOP)["state"] == "dead"


def test_repo_given_relatively_through_a_link_or_by_folder_is_recognised(
    repo: Repo, started: Processes, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(repo.path)
    pids = {
        started.run("run", "--repo", "repo", "--loop", "a", cwd=tmp_path).pid,
        started.run("run", "--repo", tmp_path / "link", "--loop", "b").pid,
        started.run("run", "--loop", "c", cwd=repo.path).pid,
    }
    assert {run.pid for run in scan_runs(repo.path).runs} == pids


def test_processes_of_other_repos_commands_and_programs_are_no_runs(
    repo: Repo, started: Processes, tmp_path: Path
) -> None:
    (tmp_path / "neighbour").mkdir()
    started.run("run", "--repo", tmp_path / "neighbour", "--loop", LOOP)
    started.run("approve", "--repo", repo.path, "--loop", "run")
    started.start(sys.executable, "-c", PYTHON_RUNTIME, "run", "--repo", repo.path)
    assert scan_runs(repo.path) == ScanResult()


def test_run_without_loop_runs_the_one_that_the_artifacts_name(repo: Repo, started: Processes) -> None:
    process = started.run("run", "--repo", repo.path)

    def loop_found() -> str | None:
        return scan_runs(repo.path).runs[0].loop_id

    assert loop_found() is None
    write_json(repo.state, {"active": False, "current_loop_id": "earlier"})
    assert loop_found() is None
    write_json(repo.state, {"active": True, "current_loop_id": "from-state"})
    assert loop_found() == "from-state"
    write_json(repo.active_run, {"pid": process.pid, "loop_id": "from-active-run"})
    assert loop_found() == "from-active-run"
    write_json(repo.active_run, {"pid": process.pid + 1, "loop_id": "somebody else's"})
    assert loop_found() == "from-state"
    repo.active_run.write_text("")
    assert loop_found() == "from-state"


def test_two_runs_in_one_repo_are_both_named(repo: Repo, started: Processes) -> None:
    first = started.run("run", "--repo", repo.path, "--loop", "a")
    second = started.run("run", "--repo", repo.path, "--loop", "b")
    write_json(repo.active_run, {"pid": second.pid, "loop_id": "b"})
    scan = scan_runs(repo.path)
    for loop_id, own, source in (("a", first, "scan"), ("b", second, "scan+active-run")):
        found = evidence(scan, loop_id)
        assert (found["pid"], found["loopId"], found["source"]) == (own.pid, loop_id, source)
        assert {run["pid"] for run in found["runs"]} == {first.pid, second.pid}


def test_two_runs_of_one_loop_are_two(repo: Repo, started: Processes) -> None:
    pids = {started.run("run", "--repo", repo.path, "--loop", LOOP).pid for _ in range(2)}
    assert {run.pid for run in scan_runs(repo.path).runs} == pids


def test_subshells_of_a_bash_run_and_its_wrapper_are_one_run(repo: Repo, started: Processes) -> None:
    started.program.write_text(BASH_RUNTIME)
    arguments = ["bash", str(started.program), "run", "--repo", str(repo.path), "--loop", LOOP]
    wrapper = started.start("timeout", "600", *arguments)
    lookalikes = [one for one in psutil.process_iter() if _has_argv(one, arguments)]
    assert len(lookalikes) >= 3  # the run and both ends of its pipe
    (run,) = scan_runs(repo.path).runs
    assert run.pid == wrapper.pid

    main = next(one for one in lookalikes if one.ppid() == wrapper.pid)
    write_json(repo.active_run, {"pid": main.pid, "loop_id": LOOP})
    (run,) = scan_runs(repo.path).runs
    assert (run.pid, run.in_active_run) == (main.pid, True)


def _has_argv(process: psutil.Process, argv: list[str]) -> bool:
    try:
        return process.cmdline() == argv
    except psutil.Error:
        return False


def test_subshells_left_by_a_killed_run_are_no_run_once_active_run_names_the_dead_one(
    repo: Repo, started: Processes
) -> None:
    started.program.write_text(BASH_RUNTIME)
    process = started.start("bash", started.program, "run", "--repo", repo.path, "--loop", LOOP, own_session=True)
    begun = datetime.fromtimestamp(psutil.Process(process.pid).create_time(), UTC)
    claim = {"pid": process.pid, "pgid": process.pid, "loop_id": LOOP, "updated_at": format_utc(begun)}
    write_json(repo.active_run, claim)
    left = _children(process.pid)
    assert len(left) >= 2
    pids = {one.pid for one in left}
    try:
        process.send_signal(signal.SIGKILL)
        process.wait()
        scan = scan_runs(repo.path)
        assert (scan.runs, scan.complete, set(scan.remnants)) == ((), True, pids)
        assert evidence(scan, LOOP).items() >= {"state": "dead", "remnants": sorted(pids)}.items()
        # Without the claim of just that run, what is found is one run that still works.
        another: list[dict[str, object]] = [
            {"pgid": 1},
            {"loop_id": "b"},
            {"updated_at": format_utc(begun + timedelta(hours=1))},
            {"updated_at": None},
        ]
        for other in [*({**claim, **changed} for changed in another), None]:
            write_json(repo.active_run, other)
            (run,) = scan_runs(repo.path).runs
            assert run.pid in pids
    finally:
        for one in left:
            one.kill()
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    assert scan_runs(repo.path) == ScanResult()


def test_run_inside_a_run_of_another_loop_is_a_second_run(repo: Repo, started: Processes) -> None:
    started.program.write_text(
        "import subprocess, sys\n"
        "if 'outer' in sys.argv:\n"
        "    inner = [sys.executable, *sys.argv[:-1], 'inner']\n"
        "    sys.exit(subprocess.call(inner))\n" + PYTHON_RUNTIME
    )
    started.run("run", "--repo", repo.path, "--loop", "outer")
    assert {run.loop_id for run in scan_runs(repo.path).runs} == {"outer", "inner"}


@pytest.mark.parametrize("own_program", [True, False])
def test_stale_active_run_whose_pid_is_another_program_or_repo_does_not_count_d17(
    own_program: bool, repo: Repo, started: Processes, tmp_path: Path
) -> None:
    (tmp_path / "neighbour").mkdir()
    if own_program:
        other = started.run("run", "--repo", tmp_path / "neighbour", "--loop", LOOP)
    else:
        other = started.start(sys.executable, "-c", PYTHON_RUNTIME)
    write_json(repo.active_run, {"pid": other.pid, "pgid": other.pid, "loop_id": LOOP, "repo": str(repo.path)})
    assert scan_runs(repo.path) == ScanResult()


def test_run_that_ended_but_was_not_reaped_is_dead(repo: Repo, started: Processes) -> None:
    process = started.run("run", "--repo", repo.path, "--loop", LOOP)
    (run,) = scan_runs(repo.path).runs
    assert is_alive(run.pid, run.start_time)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert not is_alive(run.pid, run.start_time)
    assert scan_runs(repo.path) == ScanResult()
    process.wait()
    assert not is_alive(run.pid, run.start_time)


def test_process_keeps_its_name_when_the_clock_is_set(
    repo: Repo, started: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    started.run("run", "--repo", repo.path, "--loop", LOOP)
    (run,) = scan_runs(repo.path).runs
    created = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: created(process) + 3600.0)
    assert is_alive(run.pid, run.start_time)
    assert scan_runs(repo.path).runs == (run,)


def test_pid_used_again_is_another_process(started: Processes) -> None:
    process = started.start(sys.executable, "-c", PYTHON_RUNTIME)
    assert not is_alive(process.pid, "1.00")


def refuse(pid: int) -> Callable[..., list[str]]:
    cmdline = psutil.Process.cmdline

    def guarded(process: psutil.Process) -> list[str]:
        if process.pid == pid:
            raise psutil.AccessDenied(pid)
        return cmdline(process)

    return guarded


def test_process_named_by_active_run_that_may_not_be_looked_at_leaves_it_unknown(
    repo: Repo, started: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = started.run("run", "--repo", repo.path, "--loop", LOOP)
    # Another user's process would be refused by the system; as root nothing is, so the refusal is played.
    monkeypatch.setattr(psutil.Process, "cmdline", refuse(process.pid))
    assert scan_runs(repo.path) == ScanResult()  # any process of the system, as far as one can tell
    write_json(repo.active_run, {"pid": process.pid, "loop_id": LOOP})
    scan = scan_runs(repo.path)
    assert scan == ScanResult(complete=False, unseen_active_run=True)
    assert evidence(scan, LOOP).items() >= {"state": "unknown", "source": "active-run"}.items()


def test_run_of_which_the_repo_may_not_be_known_leaves_it_unknown(
    repo: Repo, started: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = started.run("run", "--loop", LOOP, cwd=repo.path)

    def refused(self: psutil.Process) -> str:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "cwd", refused)
    assert evidence(scan_runs(repo.path), LOOP).items() >= {"state": "unknown", "source": "scan"}.items()
    other = started.run("run", "--loop", "b", "--repo", repo.path)
    assert evidence(scan_runs(repo.path), LOOP).items() >= {"state": "alive", "pid": other.pid}.items()
    assert process.poll() is None


def test_scan_that_fails_knows_nothing(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[int]:
        raise PermissionError

    monkeypatch.setattr(psutil, "pids", broken)
    assert evidence(scan_runs(repo.path), LOOP)["state"] == "unknown"


def test_evidence_names_the_run_of_the_loop_then_one_that_may_be_it_then_another() -> None:
    runs = [LoopRun(1, "10.00", "b"), LoopRun(2, "20.00", None), LoopRun(3, "30.00", "a"), LoopRun(4, "9.00", "c")]
    found = evidence(ScanResult(tuple(runs)), "a")
    assert found["pid"] == 3
    assert [run["pid"] for run in found["runs"]] == [3, 2, 4, 1]
    assert evidence(ScanResult(tuple(runs)), "z")["pid"] == 2
    assert evidence(ScanResult((runs[0],)), "z")["loopId"] == "b"
