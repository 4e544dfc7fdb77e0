"""One run of the runtime's program: fixed arguments, no shell, a time limit, bounded output.

The child gets no terminal input, none of our tokens, and its own process group, so that a time-out ends everything
it started and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from contract.control import ControlRequest
from contract.intents import Intent

COMMAND_TIMEOUT_S = 30.0
"""The runtime's cancel alone may take 11 s: 10 s for TERM to work, then KILL."""

OUTPUT_LIMIT_BYTES = 8 * 1024
"""What is kept of a command's output; the rest is read and thrown away, so that a chatty child never blocks."""

_KILL_GRACE_S = 2.0
_POLL_S = 0.05
_READ_BYTES = 64 * 1024
_READS_AFTER_EXIT = 16
"""A pipe holds at most this much of what an exited child wrote; more can only come from something it left behind."""

_OUR_SECRETS = re.compile(r"OPS_.*(TOKEN|SECRET|AUTH|KEY|PASSWORD)|TEMPORAL_(API_KEY|TLS_.*)", re.IGNORECASE)


class NotStarted(Exception):
    """The program could not be started; nothing has happened."""


@dataclass(frozen=True)
class CommandRun:
    """How a command ended. `exit_code` is negative for a signal; `output` is stdout and stderr as they came."""

    exit_code: int
    output: str
    timed_out: bool = False


def build_argv(binary: Path, repo: Path, request: ControlRequest) -> list[str]:
    """The fixed argument vector of an intent (contract.md, "Control"). Every value is an argument of its own."""
    if request.intent is Intent.CANCEL_LOOP:
        return [str(binary), "cancel", "--repo", str(repo)]
    argv = [str(binary), "approve", "--repo", str(repo), "--loop", request.loop_id, "--by", request.by]
    if request.intent is Intent.REJECT_PENDING:
        argv.append("--reject")
    if request.note:
        argv += ["--note", request.note]
    return argv


def displayed(argv: Sequence[str]) -> str:
    """The command as a person would type it: shell-quoted, the program by its name."""
    return shlex.join([Path(argv[0]).name, *argv[1:]])


def child_environment(environment: Mapping[str, str], secrets: Iterable[str] = ()) -> dict[str, str]:
    """`environment` without our own credentials (D22): by name, and wherever the value holds one of `secrets`."""
    hidden = [secret for secret in secrets if secret]
    return {
        name: value
        for name, value in environment.items()
        if not _OUR_SECRETS.fullmatch(name) and not any(secret in value for secret in hidden)
    }


def run_command(
    argv: Sequence[str],
    *,
    timeout_s: float,
    environment: Mapping[str, str] | None,
    folder: Path | None = None,
    inherited: Sequence[int] = (),
) -> CommandRun:
    """Run `argv` to its end, or to `timeout_s`, when its process group is terminated and then killed.

    Args:
        inherited: File descriptors that the child keeps open. A lock among them is held for as long as the child
            lives, also when this process is killed meanwhile.

    Raises:
        NotStarted: Nothing has happened. Any other exception leaves it unknown what the command did.
    """
    deadline = time.monotonic() + timeout_s
    with contextlib.ExitStack() as resources:
        try:
            # All that may run short is taken first: once the program runs, nothing here can fail for want of it.
            selector = resources.enter_context(selectors.DefaultSelector())
            reader, writer = resources.enter_context(_pipe())
            output = _Output(reader, selector)
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                # It holds the reading end of its own output: else its next word would end it half-way (SIGPIPE) when
                # this process has been killed.
                pass_fds=(*inherited, reader.fileno()),
                start_new_session=True,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise NotStarted(getattr(error, "strerror", None) or str(error)) from None
        writer.close()
        return _run_to_end(process, output, deadline)


def _run_to_end(process: subprocess.Popen[bytes], output: _Output, deadline: float) -> CommandRun:
    with process:
        try:
            timed_out = not output.read_until_exit(process, deadline)
            if timed_out:
                _end_group(process, output)
        except BaseException:
            # Nobody would read its output or end it at its time, and leaving this block waits for it.
            _signal_group(process, signal.SIGKILL)
            raise
        return CommandRun(process.wait(), output.text(), timed_out)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as reader, open(write_end, "wb", buffering=0) as writer:
        yield reader, writer


class _Output:
    """Reads a child's output: never keeps more than the limit, never waits for a grandchild's copy of the pipe."""

    def __init__(self, pipe: BinaryIO, selector: selectors.BaseSelector) -> None:
        self._pipe = pipe
        self._selector = selector
        self._kept = bytearray()
        self._clipped = False
        self._open = True
        os.set_blocking(pipe.fileno(), False)
        selector.register(pipe, selectors.EVENT_READ)

    def read_until_exit(self, process: subprocess.Popen[bytes], deadline: float) -> bool:
        """Read until the child has exited and its output is drained; False when the deadline passed before."""
        reads_after_exit = 0
        while time.monotonic() < deadline:
            # Asked before reading: what it wrote before it exited is then certainly in the pipe.
            exited = process.poll() is not None
            if exited and (not self._open or reads_after_exit >= _READS_AFTER_EXIT):
                return True
            if not self._open:
                time.sleep(_POLL_S)
            elif self._selector.select(0 if exited else _POLL_S):
                self._read()
                reads_after_exit += exited
            elif exited:
                return True
        return False

    def _read(self) -> None:
        try:
            chunk = os.read(self._pipe.fileno(), _READ_BYTES)
        except BlockingIOError:
            return
        self._open = bool(chunk)
        room = OUTPUT_LIMIT_BYTES - len(self._kept)
        self._kept += chunk[:room]
        self._clipped = self._clipped or len(chunk) > room

    def text(self) -> str:
        text = self._kept.decode("utf-8", errors="replace").rstrip("\n")
        return f"{text}\n[clipped at {OUTPUT_LIMIT_BYTES} bytes]" if self._clipped else text


def _end_group(process: subprocess.Popen[bytes], output: _Output) -> None:
    """End the child's process group, which this module started: TERM, then KILL after a grace."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        gone = not _signal_group(process, number)
        if gone or output.read_until_exit(process, time.monotonic() + _KILL_GRACE_S):
            break
    # A child that obeyed TERM may have left one that ignores it.
    _signal_group(process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Signal the child's group; False when nobody is left in it."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True
