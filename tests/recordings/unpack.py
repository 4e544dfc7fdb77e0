"""The recorded runs and the recorded HTTP exchanges, unpacked once per test process, mtimes kept."""

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sprite.standin.recording import Recording, read_recording, unpack

RECORDINGS_ARCHIVE = Path(__file__).with_name("recordings.tar.gz")
EXCHANGES_ARCHIVE = Path(__file__).with_name("http-exchanges.tar.gz")

SCENARIOS = (
    "01-happy",
    "02-approve",
    "04-cancel",
    "05-max-iterations",
    "06-role-timeout",
    "08-no-progress",
    "10-rate-limit",
    "11-kill9",
    "14-tests-fail",
)


@functools.cache
def recordings_root() -> Path:
    """Return a folder with one folder per scenario. Shared by the tests of a process: read it, never write there."""
    return _unpacked(RECORDINGS_ARCHIVE, "recordings")


@functools.cache
def exchanges_root() -> Path:
    """Return a folder with one JSON file per recorded HTTP exchange; read only."""
    return _unpacked(EXCHANGES_ARCHIVE, "http-exchanges")


@functools.cache
def recording(scenario: str) -> Recording:
    """Return one scenario."""
    return read_recording(recordings_root() / scenario)


def exchanges() -> dict[str, dict[str, Any]]:
    """Return the recorded HTTP exchanges by file name without its suffix, in order."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(exchanges_root().glob("*.json"))}


def _unpacked(archive: Path, folder: str) -> Path:
    into = Path(tempfile.mkdtemp(prefix="ops-manager-recordings-"))
    atexit.register(shutil.rmtree, into, ignore_errors=True)
    unpack(archive, into)
    return into / folder
