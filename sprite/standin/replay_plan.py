"""When the recorded processes lived: what a player has to start and end, and between which steps.

A recording shows processes only through active-run.json, which outlives a killed run and which a second run overwrites
and deletes. So the life of each recorded pid is derived from all there is:

1. it starts with the first step whose active-run.json names it;
2. it ends with the step in which active-run.json is gone: a run deletes that file just before it ends;
3. but a SIGKILL in the log (or a foreground run that exited with 137) ends it at that time, whatever files remain;
4. if another pid takes its place, a foreground run has ended; one in the background lives on, beside active-run.json,
   until its loop's log has a terminal event, or the log of commands says that it was signalled or has exited;
5. if active-run.json goes together with the terminal event of such a run, that run took the file away, and the one
   whose pid it held lives on in its turn.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sprite.standin.recording import LogEntry, Recording, Step

ACTIVE_RUN = "active-run.json"

_TERMINAL = frozenset(
    {
        "loop_complete",
        "loop_stop",
        "role_timeout",
        "rate_limit_stop",
        "usage_limit_blocked",
        "approval_requested",
        "approval_wait",
    }
)
_KILLS = re.compile(r"\bSIG(KILL|ABRT|SEGV)\b|\bkill\s+(-s\s+)?-?(9|KILL)\b|\bexit code 137\b", re.IGNORECASE)
_SIGNALS = re.compile(r"\bSIG(TERM|INT|HUP)\b|\bkill\s+(?!-)\d|\bkill\s+(-s\s+)?-?(15|TERM|INT|HUP)\b", re.IGNORECASE)
_EXITED = re.compile(r"\bexit(ed)?( with)?( code)? \d+\b")
_KILLED_EXIT = 128 + 9


@dataclass
class RecordedRun:
    """A run process that the recording names."""

    pid: int
    pgid: int
    loop_id: str | None
    first: int
    """Index of the first step that names it."""
    last: int
    """Index of the last step that names it."""
    command: LogEntry | None = None
    ends_with: int | None = None
    """Index of the step with whose last change the process ends."""
    killed_at_s: float | None = None
    """When the process ends between two steps."""

    @property
    def background(self) -> bool:
        """Whether it was started in the background."""
        return self.command is not None and self.command.background

    @property
    def all_loops(self) -> bool:
        """Whether it runs every loop of the config, one after the other."""
        return self.command.value("--loop") is None if self.command else self.loop_id is None

    def arguments(self, repo: str) -> list[str]:
        """Return the arguments of `superloop.sh` with which it runs on `repo`."""
        if self.command is None:
            return ["run", "--repo", repo, *(["--loop", self.loop_id] if self.loop_id else [])]
        words = self.command.words
        start = next(index for index, word in enumerate(words) if word.endswith("superloop.sh")) + 1
        words = words[start:]
        if "--repo" not in words:
            return [words[0], "--repo", repo, *words[1:]]
        words[words.index("--repo") + 1] = repo
        return words


@dataclass(frozen=True)
class Action:
    """One thing to do at one time: put a step's files down, start and end processes."""

    at_s: float
    step: Step | None = None
    starts: tuple[RecordedRun, ...] = ()
    """Started before their pid is written."""
    ends: tuple[RecordedRun, ...] = field(default=())
    """Ended after all the step's files are in place; before the next run's active-run.json, if there is one."""


def plan(recording: Recording) -> list[Action]:
    """Return all actions in order."""
    lives = _Lives(recording)
    runs = lives.settle()
    actions = [
        Action(
            step.epoch_s,
            step,
            starts=tuple(run for run in runs if run.first == index),
            ends=tuple(run for run in runs if run.ends_with == index),
        )
        for index, step in enumerate(recording.steps)
    ]
    actions += [Action(run.killed_at_s, ends=(run,)) for run in runs if run.killed_at_s is not None]
    return sorted(actions, key=lambda action: (action.at_s, action.step is None))


def named_run(step: Step) -> dict[str, object] | None:
    """Return what active-run.json of a step holds; None if it is missing, {} if it is empty or half written."""
    content = step.files.get(ACTIVE_RUN)
    if content is None:
        return None
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) and isinstance(value.get("pid"), int) else {}


class _Lives:
    def __init__(self, recording: Recording) -> None:
        self._steps = recording.steps
        self._log = recording.log
        self._news = list(_new_events(recording.steps))
        self._runs: list[RecordedRun] = []

    def settle(self) -> list[RecordedRun]:
        self._find_runs()
        for run in self._runs:
            self._settle_end(run)
        return self._runs

    def _find_runs(self) -> None:
        found: dict[int, RecordedRun] = {}
        for index, step in enumerate(self._steps):
            named = named_run(step)
            if not named:
                continue
            pid, loop_id = int(str(named["pid"])), named.get("loop_id")
            loop_id = loop_id if isinstance(loop_id, str) else None
            run = found.setdefault(pid, RecordedRun(pid, int(str(named.get("pgid", pid))), loop_id, index, index))
            run.last, run.loop_id = index, loop_id or run.loop_id
        self._runs = list(found.values())
        taken: list[LogEntry] = []
        for run in self._runs:
            run.command = self._command_of(run, taken)
            if run.command:
                taken.append(run.command)

    def _command_of(self, run: RecordedRun, taken: Sequence[LogEntry]) -> LogEntry | None:
        born_s = self._steps[run.first].epoch_s
        fitting = [
            entry
            for entry in self._log
            if entry.is_run
            and entry.epoch_s <= born_s
            and all(entry is not other for other in taken)
            and entry.value("--loop") in (None, run.loop_id)
        ]
        return fitting[-1] if fitting else None

    def _settle_end(self, run: RecordedRun) -> None:
        following = self._following(run.last)
        gone_s = self._steps[following].epoch_s if following is not None else None
        run.killed_at_s = self._killed_at(run, gone_s)
        if run.killed_at_s is not None:
            return
        if following is None:
            run.killed_at_s = self._signalled_at(run)
            return
        if self._lives_on(run, following):
            self._settle_hidden_end(run, following)
        else:
            run.ends_with = following

    def _following(self, index: int) -> int | None:
        """Return the next step in which active-run.json is missing or names somebody."""
        later = range(index + 1, len(self._steps))
        return next((other for other in later if named_run(self._steps[other]) != {}), None)

    def _lives_on(self, run: RecordedRun, following: int) -> bool:
        ended_here = self._ends_in(run, following)
        if named_run(self._steps[following]):
            return run.background and not ended_here
        taken_away = any(other is not run and other.ends_with == following for other in self._runs)
        return taken_away and not ended_here

    def _settle_hidden_end(self, run: RecordedRun, since: int) -> None:
        """Find the end of a run that active-run.json does not show any more."""
        signalled_s = self._signalled_at(run, hidden_since_s=self._steps[since].epoch_s)
        for index in range(since, len(self._steps)):
            if signalled_s is not None and self._steps[index].epoch_s > signalled_s:
                break
            if self._ends_in(run, index):
                run.ends_with = index
                return
        run.killed_at_s = signalled_s

    def _ends_in(self, run: RecordedRun, index: int) -> bool:
        for loop_id, names in self._news[index].items():
            if loop_id != run.loop_id and not run.all_loops:
                continue
            terminal = _TERMINAL.intersection(names)
            if terminal - {"loop_complete"} or (terminal and (not run.all_loops or self._inactive(index))):
                return True
        return False

    def _inactive(self, index: int) -> bool:
        try:
            state = json.loads(self._steps[index].files.get("state.json", b""))
        except ValueError:
            return False
        return isinstance(state, dict) and state.get("active") is False

    def _killed_at(self, run: RecordedRun, gone_s: float | None) -> float | None:
        born_s = self._steps[run.first].epoch_s
        for entry in self._log:
            lived = born_s < entry.epoch_s + 1 and (gone_s is None or entry.epoch_s <= gone_s)
            if lived and _mentions(entry, _KILLS) and self._means(entry, run):
                return max(entry.epoch_s, self._last_progress_s(run, before_s=entry.epoch_s + 1))
        if run.command and run.command.exit_code == _KILLED_EXIT:
            after = [
                entry.epoch_s for entry in self._log if entry.epoch_s > run.command.epoch_s and entry is not run.command
            ]
            bounds = [bound for bound in (gone_s, min(after, default=None)) if bound is not None]
            progress_s = self._last_progress_s(run, before_s=min(bounds, default=float("inf")))
            return max(progress_s, min(bounds, default=progress_s))
        return None

    def _signalled_at(self, run: RecordedRun, hidden_since_s: float = 0.0) -> float | None:
        """Return when a run whose end no step shows was told to end, or was said to have ended."""
        born_s = max(self._steps[run.first].epoch_s, hidden_since_s)
        for entry in self._log:
            told = _mentions(entry, _SIGNALS) or _mentions(entry, _KILLS)
            ended = not entry.is_command and _EXITED.search(entry.text) is not None
            if (told or ended) and self._means(entry, run) and born_s < entry.epoch_s + 1:
                return max(entry.epoch_s, self._last_progress_s(run, before_s=entry.epoch_s + 1))
        return None

    def _means(self, entry: LogEntry, run: RecordedRun) -> bool:
        """Whether an entry about a process is about this one: by its number, or because it names none."""
        numbers = {int(number) for number in re.findall(r"\d+", entry.text)}
        named = [other for other in self._runs if numbers & {other.pid, other.pgid}]
        return run in named if named else True

    def _last_progress_s(self, run: RecordedRun, *, before_s: float) -> float:
        progress_s = self._steps[run.first].epoch_s
        for index in range(run.first, len(self._steps)):
            grew = any(loop_id == run.loop_id or run.all_loops for loop_id in self._news[index])
            if grew and self._steps[index].epoch_s < before_s:
                progress_s = max(progress_s, self._steps[index].epoch_s)
        return progress_s


def _mentions(entry: LogEntry, pattern: re.Pattern[str]) -> bool:
    return "superloop.sh" not in entry.text and pattern.search(entry.text) is not None


def _new_events(steps: Sequence[Step]) -> Iterator[dict[str, list[str]]]:
    """Yield for each step the names of the events that are new in it, by loop."""
    before: dict[str, bytes] = {}
    for step in steps:
        logs = {path: content for path, content in step.files.items() if path.endswith("/events.jsonl")}
        news = {}
        for path, content in logs.items():
            old = before.get(path, b"")
            fresh = content[len(old) :] if content.startswith(old) else content
            if fresh:
                news[path.split("/")[1]] = event_names(fresh)
        before = logs
        yield news


def event_names(lines: bytes) -> list[str]:
    """Return the name of the event on each line; empty where there is none to be read."""
    names = []
    for line in io.BytesIO(lines):  # unlike splitlines, this ends lines at \n alone
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        names.append(str(value.get("event", "")) if isinstance(value, dict) else "")
    return names
