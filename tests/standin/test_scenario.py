"""The scenario file: what it may hold, and what a mistake in it says."""

import json
from pathlib import Path
from typing import Any

import pytest

from sprite.standin import FAST_PACE_MS, RECORDED_PACE_MS, ScenarioError, prepare_repo
from sprite.standin.scenario import parse_scenario
from tests.standin.support import Sandboxes, only


def _iteration(**keys: Any) -> dict[str, Any]:
    return only("demo", keys)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ([], "the file: must be an object, not an array"),
        ({"pace": {}}, "unknown key 'pace'; did you mean 'pace_ms'?"),
        ({"pace_ms": {"rolle": 1}}, "pace_ms: unknown key 'rolle'; did you mean 'role'?"),
        ({"pace_ms": {"role": -1}}, "pace_ms.role: must be a whole number of at least 0, not -1"),
        ({"pace_ms": {"role": True}}, "pace_ms.role: must be a whole number of at least 0, not true"),
        ({"loops": {"demo": {"run": []}}}, "loops.demo: unknown key 'run'; did you mean 'runs'?"),
        ({"loops": {"demo": {"runs": []}}}, "loops.demo.runs: is empty; leave it out for runs that complete at once"),
        ({"loops": {"demo": {"max_iterations": 0}}}, "loops.demo.max_iterations: must be a whole number of at least 1"),
        ({"loops": {"demo": {"approval_required": "yes"}}}, 'must be true or false, not "yes"'),
        (only("demo"), "loops.demo.runs[0].iterations: is empty; leave it out for a run that completes at once"),
        (_iteration(outcome="candidat"), "iterations[0].outcome: \"candidat\" is unknown; did you mean 'candidate'?"),
        (_iteration(outcome="candidate", tests="failed"), "outcome 'candidate' needs every gate met"),
        (_iteration(outcome="continue", promise=True), "outcome 'continue' needs a gate that is not met"),
        (_iteration(wait_for=1), "iterations[0].wait_for: must be a string, not a number"),
        (_iteration(extra_events=[{"after": "tests_end"}]), "extra_events[0]: has no 'event'"),
    ],
)
def test_a_mistake_is_named_with_its_place(document: object, complaint: str) -> None:
    with pytest.raises(ScenarioError) as raised:
        parse_scenario(document)
    assert complaint in str(raised.value)


def test_a_command_refuses_a_broken_scenario_and_names_the_file(sandbox: Sandboxes) -> None:
    repo = sandbox()
    (repo.root / "standin.json").write_text('{"loop": {}}')
    done = repo.run("run", "--loop", "demo")
    assert done.returncode == 1
    assert done.stderr == f"error: {repo.root}/standin.json: unknown key 'loop'; did you mean 'loops'?\n"
    assert not (repo.root / "loops").exists()


def test_a_scenario_elsewhere_is_taken_from_the_environment(sandbox: Sandboxes, tmp_path: Path) -> None:
    repo = sandbox()
    elsewhere = tmp_path / "other.json"
    elsewhere.write_text(json.dumps({**only("demo", {"outcome": "usage_limit"}), "pace_ms": dict(FAST_PACE_MS)}))
    done = repo.run(
        "run", "--loop", "demo", env={"PATH": "/usr/bin:/bin", "SUPERLOOP_STANDIN_SCENARIO": str(elsewhere)}
    )
    assert (done.returncode, repo.names()[-1]) == (1, "usage_limit_blocked")


def test_runs_and_iterations_are_used_in_order_and_the_last_repeats() -> None:
    first = {"iterations": [{"outcome": "continue"}, {"outcome": "candidate"}]}
    loop = parse_scenario({"loops": {"demo": {"runs": [first, {"crash_after": "loop_start"}]}}}).loop("demo")
    outcomes = [loop.run(0).iteration(number).outcome for number in (1, 2, 3)]
    assert outcomes == ["continue", "candidate", "candidate"]
    assert [loop.run(index).crash_after for index in (0, 1, 2)] == [None, "loop_start", "loop_start"]


def test_every_pace_offered_is_one_that_is_understood() -> None:
    assert parse_scenario({"pace_ms": dict(FAST_PACE_MS)}).pace.role_ms == FAST_PACE_MS["role"]
    assert parse_scenario({"pace_ms": dict(RECORDED_PACE_MS)}).pace.role_ms == RECORDED_PACE_MS["role"]


def test_preparing_a_repo_lists_its_loops_and_takes_settings(tmp_path: Path) -> None:
    repo = prepare_repo(tmp_path / "r", {}, loops=["b", "a"], loop_config={"a": {"checklists": ["x.md"]}})
    config = json.loads((repo / ".superloop/config.json").read_text())
    assert [loop["id"] for loop in config["loops"]] == ["b", "a"]
    assert [loop["checklists"] for loop in config["loops"]] == [[], ["x.md"]]
    assert all((repo / loop["spec_file"]).is_file() for loop in config["loops"])


def test_preparing_a_repo_again_leaves_its_artifacts_alone(sandbox: Sandboxes) -> None:
    repo = sandbox()
    repo.run("run", "--loop", "demo")
    before = repo.lines()
    prepare_repo(repo.repo, only("demo", {"outcome": "hang"}))
    assert repo.lines() == before
    assert repo.state()["active"] is False


def test_extra_events_come_after_the_event_they_name(sandbox: Sandboxes) -> None:
    extra = {
        "after": "tests_end",
        "event": "delegation_fail_role",
        "role": "tester",
        "status": "error",
        "data": {"n": 1},
    }
    repo = sandbox(only("demo", {"extra_events": [extra]}))
    assert repo.run("run", "--loop", "demo").returncode == 0
    at = repo.names().index("tests_end")
    event = repo.events()[at + 1]
    assert list(event) == ["timestamp", "event", "loop_id", "run_id", "iteration", "role", "status", "data"]
    assert (event["event"], event["status"]) == ("delegation_fail_role", "error")
