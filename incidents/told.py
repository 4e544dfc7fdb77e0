"""A timeline in words: plain lines for a terminal, a table for a ticket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from incidents.entries import Entry
from incidents.timeline import Timeline

LATE_FROM_S = 2.0
"""Timestamps have whole seconds, so a shorter delay says nothing."""
_TURNING = dict.fromkeys([0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
_MARKUP = frozenset("\\|`*_~<>[]#&")


def line(entry: Entry) -> str:
    """An entry on one line, without control characters."""
    sender = who(entry)
    parts = [when(entry.at), delay(entry).rjust(7), entry.kind.ljust(11), entry.what]
    return _clean("  ".join(parts) + (f", by {sender}" if sender else "") + (f" - {entry.why}" if entry.why else ""))


def markdown(timeline: Timeline) -> Iterator[str]:
    """The timeline as a Markdown table, line by line; text of operators and agents is no markup in it."""
    yield f"# Timeline of {escape(timeline.sprite)}/{escape(timeline.loop_id)}"
    yield ""
    if timeline.clocks.sentence:
        yield f"**{timeline.clocks.sentence}**\n"
    yield "| when (UTC) | known after | kind | what | who | why |"
    yield "|---|---|---|---|---|---|"
    for entry in timeline.entries:
        cells = (when(entry.at), delay(entry), entry.kind, entry.what, who(entry), entry.why)
        yield "| " + " | ".join(escape(cell) for cell in cells) + " |"


def without_observations(entries: Iterable[Entry]) -> list[Entry]:
    """What a person wants to read: that somebody looked is told by what was seen."""
    return [entry for entry in entries if entry.kind != "observation"]


def who(entry: Entry) -> str:
    """The name in the message, and the client that sent it."""
    return f"{entry.by} ({entry.sender})" if entry.by and entry.sender else entry.by or entry.sender


def when(at: datetime) -> str:
    """`2026-11-22 03:12:07Z`, with milliseconds where the clock has them."""
    return f"{at:%Y-%m-%d %H:%M:%S}" + ("" if at.microsecond == 0 else f".{at.microsecond // 1000:03d}") + "Z"


def delay(entry: Entry) -> str:
    """`+40 s`, `never`, or nothing where it was known at once."""
    if entry.kind == "event" and entry.known_at is None:
        return "never"
    if entry.delay_s is None or abs(entry.delay_s) < LATE_FROM_S:
        return ""
    return ("+" if entry.delay_s > 0 else "-") + lasting(abs(entry.delay_s))


def lasting(seconds: float) -> str:
    """A duration as one says it: `40 s`, `12 min`, `3 h 5 min`."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 120:
        return f"{minutes} min"
    hours = f"{minutes // 60} h"
    return f"{hours} {minutes % 60} min" if minutes % 60 else hours


def upright(text: str) -> str:
    """Text without characters that turn the direction of whatever stands beside it; it is seen where one was."""
    return text.translate(_TURNING)


def counted(number: int, thing: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text).strip()


def escape(text: str) -> str:
    """Text in Markdown, on one line, without any of it becoming markup."""
    return "".join("\\" + char if char in _MARKUP else char for char in " ".join(_clean(text).split()))
