"""The demo's processes: each a real one, in a temporary folder, on loopback, ended at the end by its own id."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from cli import paste, terminal
from sprite.standin import install_runtime, prepare_repo
from worker.server_binary import BINARY_VARIABLE as TEMPORAL_BINARY_VARIABLE
from worker.server_process import free_ports

LOOP = "demo"
SPRITE = "acme"
COMMAND = "command"
"""The name of the process that `Stage.run` waits for."""
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite end, and a closed terminal."""
_TERM_WAIT_S = 20.0

_SETTINGS = """# A resting loop is looked at once a minute, so that its machine can sleep. A demo cannot wait for that.
[supervision]
idle_poll_interval = "2s"
"""
_WORKING = {"iterations": [{"outcome": "continue"}] * 100}
_SCENARIO: dict[str, Any] = {
    "pace_ms": {"validate": 200, "config": 300, "role": 450, "gate": 15, "summary": 250, "cancel_poll": 100},
    "loops": {
        LOOP: {
            "max_iterations": 100,
            "approval_required": True,
            "stuck_threshold": 0,
            "runs": [
                {"iterations": [{"outcome": "continue"}, {"outcome": "candidate"}]},
                _WORKING,
                {"iterations": [{"outcome": "hang", "role": "implementer"}]},
                {"iterations": [{"outcome": "candidate"}]},
            ],
        }
    },
}
"""Runs in order: to an approval; long enough to lose the service and then to crash; one to cancel; one to complete."""


class Stage:
    """Starts and ends the processes; every one logs into the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "temporal"
        self.repo = prepare_repo(folder / "repo", _SCENARIO)
        self.binary = install_runtime(folder / "bin")
        self.token = folder / "token"
        self.service_url = f"http://127.0.0.1:{free_ports()[0]}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = self._clean_environment()

    def _clean_environment(self) -> dict[str, str]:
        # The demo must neither see nor touch the Temporal, the settings or the state of the person who runs it. Where
        # the temporal program is, however, is the machine's business.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TEMPORAL_", "OPS_MANAGER_", "SUPERLOOP_")) or name == TEMPORAL_BINARY_VARIABLE
        }
        config, temporal_config = self.folder / "ops-manager.toml", self.folder / "temporal.toml"
        config.write_text(_SETTINGS, encoding="utf-8")
        temporal_config.touch()
        return {
            **kept,
            "TEMPORAL_CONFIG_FILE": str(temporal_config),
            "OPS_MANAGER_CONFIG": str(config),
            "OPS_MANAGER_STATE_DIR": str(self.folder / "state"),
            "SUPERLOOP_BIN": str(self.binary),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not keep the rest from being ended; every end is bounded in time.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING_SIGNALS}
        processes = list(self._processes.values())
        self._processes.clear()
        for process in processes:
            _ask_to_end(process)
        for process in processes:
            _await_end(process)
        for number, handler in before.items():
            signal.signal(number, handler)

    def ops_manager(self, *arguments: str) -> list[str]:
        """Our own program as an argument vector."""
        return [sys.executable, "-m", "cli.main", *arguments]

    def start(self, name: str, argv: list[str], *, shown: str, to_terminal: bool = False) -> int:
        """Start a process in the background and show its command; returns its process id."""
        terminal.data(f"$ {shown} &")
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=None if to_terminal else log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        return self._processes[name].pid

    def run(self, argv: list[str], *, shown: str) -> int:
        """Run a command to its end, showing it and what it says; returns its exit code.

        Ended from another thread (`end(COMMAND)`), it returns at once.
        """
        terminal.data(f"$ {shown}")
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,
        )
        self._processes[COMMAND] = process
        said, _ = process.communicate()
        for line in said.decode("utf-8", errors="replace").splitlines():
            terminal.data(f"  {line}")
        return process.returncode

    def serve(self) -> int:
        """Start the sprite service; the first time with a new token."""
        port = self.service_url.rpartition(":")[2]
        token = ["--token-file" if self.token.exists() else "--new-token", str(self.token)]
        arguments = ["sprite", "serve", "--repo", str(self.repo), "--port", port, *token]
        return self.start("service", self.ops_manager(*arguments), shown=paste.ops_manager(*arguments))

    def service_answers(self) -> bool:
        """Whether the sprite service answers, whatever it says."""
        try:
            httpx.get(f"{self.service_url}/healthz", timeout=1.0, trust_env=False)
        except httpx.HTTPError:
            return False
        return True

    def run_superloop(self) -> int:
        """Start a run of the loop, as a person in the sprite would."""
        return self.start("run", self._superloop(), shown=self.superloop_command())

    def superloop_command(self) -> str:
        """What starts a run of the loop, ready to paste."""
        return shlex.join(self._superloop())

    def _superloop(self) -> list[str]:
        return [str(self.binary), "run", "--repo", str(self.repo), "--loop", LOOP]

    def kill(self, name: str) -> int:
        """SIGKILL a process and its group; returns its process id."""
        process = self._processes.pop(name)
        terminal.data(f"$ kill -9 {process.pid}  # the {name}")
        _kill(process)
        return process.pid

    def role_works(self, role: str) -> bool:
        """Whether the newest event is that this role has begun."""
        log = self.repo / ".superloop" / "loops" / LOOP / "events.jsonl"
        *_, newest, _ = [b"", b"", *log.read_bytes().split(b"\n")]
        event = json.loads(newest or b"{}")
        return (event.get("event"), event.get("role")) == ("role_start", role)

    def has_ended(self, name: str) -> bool:
        """Whether a process has ended by itself."""
        return self._processes[name].poll() is not None

    def end(self, name: str) -> None:
        """End a process, gracefully if it lets us; one that is not there is none."""
        process = self._processes.pop(name, None)
        if process:
            _ask_to_end(process)
            _await_end(process)

    def last_words(self) -> list[str]:
        """The end of every log, for somebody who has to find out what went wrong."""
        words = []
        for log in sorted(self.folder.glob("*.log")):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
            words += [f"{log.name}: {terminal.clean(line)}" for line in lines]
        return words


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    # Once only: to `up`, a second signal means to drop everything.
    if process.poll() is None:
        process.terminate()


def _await_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_TERM_WAIT_S)
    except subprocess.TimeoutExpired:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        # Started as the leader of a session of its own, so the group's id is the process id.
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
