"""Put the files of a recorded step down: only what changed, each file in the runtime's manner, in the runtime's order.

A step bundles what happened since the one before it. Within a step the order is the runtime's own, so that no reader
sees what never was: a summary is there before the event that follows it, an active state before its `iteration_start`,
an inactive one after the terminal event, and active-run.json goes last.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path

from sprite.standin.recording import Step
from sprite.standin.replay_plan import ACTIVE_RUN, event_names

_STATE = "state.json"
_EVENTS = "events.jsonl"
_FOLLOW_EVENTS = ("run-summary.json", "approval.json", "decisions.jsonl")


class ReplayDisk:
    """Writes steps into `<target>/.superloop`."""

    def __init__(self, target: Path, rewrite_active_run: Callable[[bytes], bytes]) -> None:
        self._root = target / ".superloop"
        self._rewrite = rewrite_active_run
        self._before: dict[str, bytes] = {}
        self._folders: list[str] = []

    def apply(
        self, step: Step, *, before_active_run: Callable[[], None] | None = None, active_run_last: bool = False
    ) -> None:
        """Write what this step changed.

        Args:
            step: the step; steps are to come in order.
            before_active_run: called before active-run.json is written, if this step writes it.
            active_run_last: the rest of the step belongs to the run before: active-run.json is written at the end.
        """
        old, new = self._before, step.files
        changed = {path for path in new if old.get(path) != new[path]}
        removed = old.keys() - new.keys()
        if _STATE in removed:
            self._delete(_STATE)  # `cancel` begins with it
        if ACTIVE_RUN in changed and not active_run_last:
            self._write_active_run(new[ACTIVE_RUN], before_active_run)
        for folder in step.folders:
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        self._apply_loops(new, changed, removed)
        for path in sorted(removed - {_STATE, ACTIVE_RUN}):
            self._delete(path)
        if ACTIVE_RUN in removed:
            self._delete(ACTIVE_RUN)
        if ACTIVE_RUN in changed and active_run_last:
            self._write_active_run(new[ACTIVE_RUN], before_active_run)
        for folder in sorted(set(self._folders) - set(step.folders), reverse=True):
            with contextlib.suppress(OSError):  # somebody else's files in it are no business of a player
                (self._root / folder).rmdir()
        self._before, self._folders = new, step.folders

    def _apply_loops(self, new: dict[str, bytes], changed: set[str], removed: set[str]) -> None:
        """Write everything but active-run.json."""
        for path in sorted(changed - {_STATE, ACTIVE_RUN}):
            if not path.endswith((_EVENTS, *_FOLLOW_EVENTS)):
                self._overwrite(path, new[path])
        current, state = _loop_prefix(new), new.get(_STATE)
        begins = current if _STATE in changed and _parse(state).get("active") is True else None
        loops = {"/".join(path.split("/")[:2]) + "/" for path in changed | removed if path.startswith("loops/")}
        for loop in sorted(loops, key=lambda prefix: (prefix == current, prefix)):
            self._apply_loop(loop, new, changed, removed, active_state=state if loop == begins else None)
        if _STATE in changed and begins not in loops:
            self._overwrite(_STATE, new[_STATE])

    def _apply_loop(
        self, loop: str, new: dict[str, bytes], changed: set[str], removed: set[str], *, active_state: bytes | None
    ) -> None:
        """Write one loop's files, and the active state if it is this loop's."""
        events = loop + _EVENTS
        early, late = self._new_events(events, new, loop, changed, begins=active_state is not None)
        if events in changed:
            self._append(events, early)
        for name in _FOLLOW_EVENTS:
            if loop + name in changed:
                self._write_following(loop + name, new[loop + name])
        if active_state is not None:
            self._overwrite(_STATE, active_state)
        if late:
            self._append(events, late)
        if loop + "approval.json" in removed:
            self._delete(loop + "approval.json")

    def _new_events(
        self, events: str, new: dict[str, bytes], loop: str, changed: set[str], *, begins: bool
    ) -> tuple[bytes, bytes]:
        old, whole = self._before.get(events, b""), new.get(events, b"")
        if events in changed and not whole.startswith(old):
            self._overwrite(events, b"")  # the recorded log is no continuation of the one before: rewritten, here too
            old = b""
        fresh = whole[len(old) :]
        cut = _cut(fresh, loop, changed, begins=begins)
        return fresh[:cut], fresh[cut:]

    def _append(self, path: str, part: bytes) -> None:
        with (self._root / path).open("ab", buffering=0) as stream:
            if part:
                stream.write(part)

    def _write_following(self, path: str, content: bytes) -> None:
        old = self._before.get(path)
        if path.endswith(".jsonl") and old is not None and content.startswith(old):
            with (self._root / path).open("ab", buffering=0) as stream:
                stream.write(content[len(old) :])
        elif path.endswith("approval.json") and _parse(content).get("status") in (None, "pending"):
            self._overwrite(path, content)
        else:
            beside = self._root / f"{path}.tmp"
            beside.write_bytes(content)
            beside.replace(self._root / path)

    def _write_active_run(self, content: bytes, before: Callable[[], None] | None) -> None:
        if before is not None:
            before()
        self._overwrite(ACTIVE_RUN, self._rewrite(content))

    def _overwrite(self, path: str, content: bytes) -> None:
        with (self._root / path).open("wb", buffering=0) as stream:
            if content:
                stream.write(content)

    def _delete(self, path: str) -> None:
        (self._root / path).unlink(missing_ok=True)


def _cut(fresh: bytes, loop: str, changed: set[str], *, begins: bool) -> int:
    """Return how many bytes of the new events precede the step's summary, approval and active state."""
    names = event_names(fresh)

    def places(*wanted: str) -> list[int]:
        return [index for index, name in enumerate(names) if name in wanted]

    cut = 0
    if loop + "run-summary.json" in changed:
        cut = max([0, *(index + 1 for index in places("iteration_end", "approval_consumed"))])
    if loop + "approval.json" in changed:
        cut = max([cut, *places("approval_requested", "approval_decision")])
    if begins:
        before = (index + 1 for index in places("loop_start", "approval_rejected", "iteration_end"))
        cut = max([cut, *before, *places("iteration_start")])
    return sum(len(line) for line in list(io.BytesIO(fresh))[:cut])


def _loop_prefix(files: dict[str, bytes]) -> str:
    """Return where the loop is that the state names: of several loops in one step, it is the later one."""
    return f"loops/{_parse(files.get(_STATE)).get('current_loop_id')}/"


def _parse(content: bytes | None) -> dict[str, object]:
    try:
        value = json.loads(content or b"")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
