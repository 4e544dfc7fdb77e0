"""A repo with the stand-in in it, driven by real processes."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sprite.standin import FAST_PACE_MS, install_runtime, prepare_repo

TIMEOUT_S = 30.0
T = TypeVar("T")


def until(condition: Callable[[], T], what: str, *, timeout_s: float = TIMEOUT_S) -> T:
    """Wait until the condition gives something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain until {what}"
        time.sleep(0.003)
    return value


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text("utf-8", errors="replace").rpartition(")")[2].split()[1] == str(pid):
                found.append(int(stat.parent.name))
    return found


class Sandbox:
    """One repo and the stand-in that runs in it."""

    def __init__(self, path: Path, runtime: Path, scenario: Mapping[str, Any], **prepare: Any) -> None:
        pace = {**FAST_PACE_MS, **scenario.get("pace_ms", {})}
        self.repo = prepare_repo(path, {**scenario, "pace_ms": pace}, **prepare)
        self.root = self.repo / ".superloop"
        self.runtime = runtime
        self._started: list[subprocess.Popen[str]] = []

    def run(self, command: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [str(self.runtime), command, "--repo", str(self.repo), *arguments],
            capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **options,
        )  # fmt: skip

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """Start a run as the leader of its own group."""
        process = subprocess.Popen(
            [str(self.runtime), "run", "--repo", str(self.repo), *arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
            **{"start_new_session": True, **options},
        )  # fmt: skip
        self._started.append(process)
        return process

    def end(self) -> None:
        """End what is left of the started runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()

    def lines(self, loop: str = "demo") -> list[str]:
        """The complete lines of the event log."""
        path = self.root / "loops" / loop / "events.jsonl"
        return (
            [line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
            if path.exists()
            else []
        )

    def events(self, loop: str = "demo") -> list[dict[str, Any]]:
        """The events."""
        return [json.loads(line) for line in self.lines(loop)]

    def names(self, loop: str = "demo") -> list[str]:
        """The names of the events."""
        return [event["event"] for event in self.events(loop)]

    def read(self, path: str) -> Any:
        """A JSON file below .superloop; None while it is missing or half written."""
        try:
            return json.loads((self.root / path).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def state(self) -> Any:
        """state.json."""
        return self.read("state.json")

    def active_run(self) -> Any:
        """active-run.json."""
        return self.read("active-run.json")

    def until_runner(self, process: "subprocess.Popen[str]", role: str) -> int:
        """Wait until a role works; return the process id of its runner."""
        self.until_role(role)
        (runner,) = until(lambda: children(process.pid), "the runner is there")
        return runner

    def until_role(self, role: str, loop: str = "demo") -> None:
        """Wait until a role works."""

        def works() -> bool:
            events = self.events(loop)
            return bool(events) and (events[-1]["event"], events[-1].get("role")) == ("role_start", role)

        until(works, f"{role} of {loop} works")


class Sandboxes:
    """Makes sandboxes below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runtime = install_runtime(folder / "bin")
        self._made: list[Sandbox] = []

    def __call__(self, scenario: Mapping[str, Any] | None = None, *, name: str = "repo", **prepare: Any) -> Sandbox:
        """Make one."""
        sandbox = Sandbox(self._folder / name, self._runtime, scenario or {}, **prepare)
        self._made.append(sandbox)
        return sandbox

    def end(self) -> None:
        """End all that they started."""
        for sandbox in self._made:
            sandbox.end()


@contextlib.contextmanager
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any of this."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def only(loop: str, *iterations: Mapping[str, Any], **loop_keys: Any) -> dict[str, Any]:
    """A scenario with one run of one loop."""
    return {"loops": {loop: {**loop_keys, "runs": [{"iterations": list(iterations)}]}}}


def at_work(sandbox: Sandboxes) -> "tuple[Sandbox, subprocess.Popen[str]]":
    """A repo with a run that has got to a role which never ends, and that run."""
    repo = sandbox(only("demo", {"outcome": "hang"}))
    run = repo.start("--loop", "demo")
    repo.until_role("implementer")
    return repo, run
