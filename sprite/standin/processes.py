"""Real processes: the runner that stands for an agent at work, and what `cancel` does to the process of a run."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_PROC = Path("/proc")
_LOOK_EVERY_S = 0.02


class Runner:
    """A child process that stands for an agent: it works until told to stop, and never outlives the run.

    It is `cat` on a pipe: it ends by itself when the run's end of the pipe closes, for whatever reason.
    """

    def __init__(self) -> None:
        self._child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._child.stdout is not None  # noqa: S101 - tells the type checker what PIPE means
        self._output = self._child.stdout

    def work(self, seconds: float | None, until: Callable[[], bool] | None = None) -> int | None:
        """Work for that long (None: until killed), and on until the condition holds.

        Returns:
            None if the time was up, or how the child ended before it.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._gone_within(deadline, polling=until is not None):
            if deadline is not None and time.monotonic() >= deadline and (until is None or until()):
                return None
        return self._child.wait()

    def stop(self) -> None:
        """Let the child end, and reap it."""
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._child.wait()

    def _gone_within(self, deadline: float | None, *, polling: bool) -> bool:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if polling:
            left = _LOOK_EVERY_S if left is None else max(left, _LOOK_EVERY_S)
        readable, _, _ = select.select([self._output], [], [], left)
        return bool(readable)


def is_alive(pid: int) -> bool:
    """Return whether a process with this id exists and is no zombie (whose parent merely has not noticed yet)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = (_PROC / str(pid) / "stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return not _PROC.joinpath("self").exists()
    return state not in ("Z", "X")


def is_run(pid: int) -> bool:
    """Return whether the command line of `pid` holds "superloop.sh run".

    Like the runtime, it does not look at the repo: a stale pid that now is a run of another repo passes (D17).
    """
    try:
        command = (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        command = _ps("-o", "command=", "-p", str(pid))
    return "superloop.sh run" in command


def process_tree(pid: int) -> list[int]:
    """Return `pid` and its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for line in _ps("-A", "-o", "pid=,ppid=").splitlines() or _parents_from_proc():
        child, parent = (int(word) for word in line.split())
        children.setdefault(parent, []).append(child)
    tree = [pid]
    for member in tree:
        tree.extend(children.get(member, []))
    return tree


def send_to_run(pid: int, signal_number: signal.Signals) -> None:
    """Signal the whole process group of a run if it leads one, else its process tree."""
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal_number)
            return
    for member in process_tree(pid):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(member, signal_number)


def _parents_from_proc() -> list[str]:
    pairs = []
    for stat in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            pairs.append(
                f"{stat.parent.name} {stat.read_text('utf-8', errors='replace').rpartition(')')[2].split()[1]}"
            )
    return pairs


def _ps(*arguments: str) -> str:
    try:
        done = subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
