"""A stranger with a shell: the commands of a document, run by bash in a folder that looks like a fresh clone.

The documents name fixed ports. So the commands run in a network of their own, where every port is free, if this
machine lets us have one; else the port is the one thing that is changed in them.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 60.0
_SERVICE_PORT = 8787

_HOLD_NETWORK = """
import fcntl, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH22x", b"lo", 0x41))  # SIOCSIFFLAGS: up and running
print("up", flush=True)
sys.stdin.read()
"""


def blocks(document: Path) -> list[str]:
    """The ```sh blocks of a document, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Network:
    """Where commands run: behind `prefix` in a network of their own, or on this machine with another service port."""

    prefix: tuple[str, ...] = ()
    service_port: int = _SERVICE_PORT

    def fitted(self, commands: str) -> str:
        """The commands as they are to be run here; unchanged in a network of their own."""
        if self.service_port == _SERVICE_PORT:
            return commands
        moved = commands.replace(f":{_SERVICE_PORT}", f":{self.service_port}")
        return moved.replace("sprite serve ", f"sprite serve --port {self.service_port} ")


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network of its own, for root or where a user may have one; else this machine's."""
    for own, enter in ((["--net"], ["--net"]), (["--net", "--user", "--map-root-user"], _ENTER_AS_USER)):
        with _held(["unshare", *own], enter) as held:
            if held:
                yield held
                return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    yield Network(service_port=port)


_ENTER_AS_USER = ["--net", "--user", "--preserve-credentials"]


@contextlib.contextmanager
def _held(unshare: Sequence[str], enter: Sequence[str]) -> Iterator[Network | None]:
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        yield None
        return
    # A network lives as long as a process in it.
    with subprocess.Popen(
        [*unshare, sys.executable, "-c", _HOLD_NETWORK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as holder:
        assert holder.stdout
        prefix = ("nsenter", f"--target={holder.pid}", *enter)
        is_up = holder.stdout.readline() == b"up\n"
        usable = is_up and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
        yield Network(prefix) if usable else None


@dataclass(frozen=True)
class Job:
    """Commands that stay, and what they have printed so far."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def said(self) -> str:
        """Both streams."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(TIMEOUT_S)


class Stranger:
    """Runs commands as they stand in a document. A context manager: what still runs at its end is ended."""

    def __init__(self, folder: Path, where: Network, **variables: str) -> None:
        self.clone = folder / "clone"
        self.clone.mkdir(parents=True)
        (self.clone / ".venv").symlink_to(sys.prefix)
        home = folder / "home"
        home.mkdir()
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TEMPORAL_", "OPS_MANAGER_", "XDG_", "SUPERLOOP_"))
        }
        self.environment = {
            **kept,
            "HOME": str(home),
            "OPS_MANAGER_DATA_FOLDER": str(folder / "data"),
            "OPS_MANAGER_STATE_DIR": str(folder / "state"),
            **variables,
        }
        self._where = where
        self._logs = folder
        self._jobs: list[Job] = []

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(self, *_: object) -> None:
        for job in reversed(self._jobs):
            if job.process.poll() is None:
                _end(job.process)

    def _bash(self, commands: str) -> list[str]:
        return [*self._where.prefix, "bash", "-eu", "-o", "pipefail", "-c", self._where.fitted(commands)]

    def run(self, commands: str) -> "subprocess.CompletedProcess[str]":
        """Run commands to their end; the first that fails is the end."""
        return subprocess.run(
            self._bash(commands),
            cwd=self.clone,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )

    def start(self, commands: str, *, until_said: str) -> Job:
        """Start commands in the background, and wait until they have printed `until_said`."""
        log = self._logs / f"job-{len(self._jobs)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._bash(commands),
                cwd=self.clone,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A test run in the background may have been told to ignore Ctrl-C; a person's shell has not.
                preexec_fn=_minds_ctrl_c,
            )
        job = Job(process, log)
        self._jobs.append(job)

        def ready() -> bool:
            assert process.poll() is None, f"{commands} ended with {process.returncode}:\n{job.said}"
            return until_said in job.said

        until(ready, lambda: f"{commands} says {until_said!r}:\n{job.said}")
        return job


def until(holds: Callable[[], bool], what: Callable[[], str], timeout_s: float = TIMEOUT_S) -> None:
    """Wait until `holds()`; `what()` tells what was waited for in vain."""
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, f"waited {timeout_s:.0f} s in vain until {what()}"
        time.sleep(0.1)


def _minds_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
