"""The runtime's program: found once at start-up, never taken from a request."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sprite.control.command import NotStarted, child_environment, run_command
from sprite.control.errors import BinaryUnusable

BINARY_VARIABLE = "SUPERLOOP_BIN"
BINARY_NAME = "superloop.sh"
OBSERVED_VERSION = "0.6"
"""The version series this project was built against; another one works until it says otherwise."""

_VERSION_TIMEOUT_S = 10.0
_MAX_VERSION_CHARS = 100


def find_binary(configured: str | None = None) -> Path:
    """The absolute path of the runtime's program.

    Args:
        configured: A path or a name on the PATH; without it `$SUPERLOOP_BIN`, else `superloop.sh` on the PATH.

    Raises:
        BinaryUnusable: Nothing is there, or it may not be executed.
    """
    wanted = configured or os.environ.get(BINARY_VARIABLE) or BINARY_NAME
    has_folder = os.sep in wanted or wanted.startswith("~")
    found = Path(wanted).expanduser() if has_folder else Path(shutil.which(wanted) or wanted)
    fix = f"set {BINARY_VARIABLE} (or --superloop-bin) to the path of {BINARY_NAME}"
    if not found.is_file():
        raise BinaryUnusable(f"the runtime's program {wanted!r} was not found: {fix}")
    if not os.access(found, os.X_OK):
        raise BinaryUnusable(f"the runtime's program {str(found)!r} is not executable: chmod +x it, or {fix}")
    return found.absolute()


def binary_version(binary: Path) -> str:
    """What `<binary> --version` prints, its first line.

    Raises:
        BinaryUnusable: It cannot be started, fails, says nothing, or takes longer than 10 s.
    """
    try:
        run = run_command(
            [str(binary), "--version"], timeout_s=_VERSION_TIMEOUT_S, environment=child_environment(os.environ)
        )
    except NotStarted as error:
        raise BinaryUnusable(f"{binary} cannot be started: {error}") from None
    if run.timed_out:
        raise BinaryUnusable(f"{binary} --version did not answer within {_VERSION_TIMEOUT_S:.0f} s")
    lines = run.output.strip().splitlines()
    if run.exit_code != 0 or not lines:
        raise BinaryUnusable(
            f"{binary} --version exited {run.exit_code}: is it {BINARY_NAME}? It said {run.output[:80]!r}"
        )
    return lines[0].strip()[:_MAX_VERSION_CHARS]
