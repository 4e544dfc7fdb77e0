"""What the commands that stay have in common: logging, and being stopped at any moment."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

_T = TypeVar("_T")

_NOBODY_WAITED = "Activity not found on completion"
"""What the SDK warns of when an observer ends after its supervisor has been released: that is how it ends."""


class Stopped(Exception):
    """A signal came before the work was done."""


def configure_logging() -> None:
    """Warnings and worse as one line each on stderr, in UTC."""
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(lambda record: _NOBODY_WAITED not in record.getMessage())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


async def unless_stopped(work: Coroutine[Any, Any, _T], stop: asyncio.Event) -> _T:
    """The result of `work`; when `stop` is set first, `work` is cancelled and Stopped raised."""
    task = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Stopped
        return task.result()
    finally:
        for pending in (task, stopping):
            pending.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await asyncio.gather(task, stopping, return_exceptions=True)
