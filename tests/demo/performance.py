"""The demo as a person starts it: a real process, watched for what it starts, and for what it leaves."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.ground.project import ROOT

DEMO_S = 240.0
"""About 75 s on an idle machine; the tests share two cores with others."""


class Performance:
    """A running `ops-manager demo`, in the project's folder. A context manager: it is ended if a test leaves it."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.report_file = folder / "report.json"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._log = folder / "demo.log"
        self._seen: dict[int, psutil.Process] = {}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "demo", "--report", str(self.report_file), *arguments],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(self.temporary), **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A test run in the background may have been told to ignore Ctrl-C; a person's shell has not.
                preexec_fn=_minds_ctrl_c,
            )
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def __enter__(self) -> "Performance":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(60)
        finally:
            self._ended.set()
            self._watcher.join()
            for process in self.left():
                process.kill()

    def _watch(self) -> None:
        """Remember every process that the demo has started, directly or not, for as long as it runs."""
        try:
            demo = psutil.Process(self.process.pid)
            while not self._ended.wait(0.1):
                for process in demo.children(recursive=True):
                    self._seen.setdefault(process.pid, process)
        except psutil.NoSuchProcess:
            return

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(encoding="utf-8")

    @property
    def report(self) -> dict[str, Any]:
        """demo-report.json as it stands."""
        report: dict[str, Any] = json.loads(self.report_file.read_bytes())
        return report

    def until(self, holds: Callable[[], object], what: str, timeout_s: float = DEMO_S) -> None:
        """Wait for something while the demo runs."""
        end = time.monotonic() + timeout_s
        while not holds():
            assert self.process.poll() is None, f"ended with {self.process.returncode} before {what}:\n{self.said}"
            assert time.monotonic() < end, f"waited {timeout_s:.0f} s in vain until {what}:\n{self.said}"
            time.sleep(0.1)

    def end(self, number: signal.Signals) -> int:
        """Send a signal to the demo alone; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def started(self) -> int:
        """How many processes it has started so far."""
        return len(self._seen)

    def left(self) -> list[psutil.Process]:
        """Processes that it has started and that still run; a process id that is another's by now is none of them."""
        return [process for process in self._seen.values() if process.is_running()]


def _minds_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
