"""Which `superloop.sh run` processes of this repo are alive: a scan, never active-run.json alone.

A second run overwrites active-run.json and deletes it at its end, a killed run leaves it behind, and its pid may by now
belong to anything. So the file only says which of the processes found is meant, and tells of a process that the scan
was not allowed to look at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from contract.clock import parse_utc
from sprite.artifacts import read_quietly

_PROGRAM = "superloop.sh"
_COMMAND = "run"
# Every command of the runtime accepts every option; these take a value, which is never the command.
_OPTIONS_WITH_VALUE = frozenset({"--repo", "--config", "--loop", "--by", "--note"})


class RunArguments(NamedTuple):
    """What a run's command line says: the repo and the loop as typed, None where left out."""

    repo: str | None
    loop_id: str | None


@dataclass(frozen=True)
class LoopRun:
    """One live run of the repo. Pid and start time (see `start_time`) together name a process.

    `loop_id` is None when neither the command line nor the artifacts tell which loop it runs.
    """

    pid: int
    start_time: str
    loop_id: str | None
    in_active_run: bool = False


@dataclass(frozen=True)
class ScanResult:
    """The live runs of a repo; `complete` is False when a process that may be one could not be examined.

    `remnants`: processes that a killed run left behind, such as a subshell that waits for an agent.
    """

    runs: tuple[LoopRun, ...] = ()
    complete: bool = True
    unseen_active_run: bool = False
    remnants: tuple[int, ...] = ()


ProcessScan = Callable[[Path], ScanResult]


@dataclass(frozen=True)
class _Candidate:
    pid: int
    parent: int
    start_time: str
    created: float
    arguments: RunArguments


@dataclass(frozen=True)
class _ActiveRun:
    """What active-run.json claims. `begun` is in seconds since the epoch."""

    pid: int | None = None
    group: int | None = None
    loop_id: str | None = None
    begun: float | None = None

    @classmethod
    def read(cls, repo: Path) -> _ActiveRun:
        told = read_quietly(repo / ".superloop" / "active-run.json")
        if not isinstance(told, dict):
            return cls()
        begun = parse_utc(_text(told.get("updated_at")))
        pid, group = _pid(told.get("pid")), _pid(told.get("pgid"))
        return cls(pid, group, _text(told.get("loop_id")), begun.timestamp() if begun else None)


def run_arguments(argv: Sequence[str]) -> RunArguments | None:
    """The arguments of a `superloop.sh run` command line, or None when it is something else.

    The program may stand anywhere (behind an interpreter, `timeout`, `env`), options in any order; an option given
    twice counts as given last, as in the runtime.
    """
    for index, word in enumerate(argv):
        if os.path.basename(word) == _PROGRAM:
            return _parse(argv[index + 1 :])
    return None


def _parse(words: Sequence[str]) -> RunArguments | None:
    command: str | None = None
    values: dict[str, str] = {}
    remaining = iter(words)
    for word in remaining:
        if word in _OPTIONS_WITH_VALUE:
            values[word] = next(remaining, "")
        elif command is None and not word.startswith("-"):
            command = word
    if command != _COMMAND:
        return None
    return RunArguments(values.get("--repo") or None, values.get("--loop") or None)


def start_time(process: psutil.Process) -> str:
    """When a process started, in seconds as text: the same for every observer, and for as long as it lives.

    On Linux since the boot, as the kernel keeps it: the time since the epoch moves when the clock is set, as it is in
    a machine that wakes up, and the process would be taken for another one.
    """
    if not psutil.LINUX:
        return f"{process.create_time():.2f}"
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(process.pid) from None
    # The name before it is in parentheses and may hold anything; the start is field 22 of proc(5).
    return f"{int(stat.rpartition(b')')[2].split()[19]) / _TICKS_PER_S:.2f}"


_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def is_alive(pid: int, started: str) -> bool:
    """Whether that very process still runs; a zombie does not. Cheap: looks at one process only."""
    try:
        process = psutil.Process(pid)
        return start_time(process) == started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def scan_runs(repo: Path) -> ScanResult:
    """Look at every process for runs of `repo`.

    Processes forked by a run share its command line (bash subshells), and wrappers such as `timeout` carry it too: a
    process whose ancestor runs the same loop is the same run, and so are orphans of one process group. Of these the
    one named by active-run.json stands for the run, else the topmost. Orphans of the run that active-run.json names
    are no run: it is dead, and what still waits for an agent will never go on to the next step.
    """
    repo = repo.resolve()
    active_run = _ActiveRun.read(repo)
    candidates, blind = _candidates(repo)
    families = _families(candidates)
    left = {key for key, family in families.items() if _is_left_by(active_run, key, family)}
    unseen = active_run.pid is not None and (active_run.pid in blind.unreadable or _is_hidden(active_run.pid))
    return ScanResult(
        tuple(_represent(family, repo, active_run) for key, family in families.items() if key not in left),
        complete=blind.complete and not unseen,
        unseen_active_run=unseen,
        remnants=tuple(one.pid for key in left for one in families[key]),
    )


@dataclass
class _Blind:
    """What a scan could not see: pids without a readable command line; `complete` is False for worse."""

    unreadable: set[int] = field(default_factory=set)
    complete: bool = True


class _RepoUnknown(Exception):
    """A run of which the repo cannot be told: its folder is not ours to read."""


def _candidates(repo: Path) -> tuple[list[_Candidate], _Blind]:
    found: list[_Candidate] = []
    blind = _Blind()
    try:
        pids = psutil.pids()
    except (psutil.Error, OSError):
        return found, _Blind(complete=False)
    for pid in pids:
        try:
            candidate = _examine(pid, repo)
        except psutil.NoSuchProcess:
            continue
        except _RepoUnknown:
            blind.complete = False
        except (psutil.AccessDenied, OSError):
            blind.unreadable.add(pid)
        else:
            if candidate is not None:
                found.append(candidate)
    return found, blind


def _examine(pid: int, repo: Path) -> _Candidate | None:
    if not _may_be_a_run(pid):
        return None
    process = psutil.Process(pid)
    arguments = run_arguments(process.cmdline())
    if arguments is None:
        return None
    with process.oneshot():
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        try:
            if not _is_repo(arguments.repo, process, repo):
                return None
        except (psutil.AccessDenied, OSError):
            raise _RepoUnknown from None
        return _Candidate(pid, process.ppid(), start_time(process), process.create_time(), arguments)


def _may_be_a_run(pid: int) -> bool:
    """False where the kernel's own file rules it out: a scan then costs microseconds a process instead of half a ms."""
    if not psutil.LINUX:
        return True
    try:
        return _PROGRAM.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        # Gone, or not ours to read: psutil tells which.
        return True


def _is_repo(given: str | None, process: psutil.Process, repo: Path) -> bool:
    """Whether `--repo`, or the process's folder where it was left out, is our repo."""
    path = Path(given) if given is not None else Path()
    if not path.is_absolute():
        path = Path(process.cwd()) / path
    try:
        return os.path.samefile(path, repo)
    except OSError:
        return os.path.realpath(path) == str(repo)


class _FamilyKey(NamedTuple):
    """What the processes of one run have in common: a root, or, where that is gone, a process group."""

    loop_id: str | None
    root: int | None = None
    orphans_of: int | None = None


def _families(candidates: Sequence[_Candidate]) -> dict[_FamilyKey, list[_Candidate]]:
    """Candidates grouped by run; the topmost process of a family comes first."""
    by_pid = {candidate.pid: candidate for candidate in candidates}
    families: dict[_FamilyKey, list[_Candidate]] = {}
    for candidate in candidates:
        root = candidate
        for pid in _ancestors(candidate):
            ancestor = by_pid.get(pid)
            if ancestor is not None and ancestor.arguments.loop_id == candidate.arguments.loop_id:
                root = ancestor
        family = families.setdefault(_family_key(root), [])
        family.insert(0 if candidate is root else len(family), candidate)
    return families


def _family_key(root: _Candidate) -> _FamilyKey:
    """Siblings left behind by a killed run share its process group, under a parent of another session."""
    try:
        group = os.getpgid(root.pid)
        if os.getsid(root.parent) != os.getsid(root.pid):
            return _FamilyKey(root.arguments.loop_id, orphans_of=group)
    except OSError:
        pass  # gone or not ours to ask: it then stands for itself
    return _FamilyKey(root.arguments.loop_id, root=root.pid)


def _is_left_by(active_run: _ActiveRun, key: _FamilyKey, family: list[_Candidate]) -> bool:
    """Whether the family is what was left when the run that active-run.json names was killed.

    A run that is older than that one shares at most its group: they were started by one script, and it lives.
    """
    if active_run.group is None or key.orphans_of != active_run.group or key.loop_id not in (None, active_run.loop_id):
        return False
    if any(one.pid == active_run.pid for one in family):
        return False
    return active_run.begun is not None and all(one.created >= active_run.begun - 1.0 for one in family)


def _ancestors(candidate: _Candidate) -> list[int]:
    """The pids above a process, nearest first."""
    ancestors: list[int] = []
    pid = candidate.parent
    while pid > 0 and pid not in ancestors:
        ancestors.append(pid)
        try:
            pid = psutil.Process(pid).ppid()
        except psutil.Error:
            break
    return ancestors


def _represent(family: list[_Candidate], repo: Path, active_run: _ActiveRun) -> LoopRun:
    named = next((one for one in family if one.pid == active_run.pid), None)
    chosen = named or family[0]
    loop_id = chosen.arguments.loop_id
    if loop_id is None and named is not None:
        loop_id = active_run.loop_id
    if loop_id is None:
        loop_id = _active_loop(repo)
    return LoopRun(chosen.pid, chosen.start_time, loop_id, in_active_run=named is not None)


def _active_loop(repo: Path) -> str | None:
    state = read_quietly(repo / ".superloop" / "state.json")
    if isinstance(state, dict) and state.get("active") is True:
        return _text(state.get("current_loop_id"))
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _pid(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < 2**31 else None


def _is_hidden(pid: int) -> bool:
    """Whether a process exists that the list of processes hides from us (another user's, /proc with hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return pid not in psutil.pids()
    except OSError:
        pass  # no such process
    return False


def evidence(scan: ScanResult, loop_id: str) -> dict[str, Any]:
    """`runtime.process` of a snapshot of `loop_id` (contract.envelopes.ProcessEvidence).

    `alive` names the run of this loop first, else one of which the loop is unknown, else another loop's: readers look
    at `loopId`. `dead` only when the scan saw everything and found none; what a killed run left is then named.
    """
    runs = sorted(scan.runs, key=lambda run: (_closeness(run, loop_id), float(run.start_time), run.pid))
    listed = [{"pid": run.pid, "startTime": run.start_time, "loopId": run.loop_id} for run in runs]
    if runs:
        source = "scan+active-run" if runs[0].in_active_run else "scan"
        return {"state": "alive", **listed[0], "source": source, "runs": listed}
    state = "dead" if scan.complete else "unknown"
    source = "active-run" if scan.unseen_active_run else "scan"
    found: dict[str, Any] = {
        "state": state,
        "pid": None,
        "startTime": None,
        "loopId": None,
        "source": source,
        "runs": [],
    }
    return found | {"remnants": sorted(scan.remnants)} if scan.remnants else found


def _closeness(run: LoopRun, loop_id: str) -> int:
    if run.loop_id == loop_id:
        return 0
    return 1 if run.loop_id is None else 2
