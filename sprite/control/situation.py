"""What the artifacts and the process table say right before, and right after, a command.

Read directly, not through a snapshot: a crashed run has to be clearable even where its loop has no event log.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from contract.chain import event_name
from contract.intents import Expect
from sprite.artifacts import JsonArtifacts, Patience, json_object
from sprite.errors import ArtifactUnreadable
from sprite.files import open_regular
from sprite.loglines import MAX_LINE_BYTES, LogChanged, events_backwards
from sprite.processes import LoopRun, scan_runs
from sprite.snapshot import ACTIVE_RUN_FILE, STATE_FILE, ArtifactPaths

REREAD_FOR_S = 0.5
"""The runtime truncates a file and then writes it, milliseconds later: an unreadable one is read again (D16)."""

_UNJUDGED = "no effect: the request cannot be judged, because"


class ActivePid(StrEnum):
    """What the process is that active-run.json names."""

    NONE = "none"
    """No active-run.json, or no usable pid in it."""
    DEAD = "dead"
    RUN_OF_THIS_REPO = "run_of_this_repo"
    RUN_OF_ANOTHER_REPO = "run_of_another_repo"
    """Looks like a run to `superloop.sh cancel`, which would end it: a neighbour (D17)."""
    OTHER_PROGRAM = "other_program"


@dataclass(frozen=True)
class Situation:
    """The repo's control state at one instant. `scan_complete`: every process could be looked at."""

    state: dict[str, Any]
    active_run: dict[str, Any]
    active_pid: ActivePid
    runs: tuple[LoopRun, ...]
    scan_complete: bool = True
    state_sha256: str | None = None

    @property
    def active_loop_id(self) -> str | None:
        """The loop that state.json calls active, None when it is inactive or missing."""
        loop_id = self.state.get("current_loop_id")
        return str(loop_id) if self.state.get("active") is True and loop_id else None

    def has_logged(self, started_at: str | None) -> bool:
        """Whether the run that active-run.json names has logged its start; `started_at` is the last `loop_start`.

        A run writes active-run.json when it begins and its `loop_start` seconds later: until then the last one in the
        log is that of the run before.
        """
        began = self.active_run.get("updated_at")
        return not isinstance(began, str) or (started_at or "") >= began

    def shown(self) -> dict[str, Any]:
        """The current values for a refusal."""
        return {
            "stateActive": self.state.get("active") if self.state else None,
            "stateLoopId": self.state.get("current_loop_id"),
            "activeRunPid": self.active_run.get("pid"),
            "activeRunProcess": self.active_pid.value,
            "runs": [{"pid": run.pid, "loopId": run.loop_id} for run in self.runs],
        }


@dataclass(frozen=True)
class Addressed:
    """The current values that `expect` is compared with.

    `started_at` is when the run said its `run_id`, `requested_at` when the approval was asked for.
    """

    run_id: str | None
    iteration: int | None
    approval_sha256: str | None
    approval_status: str | None
    started_at: str | None = None
    requested_at: str | None = None


def read_situation(repo: Path) -> Situation:
    """Scan the processes, then read the state: a run that ends in between is then seen as ended.

    Raises:
        ArtifactUnreadable: A file stays empty or half written; nothing was done.
    """
    scan = scan_runs(repo)
    state, digest = read_object(repo, STATE_FILE)
    active_run = read_object(repo, ACTIVE_RUN_FILE)[0]
    active_pid = _judge_pid(active_run.get("pid"), {run.pid for run in scan.runs})
    return Situation(state, active_run, active_pid, scan.runs, scan.complete, digest)


def addressed_by_decision(repo: Path, loop_id: str) -> Addressed:
    """What an approve or reject addresses: the approval request.

    Raises:
        ArtifactUnreadable: approval.json stays empty or half written; nothing was done.
    """
    request, digest = read_object(repo, ArtifactPaths.of(loop_id).approval)
    return _addressed(request.get("run_id"), request.get("iteration"), request, digest)


def addressed_by_cancel(repo: Path, loop_id: str, expect: Expect) -> Addressed:
    """What a cancel addresses: the run of the last `loop_start`.

    What `expect` does not ask for is left out where it cannot be read: a loop must not run on because a file that
    its cancel does not need is damaged.

    Raises:
        ArtifactUnreadable: A file that the comparison with `expect` needs stays unreadable; nothing was done.
    """
    paths = ArtifactPaths.of(loop_id)
    approval: dict[str, Any] = {}
    run: dict[str, Any] = {}
    digest = None
    with _needed(expect.approval_sha256 is not None):
        approval, digest = read_object(repo, paths.approval)
    with _needed(expect.run_id is not None or expect.iteration is not None):
        run = _last_loop_start(repo / paths.events)
    iteration = _current_iteration(repo, loop_id, run.get("iteration"))
    started_at = run.get("timestamp")
    return replace(_addressed(run.get("run_id"), iteration, approval, digest), started_at=started_at)


def _addressed(run_id: Any, iteration: Any, approval: dict[str, Any], digest: str | None) -> Addressed:
    status, requested_at = approval.get("status"), approval.get("requested_at")
    return Addressed(
        run_id=run_id if isinstance(run_id, str) else None,
        iteration=iteration if isinstance(iteration, int) else None,
        approval_sha256=digest,
        approval_status=status if isinstance(status, str) else None,
        requested_at=requested_at if isinstance(requested_at, str) else None,
    )


def _current_iteration(repo: Path, loop_id: str, started_with: Any) -> Any:
    """state.json's iteration while it is about the loop: `loop_start` always carries 1, active-run.json never moves."""
    state = read_object(repo, STATE_FILE)[0]
    return state.get("iteration", started_with) if state.get("current_loop_id") == loop_id else started_with


@contextlib.contextmanager
def _needed(needed: bool) -> Iterator[None]:
    """What cannot be read in here is an error only where it is needed."""
    try:
        yield
    except ArtifactUnreadable:
        if needed:
            raise


def _judge_pid(pid: Any, runs_here: set[int]) -> ActivePid:
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return ActivePid.NONE
    if pid in runs_here:
        return ActivePid.RUN_OF_THIS_REPO
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ActivePid.DEAD
        words = process.cmdline()
    except psutil.NoSuchProcess:
        return ActivePid.DEAD
    except psutil.AccessDenied:
        # What cannot be ruled out to be a neighbour is treated as one.
        return ActivePid.RUN_OF_ANOTHER_REPO
    # `superloop.sh cancel` looks for the text "superloop.sh run"; this takes in a little more than that.
    text = " ".join(words)
    looks_like_a_run = "superloop.sh" in text and "run" in text.partition("superloop.sh")[2].split()
    return ActivePid.RUN_OF_ANOTHER_REPO if looks_like_a_run else ActivePid.OTHER_PROGRAM


def read_object(repo: Path, path: str) -> tuple[dict[str, Any], str | None]:
    """The JSON object in an artifact and the SHA-256 of its bytes; `({}, None)` when there is no such file."""
    with _refusing():
        # Not through a cache: what is judged here must be what is on disk now.
        artifact = JsonArtifacts(repo).read(path, Patience(REREAD_FOR_S), json_object)
    return artifact.value or {}, artifact.stat.sha256


def _last_loop_start(log: Path) -> dict[str, Any]:
    """The last `loop_start` of a log, empty where there is none."""
    try:
        with _refusing(), open_regular(log) as descriptor:
            end = os.fstat(descriptor).st_size
            events = events_backwards(descriptor, 0, end, MAX_LINE_BYTES, holding=b"loop_start")
            return next((event for event in events if event_name(event) == "loop_start"), {})
    except FileNotFoundError:
        return {}
    except LogChanged:
        raise ArtifactUnreadable(f"{_UNJUDGED} {log} shrank while it was read") from None


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except ArtifactUnreadable as error:
        raise ArtifactUnreadable(f"{_UNJUDGED} {error.message}") from None
