"""What is strange about the real runtime is strange here too: each quirk with real processes."""

import signal

import pytest

from tests.standin.support import TIMEOUT_S, Sandbox, Sandboxes, is_alive, only, until


def _hanging(sandbox: Sandboxes) -> Sandbox:
    return sandbox(only("demo", {"outcome": "hang"}))


def test_files_that_are_truncated_then_written_are_empty_for_a_moment(sandbox: Sandboxes) -> None:
    repo = sandbox({"pace_ms": {"truncate": 150}, "loops": {"demo": {"approval_required": True}}})
    process = repo.start("--loop", "demo")
    for file in ("active-run.json", "state.json", "loops/demo/approval.json"):
        _sees_empty_then_whole(repo, file)
    assert process.wait(TIMEOUT_S) == 0


def _sees_empty_then_whole(repo: Sandbox, file: str) -> None:
    path = repo.root / file
    until(lambda: path.exists() and path.stat().st_size == 0, f"{file} is empty")
    until(lambda: repo.read(file) is not None, f"{file} is written")


def test_a_decision_and_a_summary_are_moved_into_place(sandbox: Sandboxes) -> None:
    repo = sandbox({"loops": {"demo": {"approval_required": True}}})
    repo.run("run", "--loop", "demo")
    folder = repo.root / "loops/demo"
    before = {name: (folder / name).stat().st_ino for name in ("approval.json", "run-summary.json", "events.jsonl")}
    assert repo.run("approve", "--loop", "demo").returncode == 0
    assert (folder / "approval.json").stat().st_ino != before["approval.json"]
    repo.run("run", "--loop", "demo")
    assert (folder / "run-summary.json").stat().st_ino != before["run-summary.json"]
    assert (folder / "events.jsonl").stat().st_ino == before["events.jsonl"]


def test_the_folder_of_a_loop_is_there_before_its_log_and_the_log_before_its_first_line(sandbox: Sandboxes) -> None:
    repo = sandbox({"pace_ms": {"config": 250, "truncate": 250}})
    process = repo.start("--loop", "demo")
    folder = repo.root / "loops/demo"
    until(folder.exists, "the loop's folder is there")
    assert not (folder / "events.jsonl").exists()
    assert repo.state() is None
    until((folder / "events.jsonl").exists, "the log is there")
    assert (folder / "events.jsonl").stat().st_size == 0
    assert process.wait(TIMEOUT_S) == 0


def test_active_run_is_written_in_two_stages(sandbox: Sandboxes) -> None:
    repo = sandbox({"pace_ms": {"gate": 250}, **only("demo", {"outcome": "hang", "role": "planner"})})
    repo.start("--loop", "demo")
    first = until(repo.active_run, "active-run.json is there")
    assert (first["stage"], first["loop_id"]) == ("run_start", "demo")
    until(lambda: (repo.active_run() or {}).get("stage") == "loop_start", "the second stage")


def test_active_run_is_not_updated_while_iterations_go_by(sandbox: Sandboxes) -> None:
    repo = sandbox(only("demo", {"outcome": "continue"}, {"outcome": "hang"}))
    repo.start("--loop", "demo")
    until(lambda: "iteration_start" in repo.names(), "the first iteration")
    before = (repo.root / "active-run.json").read_bytes()
    until(lambda: (repo.state() or {}).get("iteration") == 2, "the second iteration")
    assert (repo.root / "active-run.json").read_bytes() == before
    assert repo.active_run()["iteration"] == 1


def test_a_line_over_the_chunk_size_reaches_the_log_torn(sandbox: Sandboxes) -> None:
    extra = {"event": "recovery_proposed", "data": {"text": "x" * 9000}}
    pace = {"pace_ms": {"event_chunk": 150}, "event_chunk_bytes": 4096}
    repo = sandbox({**pace, **only("demo", {"extra_events": [extra]})})
    process = repo.start("--loop", "demo")
    log = repo.root / "loops/demo/events.jsonl"

    def torn() -> bytes:
        found = log.read_bytes() if log.exists() else b"\n"
        return b"" if found.endswith(b"\n") else found

    seen = until(torn, "the last line is torn")
    assert len(seen.rpartition(b"\n")[2]) % 4096 == 0
    assert process.wait(TIMEOUT_S) == 0
    assert repo.events()[2]["data"] == extra["data"]


def test_sigterm_runs_the_exit_trap_and_leaves_the_state_active(sandbox: Sandboxes) -> None:
    repo = _hanging(sandbox)
    process = repo.start("--loop", "demo")
    runner = repo.until_runner(process, "implementer")
    before = repo.lines()
    process.terminate()
    assert process.wait(TIMEOUT_S) == 143
    assert repo.active_run() is None
    assert repo.state()["active"] is True
    assert repo.lines() == before
    assert not is_alive(runner)


def test_sigkill_leaves_both_files_and_no_runner(sandbox: Sandboxes) -> None:
    repo = _hanging(sandbox)
    process = repo.start("--loop", "demo")
    runner = repo.until_runner(process, "implementer")
    before = repo.lines()
    process.kill()
    assert process.wait(TIMEOUT_S) == -signal.SIGKILL
    assert repo.active_run()["pid"] == process.pid
    assert repo.state()["active"] is True
    assert repo.lines() == before
    until(lambda: not is_alive(runner), "the runner has noticed")


@pytest.mark.parametrize("outcome", ["role_error", "rate_limit", "crash"])
def test_a_run_that_dies_leaves_the_state_active_and_blocks_every_further_run_until_cancelled(
    outcome: str, sandbox: Sandboxes
) -> None:
    repo = sandbox({"loops": {"demo": {"runs": [{"iterations": [{"outcome": outcome}]}, {}]}}})
    assert repo.run("run", "--loop", "demo").returncode == (-signal.SIGKILL if outcome == "crash" else 1)
    assert repo.state()["active"] is True
    assert (repo.active_run() is not None) == (outcome == "crash")
    assert repo.names()[-1] == ("rate_limit_stop" if outcome == "rate_limit" else "role_start")
    before = repo.lines()
    refused = repo.run("run", "--loop", "demo")
    assert (refused.returncode, "reentrant run blocked" in refused.stderr) == (1, True)
    assert repo.lines() == before
    assert repo.run("cancel").stdout == "Cancelled loop: demo\nCancelled loop state.\n"
    assert (repo.state(), repo.active_run()) == (None, None)
    assert repo.run("run", "--loop", "demo").returncode == 0


@pytest.mark.parametrize(
    ("outcome", "last", "reason"),
    [
        ("usage_limit", "usage_limit_blocked", None),
        ("role_timeout", "role_timeout", None),
        ("lifecycle_gate", "loop_stop", "lifecycle_gate_failed"),
        ("no_progress", "loop_stop", "no_progress"),
        ("stuck", "loop_stop", "stuck"),
    ],
)
def test_an_early_end_writes_its_event_no_summary_and_an_inactive_state(
    outcome: str, last: str, reason: str | None, sandbox: Sandboxes
) -> None:
    repo = sandbox(only("demo", {"outcome": outcome}))
    assert repo.run("run", "--loop", "demo").returncode == 1
    event = repo.events()[-1]
    assert (event["event"], event["data"].get("reason")) == (last, reason)
    assert "iteration_end" not in repo.names()
    assert repo.read("loops/demo/run-summary.json") is None
    assert (repo.state()["active"], repo.state()["iteration"]) == (False, 1)
    assert repo.active_run() is None


def test_three_unfinished_iterations_count_as_stuck_and_then_every_run_is_refused(sandbox: Sandboxes) -> None:
    repo = sandbox({"pace_ms": {"config": 150}, **only("demo", {"outcome": "continue"}, stuck_threshold=3)})
    assert repo.run("run", "--loop", "demo").returncode == 1
    stuck, stop = repo.events()[-2:]
    assert stuck["data"] == {"streak": 3, "threshold": 3, "triggered": True, "action": "report_and_stop"}
    assert (stop["iteration"], stop["data"]) == (3, {"reason": "stuck", "streak": 3, "threshold": 3})
    before, state = repo.lines(), repo.state()
    process = repo.start("--loop", "demo")
    until(repo.active_run, "the refused run shows itself")
    assert process.wait(TIMEOUT_S) == 1
    assert (repo.lines(), repo.state(), repo.active_run()) == (before, state, None)


def test_a_rejected_request_is_answered_by_the_next_run_which_starts_over(sandbox: Sandboxes) -> None:
    repo = sandbox(
        {"loops": {"demo": {"approval_required": True, "runs": [{}, {"iterations": [{"outcome": "hang"}]}]}}}
    )
    repo.run("run", "--loop", "demo")
    done = repo.run("approve", "--loop", "demo", "--by", "ana", "--reject")
    assert done.stdout == "Recorded approval decision (rejected) for loop 'demo'.\n"
    decided = len(repo.lines())
    assert repo.events()[-1]["status"] == "rejected"
    repo.start("--loop", "demo")
    repo.until_role("implementer")
    started, rejected, iteration = repo.events()[decided : decided + 3]
    assert [started["event"], rejected["event"], iteration["event"]] == [
        "loop_start",
        "approval_rejected",
        "iteration_start",
    ]
    assert started["run_id"] == rejected["run_id"] == iteration["run_id"] != repo.events()[0]["run_id"]
    assert rejected["data"] == {"status": "rejected", "approval_file": ".superloop/loops/demo/approval.json"}
    assert iteration["iteration"] == 1
    assert repo.read("loops/demo/approval.json") is None
    assert repo.read("loops/demo/decisions.jsonl")["decision"] == "rejected"


def test_a_run_can_be_made_to_die_between_two_events(sandbox: Sandboxes) -> None:
    runs = [{}, {"crash_after": "approval_rejected"}, {}]
    repo = sandbox({"loops": {"demo": {"approval_required": True, "runs": runs}}})
    repo.run("run", "--loop", "demo")
    repo.run("approve", "--loop", "demo", "--reject")
    assert repo.run("run", "--loop", "demo").returncode == -signal.SIGKILL
    assert repo.names()[-2:] == ["loop_start", "approval_rejected"]
    assert repo.state()["active"] is False  # it never got as far as an iteration


def test_run_ids_are_the_second_of_their_loop_start_and_never_repeat(sandbox: Sandboxes) -> None:
    repo = sandbox()
    for _ in range(2):
        repo.run("run", "--loop", "demo", "--skip-validate")
    starts = [event for event in repo.events() if event["event"] == "loop_start"]
    assert [event["run_id"] for event in starts] == [event["timestamp"] for event in starts]
    assert starts[0]["run_id"] < starts[1]["run_id"]


def test_a_run_over_all_loops_leaves_each_finished_one_active_and_ends_past_the_last(sandbox: Sandboxes) -> None:
    repo = sandbox({"pace_ms": {"between_loops": 400, "gate": 100}, "loops": {"a": {}, "b": {}}})
    process = repo.start()
    assert until(repo.active_run, "active-run.json is there")["loop_id"] is None
    until(lambda: "loop_complete" in repo.names("a"), "a is complete")
    state = repo.state()
    assert (state["active"], state["current_loop_id"], state["loop_index"]) == (True, "a", 0)
    until(lambda: (repo.active_run() or {}).get("loop_id") == "b", "b's turn")
    assert process.wait(TIMEOUT_S) == 0
    final = repo.state()
    final.pop("updated_at")
    assert final == {"active": False, "loop_index": 2, "iteration": 0, "current_loop_id": ""}
    assert repo.names("b")[-1] == "loop_complete"


def test_a_run_over_all_loops_returns_at_the_first_approval(sandbox: Sandboxes) -> None:
    repo = sandbox({"loops": {"a": {"approval_required": True}, "b": {}}})
    done = repo.run("run")
    assert (done.returncode, "Approval required for loop 'a'." in done.stdout) == (0, True)
    assert not (repo.root / "loops/b").exists()


def test_a_second_run_of_another_loop_takes_active_run_away_from_the_first(sandbox: Sandboxes) -> None:
    iteration = {"role": "planner", "wait_for": "go"}
    repo = sandbox(
        {
            "loops": {
                "a": {"runs": [{"iterations": [{"outcome": "hang"}]}]},
                "b": {"runs": [{"iterations": [iteration]}]},
            }
        }
    )
    first = repo.start("--loop", "a")
    repo.until_role("implementer", "a")
    second = repo.start("--loop", "b")
    repo.until_role("planner", "b")
    assert repo.active_run()["pid"] == second.pid
    (repo.repo / "go").touch()
    assert second.wait(TIMEOUT_S) == 0
    assert repo.active_run() is None
    assert first.poll() is None


def test_a_role_waits_for_the_file_it_is_told_to_wait_for(sandbox: Sandboxes) -> None:
    repo = sandbox(only("demo", {"role": "reviewer", "wait_for": "sub/go"}))
    process = repo.start("--loop", "demo")
    repo.until_role("reviewer")
    (repo.repo / "sub").mkdir()
    assert process.poll() is None
    (repo.repo / "sub/go").touch()
    assert process.wait(TIMEOUT_S) == 0
