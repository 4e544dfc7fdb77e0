"""The lines of an event log: cut from the file in bounded memory, and told apart into events and quarantined ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from contract import chain
from contract.errors import EventLineInvalid
from sprite.files import read_range

MAX_LINE_BYTES = 8 * 1024 * 1024
"""A longer line is quarantined unread, so that no line can exhaust memory, nor an answer that holds it (in which it may
take six times as many bytes). The runtime's own stay below 256 KiB: it passes an event's data as one argument."""

_FIRST_CHUNK = 64 * 1024
_LARGEST_CHUNK = 4 * 1024 * 1024


class LogChanged(Exception):
    """The log is no longer the one that was being read; whoever reads starts over."""


class LogLine(NamedTuple):
    """One terminated line: an event, or None and the `reason` it is quarantined (D4). `size` counts its newline."""

    number: int
    size: int
    h: bytes
    event: dict[str, Any] | None
    reason: str | None


class RawLine(NamedTuple):
    """A line's bytes without the newline, or None with its quarantine hash when it is too long to be held."""

    content: bytes | None
    size: int
    h: bytes


def raw_lines(descriptor: int, start: int, end: int, max_line_bytes: int) -> Iterator[RawLine]:
    """The lines between two line boundaries of an open log; raises LogChanged when the file ends earlier."""
    buffer = b""
    searched = 0
    position = start
    chunk = _FIRST_CHUNK
    while True:
        begin = 0
        while (newline := buffer.find(b"\n", max(begin, searched))) >= 0:
            yield _raw_line(buffer[begin:newline], max_line_bytes)
            begin = newline + 1
        buffer = buffer[begin:]
        searched = len(buffer)
        if searched > max_line_bytes:
            line, position = _overlong(descriptor, buffer, position, end)
            yield line
            buffer, searched = b"", 0
            continue
        if position >= end:
            if buffer:
                raise LogChanged
            return
        buffer += _next_chunk(descriptor, position, min(position + chunk, end))
        position = min(position + chunk, end)
        chunk = min(chunk * 2, _LARGEST_CHUNK)


def _next_chunk(descriptor: int, start: int, end: int) -> bytes:
    content = read_range(descriptor, start, end)
    if len(content) != end - start:
        raise LogChanged
    return content


def _raw_line(content: bytes, max_line_bytes: int) -> RawLine:
    if len(content) > max_line_bytes:
        return RawLine(None, len(content) + 1, chain.quarantined_hash(content))
    return RawLine(content, len(content) + 1, b"")


def _overlong(descriptor: int, begun: bytes, position: int, end: int) -> tuple[RawLine, int]:
    """Hash the rest of a line without holding it; returns the line and the offset behind its newline."""
    # The same as contract.chain.quarantined_hash, which wants the whole line in memory.
    digest = hashlib.sha256(b"!" + begun)
    size = len(begun)
    while position < end:
        content = _next_chunk(descriptor, position, min(position + _LARGEST_CHUNK, end))
        newline = content.find(b"\n")
        if newline >= 0:
            digest.update(content[:newline])
            return RawLine(None, size + newline + 1, digest.digest()), position + newline + 1
        digest.update(content)
        size += len(content)
        position += len(content)
    raise LogChanged


def classify(number: int, raw: RawLine) -> LogLine:
    """The event on a line, or why it is quarantined."""
    if raw.content is None:
        return LogLine(number, raw.size, raw.h, None, f"line too long: {raw.size - 1} bytes")
    try:
        event = chain.parse_event_line(raw.content)
        return LogLine(number, raw.size, chain.line_hash(event), event, None)
    except EventLineInvalid as error:
        return LogLine(number, raw.size, chain.quarantined_hash(raw.content), None, str(error))


def events_backwards(
    descriptor: int, start: int, end: int, max_line_bytes: int, *, holding: bytes = b""
) -> Iterator[dict[str, Any]]:
    """The events between a line boundary and `end`, last first, without quarantined lines.

    What follows the last newline is no line yet (D3). Lines without the bytes `holding` are passed over unparsed.
    """
    window = _FIRST_CHUNK
    while start < end:
        begin = max(start, end - window)
        content = _next_chunk(descriptor, begin, end)
        # A window that begins inside a line gives that line to the next window.
        cut = 0 if begin == start else content.find(b"\n") + 1
        if cut == len(content):
            if window > max_line_bytes:
                end = _line_start(descriptor, start, begin)
                window = _FIRST_CHUNK
            else:
                window *= 2
            continue
        for line in reversed(content[cut:].split(b"\n")[:-1]):
            if holding in line and len(line) <= max_line_bytes and (event := _event_on(line)) is not None:
                yield event
        end = begin + cut
        window = _FIRST_CHUNK


def _event_on(line: bytes) -> dict[str, Any] | None:
    try:
        return chain.parse_event_line(line)
    except EventLineInvalid:
        return None


def _line_start(descriptor: int, start: int, position: int) -> int:
    """The start of the line that `position` lies in."""
    while position > start:
        begin = max(start, position - _LARGEST_CHUNK)
        newline = _next_chunk(descriptor, begin, position).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        position = begin
    return start
