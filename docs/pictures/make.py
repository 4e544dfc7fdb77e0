"""Make status.svg: what `ops-manager list` and `status` really print, of loops that really stand like that.

    .venv/bin/python docs/pictures/make.py

Starts services, stand-in runs and an embedded Temporal in a temporary folder, brings four loops to where the picture
wants them, and draws what the two commands print on a terminal. Takes about half a minute.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from sprite.standin import FAST_PACE_MS, install_runtime, prepare_repo

ROOT = Path(__file__).resolve().parents[2]
OPS_MANAGER = ".venv/bin/ops-manager"
"""As a reader of the README types it, in the project's folder."""
PICTURE = Path(__file__).with_name("status.svg")
COLUMNS = 108
TIMEOUT_S = 60.0

_WORKING = {"iterations": [{"outcome": "continue", "roles": {"implementer": 1500}}] * 100}
_WAITING = {"iterations": [{"outcome": "candidate"}]}
_CRASHING = {"iterations": [{"outcome": "continue"}, {"outcome": "crash", "role": "tester"}]}
SPRITES: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "acme": {
        "demo": {"approval_required": True, "stuck_threshold": 0, "runs": [_WAITING]},
        "docs": {"runs": [_WAITING]},
    },
    "birch": {"search": {"max_iterations": 100, "stuck_threshold": 0, "runs": [_WORKING]}},
    "cedar": {"billing": {"stuck_threshold": 0, "runs": [_CRASHING]}},
}
"""Which loops there are, and what their runs do. A sprite has one run at a time, so loops that work have their own."""


class Scene:
    """The processes of the picture, all ended with the block."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._runtime = install_runtime(folder / "bin")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "OPS_MANAGER_"))}
        temporal_config = folder / "temporal.toml"
        temporal_config.touch()
        self._environment = {
            **kept,
            "TEMPORAL_CONFIG_FILE": str(temporal_config),
            "OPS_MANAGER_DATA_FOLDER": str(folder / "data"),
            "OPS_MANAGER_STATE_DIR": str(folder / "state"),
            "OPS_MANAGER_SUPERVISION__IDLE_POLL_INTERVAL": "2s",
            "SUPERLOOP_BIN": str(self._runtime),
            "TERM": "xterm-256color",
        }

    def start(self, *argv: str) -> None:
        """Start a process in the background."""
        log = self._stack.enter_context((self._folder / "processes.log").open("ab"))
        process = subprocess.Popen(argv, cwd=ROOT, env=self._environment, stdout=log, stderr=log)
        self._stack.callback(_end, process)

    def ops_manager(self, *arguments: str) -> None:
        """Run a command of ours to its end."""
        argv = [sys.executable, "-m", "cli.main", *arguments]
        subprocess.run(argv, cwd=ROOT, env=self._environment, check=True, capture_output=True, timeout=TIMEOUT_S)

    def superloop(self, sprite: str, loop: str) -> list[str]:
        """The command line of a run."""
        return [str(self._runtime), "run", "--repo", str(self._folder / sprite), "--loop", loop]

    def run(self, sprite: str, loop: str) -> None:
        """Run a loop to the end of the run, whatever that is."""
        argv = self.superloop(sprite, loop)
        subprocess.run(argv, env=self._environment, capture_output=True, check=False, timeout=TIMEOUT_S)

    def serve(self, sprite: str) -> None:
        """Start the sprite's service and have its loops supervised."""
        loops = SPRITES[sprite]
        repo = prepare_repo(self._folder / sprite, {"pace_ms": FAST_PACE_MS, "loops": loops})
        port, token = _free_port(), self._folder / f"{sprite}.token"
        self.ops_manager("sprite", "serve", "--new-token", str(token))
        service = ("sprite", "serve", "--repo", str(repo), "--port", str(port), "--token-file", str(token))
        self.start(sys.executable, "-m", "cli.main", *service)
        _until(lambda: _listens(port), f"the service of {sprite}")
        place = ("--service-url", f"http://127.0.0.1:{port}", "--token", f"file:{token}", "--sprite", sprite)
        self.ops_manager("supervise", *place, *(part for loop in loops for part in ("--loop", loop)))

    def status(self, loop: str) -> dict[str, Any]:
        """The status of a loop."""
        argv = [sys.executable, "-m", "cli.main", "status", loop, "-o", "json"]
        asked = subprocess.run(argv, cwd=ROOT, env=self._environment, capture_output=True, check=False)
        answer: dict[str, Any] = json.loads(asked.stdout) if asked.returncode == 0 else {}
        return answer

    def until(self, loop: str, lifecycle: str, *, iteration: int = 0) -> None:
        """Wait until a loop is believed to stand like that."""

        def there() -> bool:
            seen = self.status(loop)
            return seen.get("lifecycle") == lifecycle and (seen.get("iteration") or 0) >= iteration

        _until(there, f"{loop} is {lifecycle}")

    def shown(self, *arguments: str) -> str:
        """What a command of ours prints on a terminal."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
        argv = [OPS_MANAGER, *arguments]
        with subprocess.Popen(argv, cwd=ROOT, env=self._environment, stdin=theirs, stdout=theirs, stderr=theirs):
            os.close(theirs)
            with open(ours, "rb", buffering=0) as terminal:
                return b"".join(_chunks(terminal.fileno())).decode().replace("\r\n", "\n")


def _chunks(descriptor: int) -> Iterator[bytes]:
    # A terminal whose other side is closed ends with an error, not with an end of file.
    try:
        while chunk := os.read(descriptor, 65536):
            yield chunk
    except OSError:
        return


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"waited in vain until {what}")
        time.sleep(0.2)


@contextmanager
def scene() -> Iterator[Scene]:
    """Four loops, and a manager that has seen where they stand."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        opened = Scene(Path(folder), stack)
        opened.start(sys.executable, "-m", "cli.main", "up")
        _until(lambda: (Path(folder) / "data" / "embedded.json").exists(), "Temporal starts")
        for sprite in SPRITES:
            opened.serve(sprite)
        opened.run("acme", "docs")
        opened.run("acme", "demo")
        opened.until("acme/demo", "awaiting_approval")
        opened.ops_manager("reject", "acme/demo", "--by", "bo", "--note", "the tests are missing", "--yes")
        opened.run("acme", "demo")
        opened.run("cedar", "billing")
        opened.start(*opened.superloop("birch", "search"))
        opened.until("acme/demo", "awaiting_approval")
        opened.until("acme/docs", "complete")
        opened.until("cedar/billing", "failed")
        opened.until("birch/search", "running", iteration=4)
        yield opened


def draw(screens: Mapping[str, str]) -> str:
    """The SVG of a terminal with these commands and what they printed, without any address in it."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, file=nowhere, width=COLUMNS, force_terminal=True, legacy_windows=False)
        for number, (command, output) in enumerate(screens.items()):
            console.print(Text.assemble("\n" if number else "", ("$ ", "dim"), (command, "bold")))
            for line in output.rstrip("\n").split("\n"):
                text = Text.from_ansi(line)
                # As a terminal wraps: at its edge, wherever that is in a word.
                for part in text.divide(range(COLUMNS, len(text), COLUMNS)):
                    console.print(part, no_wrap=True, highlight=False)
        svg = console.export_svg(title="", unique_id="screen")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # The first font that the reader's machine has; the widths are held by the file itself.
    svg = re.sub(
        r"font-family: [^;]+;", "font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace;", svg
    )
    return re.sub(r"\n\s*\n", "\n", svg)


def main() -> None:
    """Make the picture."""
    commands = [("list",), ("status", "acme/demo")]
    with scene() as stage:
        screens = {" ".join([OPS_MANAGER, *arguments]): stage.shown(*arguments) for arguments in commands}
    PICTURE.write_text(draw(screens), encoding="utf-8")


if __name__ == "__main__":
    main()
