"""When the recorded processes lived, derived from steps and log together."""

from pathlib import Path

import pytest

from sprite.standin.recording import Recording
from sprite.standin.replay_plan import plan
from tests.recordings.unpack import SCENARIOS, recording
from tests.standin.recorded import BEGAN_S, EVENTS, RUN, active, log, make_recording

ACTIVE = "active-run.json"
WORKS = log("loop_start", "role_start")


def _story(recording: Recording) -> list[str]:
    """The plan in words: `2: +100 -90` is step 2, which starts 100 and ends 90; `@3.5` is a time between steps."""
    told = []
    for action in plan(recording):
        changes = [f"+{run.pid}" for run in action.starts] + [f"-{run.pid}" for run in action.ends]
        if changes:
            place = str(action.step.number) if action.step else f"@{action.at_s - BEGAN_S:g}"
            told.append(f"{place}: {' '.join(changes)}")
    return told


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "11-kill9"])
def test_a_process_lives_as_long_as_active_run_names_it(scenario: str) -> None:
    actions = plan(recording(scenario))
    assert all(action.step is not None for action in actions)
    alive: set[int] = set()
    for action in actions:
        alive |= {run.pid for run in action.starts}
        alive -= {run.pid for run in action.ends}
        assert action.step is not None
        assert bool(alive) == (ACTIVE in action.step.files), action.step.number


def test_a_killed_process_ends_at_the_kill_although_active_run_stays() -> None:
    killed = [action for action in plan(recording("11-kill9")) if action.ends]
    assert [(action.step, action.at_s) for action in killed] == [(None, 1795334946.0)]  # 08:09:06Z


def test_a_kill_in_the_second_of_a_capture_comes_after_the_events_it_shows(tmp_path: Path) -> None:
    steps: list[tuple[float, dict[str, str | None]]] = [
        (1, {ACTIVE: active(100), EVENTS: log("loop_start")}),
        (5.4, {EVENTS: WORKS}),
        (9, {ACTIVE: None}),
    ]
    made = make_recording(
        tmp_path / "r", steps, [(0, f"{RUN} &"), (5, "SIGKILL the run process group 100"), (9, "cancel")]
    )
    assert _story(made) == ["1: +100", "@5.4: -100"]


def test_a_kill_after_the_last_capture_is_played_too(tmp_path: Path) -> None:
    made = make_recording(
        tmp_path / "r",
        [(1, {ACTIVE: active(100), EVENTS: WORKS})],
        [(0, f"{RUN} &"), (4, "kill -9 100"), (5, "run process exit code 137")],
    )
    assert _story(made) == ["1: +100", "@4: -100"]


def test_a_foreground_run_that_exited_with_137_was_killed_before_the_next_command(tmp_path: Path) -> None:
    steps: list[tuple[float, dict[str, str | None]]] = [(1, {ACTIVE: active(100), EVENTS: WORKS}), (20, {ACTIVE: None})]
    made = make_recording(tmp_path / "r", steps, [(0, f"{RUN} -> 137"), (6, "$ superloop.sh status -> 0")])
    assert _story(made) == ["1: +100", "@6: -100"]


def test_a_terminated_run_ends_with_the_step_in_which_its_trap_removed_the_file(tmp_path: Path) -> None:
    steps: list[tuple[float, dict[str, str | None]]] = [
        (1, {ACTIVE: active(100), EVENTS: WORKS}),
        (5.3, {ACTIVE: None}),
    ]
    made = make_recording(tmp_path / "r", steps, [(0, f"{RUN} &"), (5, "SIGTERM the run process 100 (VM shutdown)")])
    assert _story(made) == ["1: +100", "2: -100"]


def test_a_run_still_there_at_the_end_of_the_recording_stays_alive(tmp_path: Path) -> None:
    made = make_recording(tmp_path / "r", [(1, {ACTIVE: active(100), EVENTS: WORKS})], [(0, f"{RUN} &")])
    assert _story(made) == ["1: +100"]


def test_a_signal_meant_for_another_process_changes_nothing(tmp_path: Path) -> None:
    steps: list[tuple[float, dict[str, str | None]]] = [
        (1, {ACTIVE: active(100), EVENTS: log("loop_start")}),
        (3, {ACTIVE: None, EVENTS: log("loop_start", "loop_complete")}),
        (6, {ACTIVE: active(200), EVENTS: log("loop_start", "loop_complete", "loop_start")}),
    ]
    made = make_recording(tmp_path / "r", steps, [(0, f"{RUN} &"), (5, f"{RUN} &"), (8, "SIGKILL 200")])
    assert _story(made) == ["1: +100", "2: -100", "3: +200", "@8: -200"]


def test_a_run_in_the_foreground_has_ended_when_another_takes_its_place(tmp_path: Path) -> None:
    steps: list[tuple[float, dict[str, str | None]]] = [
        (1, {ACTIVE: active(100), EVENTS: WORKS}),
        (3, {ACTIVE: active(200)}),
        (5, {ACTIVE: None}),
    ]
    made = make_recording(tmp_path / "r", steps, [(0, f"{RUN} -> 1"), (2, f"{RUN} --skip-validate -> 1")])
    assert _story(made) == ["1: +100", "2: +200 -100", "3: -200"]


A_LOG, B_LOG = "loops/a/events.jsonl", "loops/b/events.jsonl"
_BOTH = [(0, f"{RUN.replace('demo', 'a')} &"), (2, f"{RUN.replace('demo', 'b')} &")]


def test_a_run_in_the_background_lives_on_unseen_until_its_terminal_event(tmp_path: Path) -> None:
    steps: list[tuple[float, dict[str, str | None]]] = [
        (1, {ACTIVE: active(100, "a"), A_LOG: WORKS}),
        (3, {ACTIVE: active(200, "b"), B_LOG: WORKS}),
        (5, {ACTIVE: None, B_LOG: WORKS + log("loop_complete")}),
        (7, {A_LOG: WORKS + log("role_end")}),
        (9, {A_LOG: WORKS + log("role_end", "loop_complete")}),
    ]
    assert _story(make_recording(tmp_path / "r", steps, _BOTH)) == ["1: +100", "2: +200", "3: -200", "5: -100"]


def test_a_run_that_takes_the_file_of_another_away_is_the_one_that_ended(tmp_path: Path) -> None:
    steps: list[tuple[float, dict[str, str | None]]] = [
        (1, {ACTIVE: active(100, "a"), A_LOG: WORKS}),
        (3, {ACTIVE: active(200, "b"), B_LOG: WORKS}),
        (5, {ACTIVE: None, A_LOG: WORKS + log("loop_stop")}),
        (9, {B_LOG: WORKS + log("approval_requested")}),
    ]
    assert _story(make_recording(tmp_path / "r", steps, _BOTH)) == ["1: +100", "2: +200", "3: -100", "4: -200"]


def test_cancel_ends_only_the_run_that_active_run_names(tmp_path: Path) -> None:
    steps: list[tuple[float, dict[str, str | None]]] = [
        (1, {ACTIVE: active(100, "a"), A_LOG: WORKS}),
        (3, {ACTIVE: active(200, "b"), B_LOG: WORKS}),
        (6, {ACTIVE: None}),
    ]
    commands = [*_BOTH, (5, "$ superloop.sh cancel --repo /srv/sprite/made-up -> 0"), (12, "SIGTERM 100")]
    assert _story(make_recording(tmp_path / "r", steps, commands)) == ["1: +100", "2: +200", "3: -200", "@12: -100"]


def test_a_half_written_active_run_ends_nobody(tmp_path: Path) -> None:
    steps: list[tuple[float, dict[str, str | None]]] = [
        (1, {ACTIVE: ""}),
        (2, {ACTIVE: active(100)}),
        (3, {ACTIVE: active(100)[:30]}),
        (4, {ACTIVE: active(100), EVENTS: WORKS}),
        (5, {ACTIVE: None}),
    ]
    assert _story(make_recording(tmp_path / "r", steps, [(0, f"{RUN} -> 1")])) == ["2: +100", "5: -100"]


def test_a_run_over_all_loops_does_not_end_with_its_first_loop(tmp_path: Path) -> None:
    steps: list[tuple[float, dict[str, str | None]]] = [
        (1, {ACTIVE: active(100, None), A_LOG: WORKS}),
        (3, {A_LOG: WORKS + log("loop_complete"), "state.json": '{"active": true}'}),
        (5, {ACTIVE: active(100, "b"), B_LOG: WORKS}),
        (7, {ACTIVE: None, B_LOG: WORKS + log("loop_complete"), "state.json": '{"active": false}'}),
    ]
    command = "$ superloop.sh run --repo /srv/sprite/made-up"
    assert _story(make_recording(tmp_path / "r", steps, [(0, f"{command} -> 0")])) == ["1: +100", "4: -100"]


def test_without_a_log_of_commands_the_steps_alone_decide(tmp_path: Path) -> None:
    steps: list[tuple[float, dict[str, str | None]]] = [
        (1, {ACTIVE: active(100)}),
        (2, {ACTIVE: active(200)}),
        (3, {ACTIVE: None}),
    ]
    assert _story(make_recording(tmp_path / "r", steps)) == ["1: +100", "2: +200 -100", "3: -200"]


@pytest.mark.parametrize(
    ("command", "loop", "arguments"),
    [
        (RUN, "demo", "run --repo /t --loop demo"),
        (f"{RUN} --skip-validate", "demo", "run --repo /t --loop demo --skip-validate"),
        ("$ superloop.sh run --repo /srv/sprite/made-up", None, "run --repo /t"),
        ("$ cd /srv && ./superloop.sh run --loop demo", "demo", "run --repo /t --loop demo"),
        ("nothing was logged", "demo", "run --repo /t --loop demo"),
    ],
)
def test_a_process_is_started_with_the_recorded_arguments_on_the_target(
    command: str, loop: str | None, arguments: str, tmp_path: Path
) -> None:
    made = make_recording(tmp_path / "r", [(1, {ACTIVE: active(100, loop)})], [(0, command)])
    (run,) = plan(made)[0].starts
    assert " ".join(run.arguments("/t")) == arguments
