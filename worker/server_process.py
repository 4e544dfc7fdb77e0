"""One process of the embedded Temporal server: its command, its start, its end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from worker.server_state import LOOPBACK, database_path

CAN_END_WITH_PARENT = sys.platform == "linux"
LOG_FILE = "temporal.log"
_MAX_LOG_BYTES = 10 * 1024 * 1024
_LOG_TAIL_BYTES = 2_000
_PORTS = range(20_000, 30_000, 2)
"""Below every system's ephemeral ports: there, a worker that redials a server that is down could be given the server's
own port as its source and thereby take it."""
_POLL_S = 0.25
TERM_PATIENCE_S = 10.0
"""The server takes about 1.5 s to end after SIGTERM."""


@dataclass(frozen=True)
class ServerCommand:
    """What is started, and how; everything listens on loopback only."""

    binary: Path
    data_folder: Path
    ports: tuple[int, int]
    ends_with_parent: bool = CAN_END_WITH_PARENT
    dynamic_config: Mapping[str, str] = field(default_factory=dict)
    """Further dynamic configuration of the server: key to JSON value."""

    @property
    def argv(self) -> list[str]:
        """The fixed argument vector; no shell is involved."""
        port, ui_port = self.ports
        # WAL with synchronous=NORMAL: twice as fast, and safe against everything but the loss of power.
        options = {
            "--ip": LOOPBACK,
            "--port": str(port),
            "--ui-ip": LOOPBACK,
            "--ui-port": str(ui_port),
            "--db-filename": str(database_path(self.data_folder)),
            "--log-level": "warn",
        }
        # The server asks the internet for newer versions by default.
        dynamic = {"frontend.enableServerVersionCheck": "false", **self.dynamic_config}
        argv = [str(self.binary), "server", "start-dev", "--ui-disable-news-fetch"]
        argv += [part for option in options.items() for part in option]
        argv += ["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL"]
        argv += [part for item in dynamic.items() for part in ("--dynamic-config-value", "=".join(item))]
        return [*self._binding(), *argv]

    def _binding(self) -> list[str]:
        if not self.ends_with_parent:
            return []
        script = Path(__file__).with_name("bound_exec.py")
        return [sys.executable, "-I", "-S", str(script), str(os.getpid())]


class ServerProcess(Protocol):
    """A server that can be waited for and ended."""

    @property
    def pid(self) -> int:
        """Its process id."""

    async def wait(self) -> str:
        """Wait until it has ended; returns how, in words."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""


class ChildServer:
    """A server that this process has started."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, log_offset: int) -> None:
        self._process = process
        self._log = log
        self._log_offset = log_offset

    @classmethod
    async def start(cls, command: ServerCommand) -> ChildServer:
        """Start it with its output going to the log in the data folder; it does not answer yet. Raises OSError."""
        log = command.data_folder / LOG_FILE
        _rotate(log)
        with log.open("ab") as output:
            offset = output.tell()
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                # Ctrl-C in the terminal is for us: the server has to outlive the workers that report to it.
                start_new_session=True,
            )
        return cls(process, log, offset)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def wait(self) -> str:
        """Wait until it has ended; returns how, in words."""
        code = await self._process.wait()
        return f"killed by {_signal_name(-code)}" if code < 0 else f"exit code {code}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def last_words(self) -> str:
        """The end of what it wrote to its log since it was started."""
        with self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_offset, size - _LOG_TAIL_BYTES))
            return log.read().decode("utf-8", "replace").strip()


class AdoptedServer:
    """A server that another process started, which ended without it."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def wait(self) -> str:
        """Wait until it has ended; nobody but its parent can learn how."""
        while is_alive(self._process):  # noqa: ASYNC110 - the kernel tells only parents
            await asyncio.sleep(_POLL_S)
        return "it is gone"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""
        with suppress(psutil.Error):
            self._process.send_signal(number)


async def end(server: ServerProcess, *, patience_s: float = TERM_PATIENCE_S, ask: bool = True) -> None:
    """End a server and wait until it is gone: SIGTERM (unless it is ending already, `ask=False`), then SIGKILL."""
    if ask:
        server.signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(server.wait(), patience_s)
    except TimeoutError:
        server.signal(signal.SIGKILL)
        await server.wait()


def is_alive(process: psutil.Process) -> bool:
    """Whether this very process runs: not another one of that pid, and not a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def free_ports() -> tuple[int, int]:
    """Two neighbouring loopback ports on which nothing listens now. Raises OSError when there are none."""
    for port in random.sample(_PORTS, len(_PORTS)):
        if port_is_free(port) and port_is_free(port + 1):
            return port, port + 1
    raise OSError("no free loopback port")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the server does it: connections of an earlier one that are still fading do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
