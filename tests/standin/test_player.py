"""The player: the recorded bytes in the recorded order, and a real process behind them."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sprite.standin import runtime_path
from sprite.standin.player import Player, PlayerError, RecordingError, main, open_recording, recording_steps
from sprite.standin.recording import Step
from sprite.standin.replay_disk import ReplayDisk
from sprite.standin.replay_plan import RecordedRun, event_names
from tests.recordings.unpack import RECORDINGS_ARCHIVE, SCENARIOS, recording, recordings_root
from tests.standin.recorded import EVENTS, RUN, active, log, make_recording
from tests.standin.support import is_alive, until

ACTIVE = "active-run.json"


def _tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "config.json"
    }


def _renamed(step: Step, player: Player, pid: int | None = None) -> dict[str, bytes]:
    """The step's files with what the player has to put in place of repo, pid and pgid."""
    files = dict(step.files)
    if ACTIVE in files and pid is not None:
        text = re.sub(r'("pg?id": )\d+', rf"\g<1>{pid}", files[ACTIVE].decode())
        files[ACTIVE] = re.sub(r'"repo": "[^"]*"', f'"repo": "{player.target}"', text).encode()
    return files


def _command_line(pid: int) -> list[str]:
    # Just after exec it is still empty for an instant.
    path = Path(f"/proc/{pid}/cmdline")
    return until(path.read_bytes, f"{pid} has a command line").decode().split("\0")[:-1]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_step_is_there_byte_for_byte_with_a_living_process_where_one_lived(scenario: str, tmp_path: Path) -> None:
    killed = scenario == "11-kill9"  # the only one whose active-run.json outlives its process
    with Player(recording(scenario), tmp_path / "repo", speed=math.inf) as player:
        pid, inode = None, None
        while (action := player.advance()) is not None:
            if action.step is None:
                assert killed
                assert not is_alive(int(str(pid)))
                continue
            live = list(player.live.values())
            if live:
                (pid,) = live
                assert is_alive(pid)
                assert _command_line(pid)[1:6] == [
                    str(runtime_path()), "run", "--repo", str(player.target), "--loop",
                ]  # fmt: skip
            assert bool(live) == (ACTIVE in action.step.files)
            assert _tree(player.target / ".superloop") == _renamed(action.step, player, pid)
            log_file = player.target / ".superloop" / EVENTS
            if log_file.exists():
                inode = inode or log_file.stat().st_ino
                assert log_file.stat().st_ino == inode
        assert player.done
        assert player.live == {}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_log_is_only_ever_appended_to_under_a_reader(scenario: str, tmp_path: Path) -> None:
    whole = recording(scenario).final.files[EVENTS]
    sizes: list[int] = []
    with Player(recording(scenario), tmp_path, speed=200) as player:
        player.start()
        path = player.target / ".superloop" / EVENTS
        until(path.exists, "the log is there")
        with path.open("rb") as stream:  # the same file from the beginning to the end
            while len(seen := os.pread(stream.fileno(), len(whole) + 1, 0)) < len(whole):
                assert whole.startswith(seen)
                sizes.append(len(seen))
                time.sleep(0.001)
            assert seen == whole
        assert player.wait(10)
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_process_ends_after_its_last_event_and_after_its_file_is_gone(scenario: str, tmp_path: Path) -> None:
    ends: list[tuple[str, bool]] = []

    class Watched(Player):
        def _end(self, run: RecordedRun) -> None:
            root = self.target / ".superloop"
            ends.append((event_names((root / EVENTS).read_bytes())[-1], (root / ACTIVE).exists()))
            super()._end(run)

    with Watched(recording(scenario), tmp_path, speed=math.inf) as player:
        player.play()
    expected = {
        "01-happy": [("loop_complete", False)],
        "02-approve": [("approval_requested", False), ("approval_wait", False), ("loop_complete", False)],
        "04-cancel": [("role_start", False), ("loop_complete", False)],
        "05-max-iterations": [("loop_stop", False)],
        "06-role-timeout": [("role_timeout", False)],
        "08-no-progress": [("loop_stop", False)],
        "10-rate-limit": [("rate_limit_stop", False)],
        "11-kill9": [("role_start", True)],
        "14-tests-fail": [("loop_stop", False)],
    }
    assert ends == expected[scenario]


def test_a_play_takes_its_recorded_time_divided_by_the_speed(tmp_path: Path) -> None:
    steps = recording("10-rate-limit").steps
    recorded_s = steps[-1].epoch_s - steps[0].epoch_s
    began = time.monotonic()
    with Player(recording("10-rate-limit"), tmp_path, speed=10) as player:
        player.play()
        assert recorded_s / 10 <= time.monotonic() - began < recorded_s / 10 + 3


def test_an_empty_state_stays_empty_as_long_as_it_was_recorded(tmp_path: Path) -> None:
    speed, path = 2, tmp_path / ".superloop" / "state.json"
    with Player(recording("08-no-progress"), tmp_path, speed=speed) as player:
        steps = {step.number: step for step in player.recording.steps}
        player.advance_to(15)
        assert path.stat().st_size > 0
        player.start()
        until(lambda: path.stat().st_size == 0, "the state is empty")
        began = time.monotonic()
        until(lambda: path.stat().st_size > 0, "the state is back")
        empty_s = time.monotonic() - began
    recorded_s = steps[17].epoch_s - steps[16].epoch_s
    assert abs(empty_s - recorded_s / speed) < 0.15


class _Told(ReplayDisk):
    """Tells in which order files change."""

    def __init__(self, target: Path) -> None:
        super().__init__(target, lambda content: content)
        self.told: list[str] = []

    def _overwrite(self, path: str, content: bytes) -> None:
        self._tell("write", path)
        super()._overwrite(path, content)

    def _append(self, path: str, part: bytes) -> None:
        self.told += event_names(part)
        super()._append(path, part)

    def _write_following(self, path: str, content: bytes) -> None:
        self._tell("write", path)
        super()._write_following(path, content)

    def _delete(self, path: str) -> None:
        self._tell("delete", path)
        super()._delete(path)

    def _tell(self, what: str, path: str) -> None:
        told = f"{what} {path.rpartition('/')[2]}"
        if told not in self.told:
            self.told.append(told)


@pytest.mark.parametrize(
    ("scenario", "number", "order"),
    [
        ("02-approve", 3, "loop_start, write state.json, iteration_start"),
        (
            "02-approve",
            17,
            "write run-summary.json, write approval.json, approval_requested, write state.json, delete active-run.json",
        ),
        ("02-approve", 21, "write approval.json, write decisions.jsonl, approval_decision"),
        ("02-approve", 25, "loop_complete, delete approval.json, write state.json, delete active-run.json"),
        ("01-happy", 18, "write state.json, iteration_start"),
        ("01-happy", 31, "write run-summary.json, loop_complete, write state.json, delete active-run.json"),
        ("04-cancel", 22, "delete state.json"),
        ("04-cancel", 25, "loop_start, write state.json, iteration_start"),
        ("05-max-iterations", 3, "loop_start, write state.json"),
        ("05-max-iterations", 17, "write run-summary.json, write state.json, iteration_start"),
        ("05-max-iterations", 32, "write run-summary.json, loop_stop, write state.json"),
        ("11-kill9", 8, "delete state.json, delete active-run.json"),
    ],
)
def test_within_a_step_things_happen_in_the_order_of_the_runtime(
    scenario: str, number: int, order: str, tmp_path: Path
) -> None:
    (tmp_path / ".superloop").mkdir()
    disk = _Told(tmp_path)
    for step in recording(scenario).steps:
        disk.told.clear()
        disk.apply(step)
        if step.number == number:
            break
    assert ", ".join(disk.told) == order


def test_a_recording_is_played_from_the_archive_by_name(tmp_path: Path) -> None:
    with Player(RECORDINGS_ARCHIVE, tmp_path, speed=math.inf, scenario="10-rate-limit") as player:
        player.play()
        unpacked = player.recording.folder
        assert _tree(tmp_path / ".superloop") == player.recording.final.files
        assert (tmp_path / ".superloop/config.json").read_bytes() == (unpacked / "config.json").read_bytes()
    assert not unpacked.exists()


def test_a_missing_scenario_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"no scenario 'x'; there are: .*01-happy.*14-tests-fail"):
        Player(RECORDINGS_ARCHIVE, tmp_path, scenario="x")
    with pytest.raises(RecordingError, match="several scenarios; there are: "):
        Player(recordings_root(), tmp_path)


def test_the_archive_keeps_the_times_of_the_files() -> None:
    with open_recording(RECORDINGS_ARCHIVE, "01-happy") as opened:
        assert (opened.final.folder / ".superloop" / EVENTS).stat().st_mtime == 1795334827


def test_steps_are_listed_in_order_with_their_times() -> None:
    steps = recording_steps(recordings_root(), "11-kill9")
    assert [step.number for step in steps] == list(range(1, 9))
    assert steps[0].epoch_s == 1795334940.053
    assert recording_steps(recordings_root() / "11-kill9")[-1].files.keys() == steps[-1].files.keys()


def test_a_target_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".superloop" / "loops").mkdir(parents=True)
    with pytest.raises(PlayerError, match="already holds loops"):
        Player(recording("01-happy"), tmp_path)


@pytest.mark.parametrize("speed", [0, -1, math.nan])
def test_a_speed_that_goes_nowhere_is_refused(speed: float, tmp_path: Path) -> None:
    with pytest.raises(PlayerError, match="speed must be above 0"):
        Player(recording("01-happy"), tmp_path, speed=speed)


def test_closing_in_the_middle_ends_and_reaps_the_process(tmp_path: Path) -> None:
    with Player(recording("01-happy"), tmp_path, speed=1) as player:
        player.advance_to(5)
        player.start()
        (pid,) = player.live.values()
        assert is_alive(pid)
        assert not player.wait(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_a_step_that_is_past_cannot_be_advanced_to(tmp_path: Path) -> None:
    with Player(recording("11-kill9"), tmp_path, speed=math.inf) as player:
        player.advance_to(4)
        with pytest.raises(PlayerError, match="11-kill9 has no step 3 left to play"):
            player.advance_to(3)


def test_a_failure_in_the_thread_reaches_whoever_waits(tmp_path: Path) -> None:
    with Player(recording("01-happy"), tmp_path, speed=math.inf) as player:
        (tmp_path / ".superloop" / "loops").write_text("in the way")
        player.start()
        with pytest.raises(FileExistsError):
            player.wait(10)


def test_the_process_leads_its_own_group_and_dies_when_told_to(tmp_path: Path) -> None:
    with Player(recording("01-happy"), tmp_path, speed=math.inf) as player:
        player.advance_to(5)
        (pid,) = player.live.values()
        assert os.getpgid(pid) == pid
        os.killpg(pid, signal.SIGTERM)
        until(lambda: player.live == {}, "the process is gone")
        player.play()
        assert player.done


def test_a_killed_player_takes_its_process_along(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "sprite.standin.player", str(recordings_root() / "01-happy"), str(tmp_path / "t")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    path = tmp_path / "t/.superloop" / ACTIVE
    until(lambda: path.exists() and path.stat().st_size > 0, "the recorded run is there")
    pid = json.loads(path.read_text())["pid"]
    assert is_alive(pid)
    process.kill()
    process.wait()
    until(lambda: not is_alive(pid), "its process is gone as well")


def test_the_command_line_plays_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(RECORDINGS_ARCHIVE), str(tmp_path / "t"), "--scenario", "11-kill9", "--speed", "100"]
    assert main(arguments) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "08:09:00Z step 1; processes: none"
    assert "08:09:06Z between steps; processes: none" in told
    assert main(arguments) == 2
    assert "already holds" in capsys.readouterr().err


def test_two_runs_at_once_have_two_processes(tmp_path: Path) -> None:
    a_log, b_log, works = "loops/a/events.jsonl", "loops/b/events.jsonl", log("loop_start")
    made = make_recording(
        tmp_path / "r",
        [
            (1, {ACTIVE: active(100, "a"), a_log: works}),
            (3, {ACTIVE: active(200, "b"), b_log: works}),
            (5, {ACTIVE: None, b_log: works + log("loop_complete")}),
            (9, {a_log: works + log("loop_complete")}),
        ],
        [(0, f"{RUN.replace('demo', 'a')} &"), (2, f"{RUN.replace('demo', 'b')} &")],
    )
    with Player(made, tmp_path / "t", speed=math.inf) as player:
        player.advance_to(2)
        first, second = player.live[100], player.live[200]
        assert json.loads((tmp_path / "t/.superloop" / ACTIVE).read_text())["pid"] == second
        assert (_command_line(first)[-1], _command_line(second)[-1]) == ("a", "b")
        player.advance_to(3)
        assert player.live == {100: first}
        player.advance_to(4)
        assert player.live == {}


def test_a_log_that_was_rewritten_is_rewritten_and_one_that_was_cut_is_cut(tmp_path: Path) -> None:
    made = make_recording(
        tmp_path / "r",
        [
            (1, {EVENTS: log("loop_start", "iteration_start")}),
            (2, {EVENTS: log("loop_start")}),
            (3, {EVENTS: log("other", "things", "entirely")}),
            (4, {EVENTS: log("other", "things", "entirely")[:-5]}),
            (5, {EVENTS: None}),
        ],
    )
    with Player(made, tmp_path / "t", speed=math.inf) as player:
        for step in made.steps:
            player.advance_to(step.number)
            assert _tree(tmp_path / "t/.superloop") == step.files


def test_players_in_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    players = [Player(recording(name), tmp_path / name, speed=300) for name in ("04-cancel", "11-kill9")]
    before = threading.active_count()
    for player in players:
        player.start()
    for player in players:
        assert player.wait(20)
        assert _tree(player.target / ".superloop") == player.recording.final.files
        player.close()
    assert threading.active_count() == before
