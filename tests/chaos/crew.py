"""Processes of ours: each the leader of its session, waited for until it says that it is ready, ended by its id."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path

import psutil

from tests.harness_sprite import ROOT, end, until
from worker.server_state import running_server

START_S = 60.0
COMMAND = "cli.main"


class Victim(StrEnum):
    """What is killed."""

    WORKER = "worker"
    """`ops-manager worker`. The test starts it again."""
    TEMPORAL = "temporal"
    """The embedded server. `up` starts it again."""
    UP = "up"
    """`ops-manager up`, and with it its server, which the kernel ends. The test starts it again."""
    SERVICE = "service"
    """`ops-manager sprite serve`. The test starts it again."""
    RUNTIME = "runtime"
    """`superloop.sh`. Nobody starts it again before an operator has cleared what it left."""


class Crew:
    """The processes around one embedded Temporal, whose data is in `folder`; `sessions` gets what was started."""

    def __init__(self, folder: Path, sessions: list[int]) -> None:
        folder.mkdir()
        self.folder = folder
        self.data = folder / "data"
        self._sessions = sessions
        self._processes: dict[Victim, subprocess.Popen[bytes]] = {}

    async def start(
        self,
        name: Victim,
        arguments: list[str],
        environment: Mapping[str, str],
        ready: str,
        *,
        module: str = COMMAND,
    ) -> None:
        """Start `ops-manager` with these arguments, or what stands in for it; return when it has said `ready`."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            before = output.tell()
            process = subprocess.Popen(
                argv(arguments, module),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=ROOT,
                start_new_session=True,
            )
        self.note(name, process)

        def says_ready() -> bool:
            said = log.read_bytes()[before:].decode(errors="replace")
            assert process.poll() is None, f"{name} ended: {said[-2000:]}"
            return ready in said

        await until(says_ready, f"{name} says {ready!r}", timeout_s=START_S)

    def note(self, victim: Victim, process: "subprocess.Popen[bytes]") -> None:
        """Count a process in."""
        self._processes[victim] = process
        self._sessions.append(process.pid)

    def pid(self, victim: Victim) -> int:
        """The process id of a victim (of Temporal: of the server that runs now)."""
        if victim is not Victim.TEMPORAL:
            return self._processes[victim].pid
        server = running_server(self.data)
        assert server is not None, "no Temporal runs"
        assert server.pid is not None
        return server.pid

    def bury(self, victim: Victim) -> None:
        """Reap a process that was killed."""
        self._processes.pop(victim).wait()

    async def temporal_is_back(self, killed: int) -> None:
        """Wait until `up` has started another server than the one killed."""

        def other() -> bool:
            server = running_server(self.data)
            return server is not None and server.pid != killed

        await until(other, "up has started Temporal again", timeout_s=START_S)

    async def end(self) -> None:
        """End every process, the last one first."""
        for process in reversed(self._processes.values()):
            await asyncio.to_thread(end, process)

    def last_words(self, *more: Path) -> str:
        """The end of every log here and in `more`, for somebody who has to find out what went wrong."""
        logs = sorted(log for folder in (self.folder, *more) for log in folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)


def argv(arguments: list[str], module: str = COMMAND) -> list[str]:
    """`ops-manager` with these arguments, by this interpreter."""
    return [sys.executable, "-m", module, *arguments]


@contextlib.contextmanager
def leaving_nothing_behind(folder: Path) -> Iterator[list[int]]:
    """Of what was started in the block nothing is left when it ends.

    That is: no process of the sessions whose leaders are noted in the list, and none that names `folder`.
    """
    sessions: list[int] = []
    yield sessions
    left = [
        f"{process.pid}: {' '.join(process.info['cmdline'] or [])}"
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and (str(folder) in " ".join(process.info["cmdline"] or []) or _session(process.pid) in sessions)
    ]
    assert not left, f"left running: {left}"


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
