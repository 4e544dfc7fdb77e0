"""Every effect of the stand-in on the artifacts, each in the runtime's own manner of writing.

The manners matter to whoever reads meanwhile (D16): `state.json`, `active-run.json` and a new approval request are
truncated and then written, so they are empty for a moment; `run-summary.json` and a decision are written beside and
moved over; event lines are appended.

All effects pass through `Disk`, which tells whoever wants to know of each, so that a command can be stopped after it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sprite.standin.scenario import Pace


class CommandError(Exception):
    """The command ends with `message` on stderr and exit code `code`."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def now() -> str:
    """Return the time as the runtime writes it: UTC, whole seconds, `Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pretty(value: object) -> str:
    """Return JSON as `jq .` prints it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def compact(value: object) -> str:
    """Return JSON as `jq -c .` prints it, without the newline."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def read_json(path: Path) -> Any:
    """Return the parsed file, or None if it is missing or empty (jq says nothing about an empty file).

    Raises:
        CommandError: the file is not JSON; exit code 4, as the runtime lets it through from jq.
    """
    try:
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"parse error: {path}: {error}", code=4) from None


def read_object(path: Path) -> dict[str, Any]:
    """Return the parsed file if it holds an object, else {}.

    Raises:
        CommandError: the file is not JSON.
    """
    value = read_json(path)
    return value if isinstance(value, dict) else {}


class RepoFiles(NamedTuple):
    """Where the artifacts of a repo are."""

    repo: Path

    @property
    def root(self) -> Path:
        """The `.superloop` folder."""
        return self.repo / ".superloop"

    @property
    def state(self) -> Path:
        """state.json, one per repo."""
        return self.root / "state.json"

    @property
    def active_run(self) -> Path:
        """active-run.json, one per repo."""
        return self.root / "active-run.json"

    def loop(self, loop_id: str) -> Path:
        """The folder of one loop."""
        return self.root / "loops" / loop_id

    def relative(self, path: Path) -> str:
        """Return a path as the artifacts name it, from the repo."""
        return str(path.relative_to(self.repo))


class Disk:
    """Writes artifacts."""

    def __init__(self, pace: Pace, *, event_chunk_bytes: int = 0, on_effect: Callable[[], None] = lambda: None) -> None:
        self.on_effect = on_effect
        """Called after every single effect; also by who has one that is none on the disk."""
        self._pace = pace
        self._chunk_bytes = event_chunk_bytes

    def pause(self, milliseconds: int) -> None:
        """Let time go by between two effects."""
        time.sleep(milliseconds / 1000)

    def truncate_write(self, path: Path, text: str) -> None:
        """Write as the shell's `>` does: the file is empty until its content follows."""
        with path.open("wb", buffering=0) as stream:
            self.on_effect()
            self.pause(self._pace.truncate_ms)
            stream.write(_encode(text))
        self.on_effect()

    def replace(self, path: Path, text: str) -> None:
        """Write beside the file, then move over it: a reader sees the old or the new one."""
        beside = path.with_name(path.name + ".tmp")
        beside.write_bytes(_encode(text))
        self.on_effect()
        beside.replace(path)
        self.on_effect()

    def write(self, path: Path, text: str) -> None:
        """Write a file that nobody watches."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_encode(text))
        self.on_effect()

    def append(self, path: Path, text: str) -> None:
        """Append in one write."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as stream:
            stream.write(_encode(text))
        self.on_effect()

    def append_event(self, path: Path, line: str) -> None:
        """Append an event line, in several writes if the scenario asks for it; a new log is empty for a moment."""
        data = _encode(line + "\n")
        size = self._chunk_bytes or len(data)
        fresh = not path.exists()
        with path.open("ab", buffering=0) as stream:
            if fresh:
                self.pause(self._pace.truncate_ms)
            for start in range(0, len(data), size):
                if start:
                    self.pause(self._pace.event_chunk_ms)
                stream.write(data[start : start + size])
                self.on_effect()

    def make_folder(self, path: Path) -> None:
        """Create a folder with its parents."""
        path.mkdir(parents=True, exist_ok=True)

    def touch(self, path: Path) -> None:
        """Create an empty file, or give an existing one the present time."""
        path.touch()
        os.utime(path)

    def delete(self, path: Path) -> bool:
        """Delete a file; return whether it was there."""
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        self.on_effect()
        return True


def _encode(text: str) -> bytes:
    # Arguments that are no UTF-8 arrive as surrogates; jq writes U+FFFD for them.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode("utf-8", "replace")
