"""Holding a log to the line at the cursor (D8), where no chain does it.

A service of the base contract shows no chain, so a log that was replaced by a longer one would go unnoticed. The cursor
knows the hash of its line, so such a page is asked for from one line before: the line comes with the page, in the same
request, is compared and taken off. A bad line has no such hash; behind one, nothing is compared.
"""

from __future__ import annotations

from typing import Literal

from activities.digest import HASH_PREFIX_CHARS
from activities.failures import LogMoved
from contract.chain import line_hash
from contract.envelopes import EventsPage
from contract.errors import EventLineInvalid
from contract.observation import CursorPosition, LogReset


def one_line_before(cursor: CursorPosition) -> CursorPosition:
    """The cursor to ask with, so that the line at `cursor` comes along."""
    return CursorPosition(epoch=cursor.epoch, line=cursor.line - 1)


def without_anchor(page: EventsPage, cursor: CursorPosition) -> EventsPage:
    """A page asked for from one line before `cursor`, without that line.

    Raises LogMoved when the line is not there or not the one that was read, whose hash `cursor.h` is.
    """
    line, count = cursor.line, page.cursor.event_line_count
    if count < line:
        raise _moved("cursor_ahead", line, count, f"the log has {count} lines, the cursor stands at line {line}")
    if not page.events or page.events[0].cursor.event_line_offset != line:
        raise _moved("events_rewritten", line, count, f"line {line} was an event, and is none any more")
    if _hash_prefix(page) != cursor.h:
        raise _moved("events_rewritten", line, count, f"line {line} is not the line that was read there before")
    return page.model_copy(update={"events": page.events[1:]})


def _moved(reason: Literal["cursor_ahead", "events_rewritten"], line: int, count: int, detail: str) -> LogMoved:
    return LogMoved(LogReset(reason=reason, at_line=line, line_count=count, detail=detail))


def _hash_prefix(page: EventsPage) -> str | None:
    try:
        return line_hash(page.events[0].event.raw).hex()[:HASH_PREFIX_CHARS]
    except EventLineInvalid:
        return None
