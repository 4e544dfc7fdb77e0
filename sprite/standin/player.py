"""Replay a recording of the real runtime into a folder, with a real process wherever the recorded one was alive.

    python -m sprite.standin.player RECORDING TARGET [--scenario NAME] [--speed 20]

What a supervisor finds in `<target>/.superloop` is, byte for byte and in the runtime's order, what was recorded, at its
own pace or a faster one; only `repo`, `pid` and `pgid` of active-run.json name the target and the process that is
really there. Its command line is that of the recorded run on the target (`superloop.sh run --repo <target> ...`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from sprite.standin.prepare import runtime_path
from sprite.standin.recording import Recording, RecordingError, Step, open_recording, recording_steps
from sprite.standin.replay_disk import ReplayDisk
from sprite.standin.replay_plan import Action, RecordedRun, plan

__all__ = [
    "Action",
    "Player",
    "PlayerError",
    "Recording",
    "RecordingError",
    "Step",
    "open_recording",
    "recording_steps",
]


class PlayerError(ValueError):
    """The recording cannot be played there; the message says why."""


class Player:
    """Replays one recording into one folder, from its first step to its last.

    Use it as a context manager, or call `close`: every process it started ends then and is reaped. Play all of it with
    `play` (or `start`, in a thread), or step by step with `advance` and `advance_to`, which do not wait.

    Args:
        recording: an opened recording, the folder of one, or an archive (then name the `scenario`).
        target: the repo to play into; made if missing. Its `.superloop` must not hold a run's artifacts yet.
        speed: 1 is the recorded pace, 20 twenty times faster, `math.inf` without waiting.
        scenario: the scenario's name, where `recording` holds several.

    Raises:
        RecordingError: there is no such recording.
        PlayerError: the target is in use, or the speed is not positive.
    """

    def __init__(
        self, recording: Recording | Path, target: Path, *, speed: float = 1.0, scenario: str | None = None
    ) -> None:
        if not speed > 0:
            raise PlayerError(f"speed must be above 0, not {speed}")
        self.target = Path(os.path.abspath(target))
        root = self.target / ".superloop"
        in_use = [name for name in ("state.json", "active-run.json", "loops") if (root / name).exists()]
        if in_use:
            raise PlayerError(f"{root} already holds {', '.join(in_use)}; play into a folder without a run")
        self._exit = ExitStack()
        if isinstance(recording, Path):
            recording = self._exit.enter_context(open_recording(recording, scenario))
        self.recording = recording
        self.actions: tuple[Action, ...] = tuple(plan(recording))
        self.step: Step | None = None
        """The step whose files are in place."""
        self._speed = speed
        self._next = 0
        self._disk = ReplayDisk(self.target, self._rewrite_active_run)
        self._holders: dict[int, subprocess.Popen[bytes]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)
        config = recording.folder / "config.json"
        if config.is_file() and not (root / "config.json").exists():
            (root / "config.json").write_bytes(config.read_bytes())

    def __enter__(self) -> Self:
        """Return the player."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def live(self) -> dict[int, int]:
        """The processes that are alive now: real pid by recorded pid."""
        return {pid: child.pid for pid, child in list(self._holders.items()) if child.poll() is None}

    @property
    def done(self) -> bool:
        """Whether everything was played."""
        return self._next >= len(self.actions)

    def play(self, on_action: Callable[[Action], None] | None = None) -> None:
        """Play what is left at its pace; return at the end, or soon after `stop` was called from another thread."""
        left = self.actions[self._next :]
        recorded_s, began_s = left[0].at_s if left else 0.0, time.monotonic()
        while not self.done and not self._stop.is_set():
            due_s = began_s + (self.actions[self._next].at_s - recorded_s) / self._speed
            if not math.isinf(self._speed) and self._stop.wait(max(0.0, due_s - time.monotonic())):
                return
            action = self.advance()
            if on_action is not None and action is not None:
                on_action(action)

    def advance(self) -> Action | None:
        """Do the next action at once; return it, or None at the end."""
        with self._lock:
            if self.done:
                return None
            action = self.actions[self._next]
            self._next += 1
            self._do(action)
            return action

    def advance_to(self, step_number: int) -> Step:
        """Advance until the step with this number is in place; return it.

        Raises:
            PlayerError: the recording has no such step, or it is past.
        """
        while self.step is None or self.step.number != step_number:
            if self.advance() is None:
                raise PlayerError(f"{self.recording.name} has no step {step_number} left to play")
        return self.step

    def start(self) -> None:
        """Play in a thread; see `wait`."""
        self._thread = threading.Thread(target=self._play_in_thread, name=f"player {self.recording.name}", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a started player; return whether it has finished.

        Raises:
            Exception: what went wrong in the thread.
        """
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        if self._failure is not None:
            raise self._failure
        return True

    def stop(self) -> None:
        """Play no further; files and processes stay as they are until `close`."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Stop, end every process that is left, and reap it."""
        self.stop()
        for child in self._holders.values():
            _end(child)
        self._exit.close()

    def _play_in_thread(self) -> None:
        try:
            self.play()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            self._failure = error

    def _do(self, action: Action) -> None:
        def change_processes() -> None:
            if action.starts:
                for run in action.ends:
                    self._end(run)
                for run in action.starts:
                    self._begin(run)

        if action.step is not None:
            last = bool(action.starts and action.ends)
            self._disk.apply(action.step, before_active_run=change_processes, active_run_last=last)
            self.step = action.step
        for run in action.ends:
            self._end(run)

    def _begin(self, run: RecordedRun) -> None:
        environment = {**os.environ, "SUPERLOOP_STANDIN_HOLD": "1"}
        # Its stdin is a pipe of ours: should we die without a word, it ends as well.
        self._holders[run.pid] = subprocess.Popen(
            [sys.executable, str(runtime_path()), *run.arguments(str(self.target))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )

    def _end(self, run: RecordedRun) -> None:
        child = self._holders.get(run.pid)
        if child is not None:
            _end(child)

    def _rewrite_active_run(self, content: bytes) -> bytes:
        found = re.search(rb'"pid":\s*(\d+)', content)
        child = self._holders.get(int(found.group(1))) if found else None
        repo = json.dumps(str(self.target), ensure_ascii=False).encode()
        content = re.sub(rb'("repo":\s*)"(?:[^"\\]|\\.)*"', lambda match: match.group(1) + repo, content)
        if child is None:
            return content
        # The holder leads its own session and group, so pgid and pid are the same.
        return re.sub(rb'("pg?id":\s*)\d+', lambda match: match.group(1) + str(child.pid).encode(), content)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait()
    if child.stdin is not None:
        child.stdin.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a recording from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sprite.standin.player", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recording", type=Path, help="a scenario's folder, or a .tar.gz of scenarios")
    parser.add_argument("target", type=Path, help="the repo to play into")
    parser.add_argument("--scenario", help="which scenario, where there are several")
    parser.add_argument("--speed", type=float, default=1.0, help="1: as recorded; 20: twenty times faster")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Player(options.recording, options.target, speed=options.speed, scenario=options.scenario) as player:
            player.play(lambda action: _report(player, action))
    except (RecordingError, PlayerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _report(player: Player, action: Action) -> None:
    alive = ", ".join(str(pid) for pid in player.live.values()) or "none"
    what = f"step {action.step.number}" if action.step else "between steps"
    print(f"{time.strftime('%H:%M:%SZ', time.gmtime(action.at_s))} {what}; processes: {alive}", flush=True)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
