"""What the stand-in prints. A reader that has gone away never stops a run."""

from __future__ import annotations

import contextlib
import sys


def say(text: str = "") -> None:
    """Print a line on stdout."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """Print a line on stderr."""
    _write(sys.stderr, text)


def _write(stream: object, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(text, file=stream, flush=True)  # type: ignore[call-overload]
