"""Event logs for tests, and an oracle: the whole file cut and hashed at once, by no code of `sprite/`."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contract import chain
from contract.errors import EventLineInvalid
from sprite.eventlog import EventLog, LogPage, Position

TIME = "2026-11-22T03:12:07Z"


def event_line(number: int, **fields: Any) -> bytes:
    """A terminated line that is an event."""
    event = {"timestamp": TIME, "event": "role_start", "loop_id": "demo", "run_id": TIME, "iteration": 1}
    return json.dumps({**event, "data": {"n": number}, **fields}).encode() + b"\n"


def log_of(count: int, first: int = 1, **fields: Any) -> bytes:
    """`count` event lines, numbered from `first`."""
    return b"".join(event_line(number, **fields) for number in range(first, first + count))


class Expected(NamedTuple):
    """What a log holds: per terminated line its event or None, and the chain after each (index 0: before line 1)."""

    events: list[dict[str, Any] | None]
    chains: list[str]


@functools.lru_cache(maxsize=16)
def expected_of(content: bytes) -> Expected:
    events: list[dict[str, Any] | None] = []
    link = bytes(32)
    chains = [link.hex()]
    for line in content.split(b"\n")[:-1]:
        event: dict[str, Any] | None
        try:
            event = chain.parse_event_line(line)
            h = chain.line_hash(event)
        except EventLineInvalid:
            event, h = None, hashlib.sha256(b"!" + line).digest()
        link = hashlib.sha256(link + h).digest()
        events.append(event)
        chains.append(link.hex())
    return Expected(events, chains)


class Walked(NamedTuple):
    """Everything that a walk in pages gave."""

    events: list[dict[str, Any] | None]
    chains: list[str]
    pages: list[LogPage]


def walk(log: EventLog, *, start: int = 0, max_events: int = 0, max_bytes: int = 8 * 2**20) -> Walked:
    """Read from line `start` to the end in pages, each asked for with the chain that the one before gave."""
    pages: list[LogPage] = []
    cursor, link = start, None
    while True:
        page = log.page(cursor, max_events=max_events, max_bytes=max_bytes, chain_hex=link)
        pages.append(page)
        cursor, link = page.end.line, page.end.chain.hex()
        if cursor == page.line_count:
            lines = [line for page in pages for line in page.lines]
            assert [line.number for line in lines] == list(range(start + 1, cursor + 1))
            return Walked([line.event for line in lines], [page.end.chain.hex() for page in pages], pages)
        assert page.lines, "a page that is not at the end must be progress"


def assert_agrees(log: EventLog, content: bytes) -> None:
    """The log reads exactly as `content` does."""
    expected = expected_of(content)
    walked = walk(log)
    assert walked.events == expected.events
    assert walked.chains[-1] == expected.chains[-1]
    assert log.head() == Position(len(expected.events), content.rfind(b"\n") + 1, bytes.fromhex(expected.chains[-1]))
    facts = log.facts()
    assert (facts.size_bytes, facts.line_count) == (len(content), len(expected.events))
    assert facts.sha256 == hashlib.sha256(content).hexdigest()
    last = next((event for event in reversed(expected.events) if event is not None), None)
    assert (facts.last_event or {}).get("timestamp") == (last or {}).get("timestamp")


class BytesRead:
    """Counts what is read from files."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[BytesRead]:
        """Count anew within this block."""
        self.count = 0
        pread = os.pread

        def counting(descriptor: int, length: int, offset: int) -> bytes:
            content = pread(descriptor, length, offset)
            self.count += len(content)
            return content

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pread", counting)
            yield self


def replace_by_rename(path: Path, content: bytes) -> None:
    """As an editor or logrotate does: another inode under the same name."""
    other = path.with_name("other")
    other.write_bytes(content)
    other.rename(path)
