"""Running `ops-manager` as an operator does: its entry in this process, or a process with or without a terminal."""

import asyncio
import contextlib
import io
import os
import pty
import select
import signal
import sys
import time
import unittest.mock
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.main import run

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).parent / "ops-manager"
TIMEOUT_S = 60.0
_PATIENCE_S = 8.0


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float


@dataclass(frozen=True)
class Ops:
    """Runs commands with an environment in which nobody's own configuration is."""

    environment: Mapping[str, str] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        """The environment of the commands."""
        foreign = ("TEMPORAL_", "OPS_", "XDG_", "SUPERLOOP_", "NO_COLOR", "USER", "LOGNAME")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**kept, "PYTHONWARNINGS": "default", **self.environment}

    @contextlib.asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a command in a process of its own for the block, which it does not outlive; stdin is no terminal."""
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *arguments,
            env=self.env(),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def __call__(self, *arguments: str) -> Done:
        """Run a command to its end, in a thread of this process: as `main` does, without an interpreter's start."""
        return await asyncio.to_thread(self._in_this_process, arguments)

    def _in_this_process(self, arguments: tuple[str, ...]) -> Done:
        out, err, started = io.StringIO(), io.StringIO(), time.monotonic()
        with (
            unittest.mock.patch.dict(os.environ, self.env(), clear=True),
            unittest.mock.patch.object(sys, "stdin", io.StringIO()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = run(arguments)
        return Done(code, out.getvalue(), err.getvalue(), time.monotonic() - started)

    async def process(self, *arguments: str) -> Done:
        """Run a command to its end, in a process of its own."""
        started = time.monotonic()
        async with self.running(*arguments) as process:
            out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode(), time.monotonic() - started)

    async def on_a_terminal(
        self,
        *arguments: str,
        type_at: str,
        typed: str = "",
        interrupt: bool = False,
        before: Callable[[], None] = lambda: None,
    ) -> Done:
        """Run a command on a terminal of 80 columns; when `type_at` shows: `before()`, then the keys (or Ctrl-C)."""
        keys = "\x03" if interrupt else f"{typed}\n"
        return await asyncio.to_thread(self._on_a_terminal, arguments, type_at, keys, before)

    def _on_a_terminal(self, arguments: tuple[str, ...], type_at: str, keys: str, before: Callable[[], None]) -> Done:
        started = time.monotonic()
        master, slave = pty.openpty()
        environment = {**self.env(), "TERM": "dumb", "COLUMNS": "80", "LINES": "40"}
        argv = [str(PROGRAM), *arguments]
        # A child with this terminal as its controlling one, so that Ctrl-C becomes a signal there.
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", _TAKE_TERMINAL, *argv],
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, slave, fd) for fd in (0, 1, 2)],
            setsid=True,
        )
        os.close(slave)
        try:
            shown = _converse(master, pid, type_at.encode(), keys.encode(), before)
        finally:
            os.close(master)
            _, status = os.waitpid(pid, 0)
        return Done(
            os.waitstatus_to_exitcode(status), shown.decode().replace("\r\n", "\n"), "", time.monotonic() - started
        )


_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def _converse(terminal: int, pid: int, type_at: bytes, keys: bytes, before: Callable[[], None]) -> bytes:
    """Read what is shown until the command has gone, and type once `type_at` shows.

    Nothing for a while after that, and it is typed again, as a person would: a Ctrl-C between Python's last look at
    signals and the start of its read is seen at the next one only.
    """
    shown, typed, deadline = b"", False, time.monotonic() + TIMEOUT_S
    while True:
        ready, _, _ = select.select([terminal], [], [], _PATIENCE_S)
        chunk = _read(terminal) if ready else None
        if chunk == b"":
            return shown
        shown += chunk or b""
        if type_at in shown and (not typed or chunk is None):
            if not typed:
                before()
            typed = True
            os.write(terminal, keys)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        # Linux answers so when the last process on the terminal has gone.
        return b""
