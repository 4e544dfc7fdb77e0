"""`cancel`: what it kills, what it spares, and that it leaves no trace in the log."""

import json
import signal
import subprocess
import time

import pytest

from tests.standin.support import TIMEOUT_S, Sandbox, Sandboxes, bystander, is_alive, only, until

_HANG = {"outcome": "hang"}


def _running(sandbox: Sandboxes, name: str = "repo", **scenario: object) -> Sandbox:
    return sandbox({**only("demo", _HANG), **scenario}, name=name)


def _write_active_run(repo: Sandbox, pid: int) -> None:
    (repo.root / "active-run.json").write_text(json.dumps({"repo": str(repo.repo), "pid": pid, "loop_id": "demo"}))


@pytest.mark.parametrize("leads_its_group", [True, False])
def test_cancel_ends_the_run_and_its_runner_by_group_or_by_tree(leads_its_group: bool, sandbox: Sandboxes) -> None:
    repo = _running(sandbox)
    process = repo.start("--loop", "demo", start_new_session=leads_its_group)
    runner = repo.until_runner(process, "implementer")
    before = repo.lines()
    done = repo.run("cancel")
    assert done.stdout == "Cancelled loop: demo\nCancelled loop state and stopped active run process.\n"
    assert process.wait(TIMEOUT_S) == 143
    assert not is_alive(runner)
    assert repo.lines() == before
    assert (repo.state(), repo.active_run()) == (None, None)


def test_cancel_kills_a_run_that_does_not_listen(sandbox: Sandboxes) -> None:
    deaf = {"iterations": [_HANG], "ignore_term": True}
    repo = _running(sandbox, pace_ms={"cancel_term": 200}, loops={"demo": {"runs": [deaf]}})
    process = repo.start("--loop", "demo")
    repo.until_role("implementer")
    began = time.monotonic()
    done = repo.run("cancel")
    assert done.stdout == "Cancelled loop: demo\nCancelled loop state and force-stopped active run process.\n"
    assert time.monotonic() - began >= 0.2
    assert process.wait(TIMEOUT_S) == -signal.SIGKILL
    assert (repo.state(), repo.active_run()) == (None, None)


def test_cancel_deletes_the_state_before_the_process_is_gone(sandbox: Sandboxes) -> None:
    deaf = {"iterations": [_HANG], "ignore_term": True}
    repo = _running(sandbox, pace_ms={"cancel_term": 20_000}, loops={"demo": {"runs": [deaf]}})
    process = repo.start("--loop", "demo")
    repo.until_role("implementer")
    cancelling = subprocess.Popen([str(repo.runtime), "cancel", "--repo", str(repo.repo)], stdout=subprocess.PIPE)
    until(lambda: repo.state() is None, "the state is gone")
    assert process.poll() is None
    assert repo.active_run()["pid"] == process.pid
    process.kill()
    process.wait()
    out, _ = cancelling.communicate(timeout=TIMEOUT_S)
    assert b"stopped active run process" in out


def test_cancel_spares_a_process_that_is_no_run(sandbox: Sandboxes) -> None:
    repo = sandbox()
    with bystander() as process:
        _write_active_run(repo, process.pid)
        assert repo.run("cancel").stdout == "Cancelled loop: demo\nCancelled loop state.\n"
        assert process.poll() is None
    assert repo.active_run() is None


def test_cancel_kills_the_run_of_another_repo_whose_pid_a_stale_file_names(sandbox: Sandboxes) -> None:
    """A fault of the real runtime, kept: whoever supervises has to guard against it (D17)."""
    neighbour = _running(sandbox, name="neighbour")
    process = neighbour.start("--loop", "demo")
    neighbour.until_role("implementer")
    repo = sandbox(name="stale")
    _write_active_run(repo, process.pid)
    assert "stopped active run process" in repo.run("cancel").stdout
    assert process.wait(TIMEOUT_S) == 143


def test_cancel_while_a_request_is_pending_leaves_the_request(sandbox: Sandboxes) -> None:
    repo = sandbox({"loops": {"demo": {"approval_required": True}}})
    repo.run("run", "--loop", "demo")
    before = repo.lines()
    assert repo.run("cancel").stdout == "Cancelled loop state.\n"
    assert repo.read("loops/demo/approval.json")["status"] == "pending"
    assert repo.lines() == before


def test_cancel_copes_with_half_written_files(sandbox: Sandboxes) -> None:
    repo = sandbox()
    (repo.root / "state.json").write_text("")
    (repo.root / "active-run.json").write_text('{"pid": 12')
    done = repo.run("cancel")
    assert (done.returncode, done.stdout) == (0, "Cancelled loop state.\n")
    assert not (repo.root / "active-run.json").exists()
