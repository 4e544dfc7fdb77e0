"""A recording of the real runtime: captured steps of `.superloop`, and the log of the commands that made them.

<scenario>/steps.ndjson   one line per capture: step, capturedEpoch (seconds)
<scenario>/step-NNNN/     the artifacts at that moment; a capture that showed nothing new has no folder
<scenario>/commands.log   `$ <time> <command>` (with ` &` if it went to the background), its output, `  -> exit <n>`;
                          `# <time> <text>` for whatever else was done, such as sending a signal
<scenario>/config.json    the runtime's config.json
"""

from __future__ import annotations

import json
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

_LOG_LINE = re.compile(r"^([$#]) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) ?(.*)$")
_EXIT_LINE = re.compile(r"^  -> exit (\d+)\s*$")


class RecordingError(ValueError):
    """The recording cannot be read; the message says what is missing where."""


@dataclass(frozen=True)
class LogEntry:
    """One entry of commands.log."""

    epoch_s: float
    """When it was written, in whole seconds."""
    is_command: bool
    text: str
    """The command without a trailing ` &`, or the comment."""
    background: bool = False
    exit_code: int | None = None
    output: str = ""
    """What a command printed, on either stream."""

    @property
    def words(self) -> list[str]:
        """The words of a command. (The log does not quote: a note of several words falls apart.)"""
        return self.text.split()

    @property
    def is_run(self) -> bool:
        """Whether this is a `superloop.sh run`."""
        return self.is_command and re.search(r"(^|/)superloop\.sh run\b", self.text) is not None

    def value(self, option: str) -> str | None:
        """Return the word after an option."""
        words = self.words
        return words[words.index(option) + 1] if option in words[:-1] else None


@dataclass(frozen=True)
class Step:
    """One capture."""

    number: int
    epoch_s: float
    folder: Path

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The artifacts: content by path below `.superloop`."""
        root = self.folder / ".superloop"
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    @cached_property
    def folders(self) -> list[str]:
        """The folders below `.superloop`, parents first."""
        root = self.folder / ".superloop"
        return [str(path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_dir()]


@dataclass(frozen=True)
class Recording:
    """One scenario."""

    folder: Path
    steps: tuple[Step, ...]
    log: tuple[LogEntry, ...]

    @property
    def name(self) -> str:
        """The scenario's name."""
        return self.folder.name

    @property
    def final(self) -> Step:
        """The last captured step."""
        return self.steps[-1]


def read_recording(folder: Path) -> Recording:
    """Read one scenario's folder.

    Raises:
        RecordingError: it holds no steps.
    """
    index = folder / "steps.ndjson"
    if not index.is_file():
        raise RecordingError(f"{folder}: no steps.ndjson here; name the folder of one scenario, or the archive and one")
    steps = []
    for line in index.read_text("utf-8").splitlines():
        entry = json.loads(line)
        step = Step(int(entry["step"]), float(entry["capturedEpoch"]), folder / f"step-{int(entry['step']):04d}")
        if (step.folder / ".superloop").is_dir():
            steps.append(step)
    if not steps:
        raise RecordingError(f"{folder}: steps.ndjson names no step whose folder is here")
    log = folder / "commands.log"
    entries = tuple(parse_log(log.read_text("utf-8"))) if log.is_file() else ()
    return Recording(folder, tuple(sorted(steps, key=lambda step: step.epoch_s)), entries)


@contextmanager
def open_recording(path: Path, scenario: str | None = None) -> Iterator[Recording]:
    """Open a scenario: its folder, a folder of scenarios or a .tar.gz of them with the scenario's name.

    An archive is unpacked into a temporary folder for as long as the recording is open; mtimes are kept.

    Raises:
        RecordingError: there is no such scenario; the message lists those there are.
    """
    if not path.is_file():
        yield read_recording(_scenario_folder(path, scenario))
        return
    with tempfile.TemporaryDirectory(prefix="recording-") as unpacked:
        unpack(path, Path(unpacked), only=scenario)
        yield read_recording(_scenario_folder(Path(unpacked), scenario))


def recording_steps(path: Path, scenario: str | None = None) -> list[Step]:
    """Return the captured steps of a scenario's folder, in order; archives need `open_recording`."""
    return list(read_recording(_scenario_folder(path, scenario)).steps)


def unpack(archive: Path, into: Path, *, only: str | None = None) -> None:
    """Unpack an archive of recordings with its mtimes: all of it, or the scenario named by `only`.

    Raises:
        RecordingError: there is no such scenario.
    """
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        names = sorted(Path(member.name).parent.name for member in members if Path(member.name).name == "steps.ndjson")
        if only is not None and only not in names:
            raise _no_scenario(archive, only, names)
        wanted = [member for member in members if only is None or only in Path(member.name).parts]
        tar.extractall(into, wanted, filter="data")


def _scenario_folder(path: Path, scenario: str | None) -> Path:
    if scenario is None and (path / "steps.ndjson").is_file():
        return path
    there = {found.parent.name: found.parent for found in sorted(path.rglob("steps.ndjson"))}
    if scenario is None and len(there) == 1:
        return next(iter(there.values()))
    if scenario not in there:
        raise _no_scenario(path, scenario, list(there))
    return there[scenario]


def _no_scenario(path: Path, scenario: str | None, there: list[str]) -> RecordingError:
    asked = f"no scenario {scenario!r}" if scenario else "several scenarios"
    return RecordingError(f"{path}: {asked}; there are: {', '.join(there) or 'none'}")


def parse_log(text: str) -> list[LogEntry]:
    """Parse commands.log."""
    entries: list[LogEntry] = []
    for line in text.splitlines(keepends=True):
        if found := _LOG_LINE.match(line.rstrip("\n")):
            kind, stamp, rest = found.groups()
            epoch_s = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
            background = kind == "$" and rest.rstrip().endswith("&")
            entries.append(LogEntry(epoch_s, kind == "$", rest.rstrip().rstrip("&").rstrip(), background))
        elif entries and (found := _EXIT_LINE.match(line)):
            entries[-1] = replace(entries[-1], exit_code=int(found.group(1)))
        elif entries and entries[-1].exit_code is None:
            entries[-1] = replace(entries[-1], output=entries[-1].output + line)
    return entries
