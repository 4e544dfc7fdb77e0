"""`superloop.sh cancel`: clear the state, end the run process that active-run.json names. No event, no record."""

from __future__ import annotations

import signal
import time

from sprite.standin.console import say
from sprite.standin.disk import CommandError, Disk, RepoFiles, read_object
from sprite.standin.processes import is_alive, is_run, send_to_run
from sprite.standin.scenario import Pace


def cancel(files: RepoFiles, disk: Disk, pace: Pace) -> int:
    """Cancel whatever runs in the repo; a loop cannot be chosen. Always exits with 0."""
    state, active = _lenient(files)
    loop_id = active.get("loop_id") or (state.get("current_loop_id") if state.get("active") is True else None)
    had_state = disk.delete(files.state)
    had_run = files.active_run.exists()
    if not had_state and not had_run:
        say("No active state file found.")
        return 0
    if loop_id:
        say(f"Cancelled loop: {loop_id}")
    pid = active.get("pid")
    said = "Cancelled loop state."
    if isinstance(pid, int) and pid > 1 and is_alive(pid) and is_run(pid):
        stopped = _end_run(pid, disk, pace)
        said = f"Cancelled loop state and {'stopped' if stopped else 'force-stopped'} active run process."
    disk.delete(files.active_run)
    say(said)
    return 0


def _lenient(files: RepoFiles) -> tuple[dict[str, object], dict[str, object]]:
    found = []
    for path in (files.state, files.active_run):
        try:
            found.append(read_object(path))
        except CommandError:
            found.append({})
    return found[0], found[1]


def _end_run(pid: int, disk: Disk, pace: Pace) -> bool:
    send_to_run(pid, signal.SIGTERM)
    disk.on_effect()
    deadline = time.monotonic() + pace.cancel_term_ms / 1000
    while time.monotonic() < deadline:
        if not is_alive(pid):
            return True
        time.sleep(pace.cancel_poll_ms / 1000)
    if not is_alive(pid):
        return True
    send_to_run(pid, signal.SIGKILL)
    disk.on_effect()
    return False
