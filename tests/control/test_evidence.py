"""What confirms a cancel, as a table: the run addressed, never its neighbour or successor (D6, D18)."""

from typing import Any

import pytest

from sprite.control.evidence import Baseline, RunRef, judge_cancel
from sprite.control.situation import ActivePid, Situation
from sprite.processes import LoopRun

OURS, LATER = LoopRun(11, "1.0", "demo", in_active_run=True), LoopRun(22, "2.0", "demo", in_active_run=True)
RUNNING = Baseline(line=5, run_id="R1", runs=[RunRef(pid=11, start_time="1.0")])
CRASHED = Baseline(line=5, run_id="R1")
JUST_BEGUN = Baseline(line=5, run_id=None, runs=[RunRef(pid=11, start_time="1.0")])

GONE = Situation({}, {}, ActivePid.NONE, ())
ALIVE = Situation({}, {"pid": 11}, ActivePid.RUN_OF_THIS_REPO, (OURS,))
STILL_ACTIVE = Situation({"active": True, "current_loop_id": "demo"}, {}, ActivePid.NONE, ())
LATER_RUNS = Situation({"active": True, "current_loop_id": "demo"}, {"pid": 22}, ActivePid.RUN_OF_THIS_REPO, (LATER,))


def log(*events: tuple[str, str]) -> list[tuple[int, dict[str, Any]]]:
    """Events after the baseline, as (name, run id)."""
    return [(6 + n, {"event": name, "run_id": run_id}) for n, (name, run_id) in enumerate(events)]


END, OTHERS_END = ("loop_stop", "R1"), ("loop_complete", "R2")
START, OWN_START = ("loop_start", "R2"), ("loop_start", "R1")


@pytest.mark.parametrize(
    ("baseline", "after", "events", "reason", "line"),
    [
        (RUNNING, GONE, [], "inactive_not_running", None),
        (RUNNING, GONE, [END], "ended_by_itself", 6),
        (RUNNING, GONE, [OTHERS_END], "inactive_not_running", None),
        (RUNNING, GONE, [START, OTHERS_END], "later_run_started", 6),
        (RUNNING, GONE, [END, START, OTHERS_END], "ended_by_itself", 6),
        (RUNNING, LATER_RUNS, [START], "later_run_started", 6),
        (RUNNING, LATER_RUNS, [END, START], "ended_by_itself", 6),
        (CRASHED, LATER_RUNS, [START], "later_run_started", 6),
        (JUST_BEGUN, GONE, [OWN_START], "inactive_not_running", None),
        (JUST_BEGUN, GONE, [OWN_START, END], "ended_by_itself", 7),
        (JUST_BEGUN, LATER_RUNS, [OWN_START, START], "later_run_started", 7),
    ],
)
def test_cancel_is_confirmed_by_the_end_of_the_run_it_addressed(
    baseline: Baseline, after: Situation, events: list[tuple[str, str]], reason: str, line: int | None
) -> None:
    verdict = judge_cancel(baseline, after, log(*events))

    assert (verdict.confirmed, verdict.reason, verdict.line) == (True, reason, line)


@pytest.mark.parametrize(
    ("baseline", "after", "events", "reason"),
    [
        (RUNNING, ALIVE, [], "run_process_still_alive"),
        (RUNNING, ALIVE, [START], "run_process_still_alive"),
        (RUNNING, STILL_ACTIVE, [], "state_still_active"),
        (RUNNING, STILL_ACTIVE, [END], "state_still_active"),
        (RUNNING, LATER_RUNS, [], "state_still_active"),
        (JUST_BEGUN, STILL_ACTIVE, [OWN_START], "state_still_active"),
        (JUST_BEGUN, LATER_RUNS, [OWN_START], "state_still_active"),
    ],
)
def test_cancel_is_not_confirmed_while_its_run_may_go_on(
    baseline: Baseline, after: Situation, events: list[tuple[str, str]], reason: str
) -> None:
    verdict = judge_cancel(baseline, after, log(*events))

    assert (verdict.confirmed, verdict.reason) == (False, reason)


@pytest.mark.parametrize(
    ("began", "started_at", "logged"),
    [
        ("2026-11-22T08:00:05Z", "2026-11-22T08:00:07Z", True),
        ("2026-11-22T08:00:05Z", "2026-11-22T08:00:05Z", True),
        ("2026-11-22T08:00:05Z", "2026-11-22T07:00:00Z", False),
        ("2026-11-22T08:00:05Z", None, False),
        (None, "2026-11-22T07:00:00Z", True),
        (None, None, True),
    ],
)
def test_run_that_has_not_logged_its_start_is_told_from_the_one_before(
    began: str | None, started_at: str | None, logged: bool
) -> None:
    situation = Situation({}, {"pid": 11, "updated_at": began}, ActivePid.RUN_OF_THIS_REPO, (OURS,))

    assert situation.has_logged(started_at) is logged
