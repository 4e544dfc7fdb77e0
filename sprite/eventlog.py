"""The event log of a loop: bounded pages of lines, a rolling hash over them, and no lie when the file changes.

Two layers. `LogScan` reads every byte once and knows size, hash and number of lines at one instant. `LineIndex` knows
the chain and the byte offset at every 256th line as far as somebody asked for lines. Both notice when the file is no
longer the one they read; then both start over, and a client that shows its chain learns of it (D8).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from contract import chain
from sprite.errors import ArtifactUnreadable, CursorAhead, EventsRewritten, LogMismatch
from sprite.files import open_regular
from sprite.loglines import MAX_LINE_BYTES, LogChanged, LogLine, classify, raw_lines
from sprite.logscan import REHASH_INTERVAL_S, LogScan

PAGE_MAX_EVENTS = 5_000
"""Most lines in a page, whatever is asked for; the cursor tells the rest."""
PAGE_MAX_BYTES = 8 * 1024 * 1024
"""Most bytes of envelopes in a page, estimated; one line always fits, so that a page is always progress."""

CHECKPOINT_LINES = 256
_RECENT_POSITIONS = 64
# A long way to a cursor is gone in slices, between which others get at the log.
_SLICE_LINES = 2_000
_ATTEMPTS = 5
_ENVELOPE_OVERHEAD = 512

_T = TypeVar("_T")


class Position(NamedTuple):
    """A line boundary: lines before it, its byte offset, and the chain there."""

    line: int
    offset: int
    chain: bytes


_START = Position(0, 0, chain.GENESIS)
_NOWHERE = Position(-1, -1, b"")


class LogFacts(NamedTuple):
    """What a snapshot says of the log, all of one instant; `last_event` holds only the fields it is derived from."""

    line_count: int
    size_bytes: int
    sha256: str
    mtime_epoch: int | None
    last_event: dict[str, Any] | None


class LogPage(NamedTuple):
    """Consecutive lines, the position behind them, and how many lines the log had when they were read."""

    lines: list[LogLine]
    end: Position
    line_count: int


class LineIndex:
    """Known positions of a log: sparse checkpoints, the furthest one, and the latest ends of pages."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: it is another log."""
        self._checkpoints = [_START]
        self._furthest = _START
        self._recent: OrderedDict[int, Position] = OrderedDict()

    def nearest(self, line: int) -> Position:
        """The known position closest before or at `line`."""
        if line in self._recent:
            return self._recent[line]
        if self._furthest.line <= line:
            return self._furthest
        return self._checkpoints[line // CHECKPOINT_LINES]

    def note(self, position: Position) -> None:
        """Learn a position reached by walking; raises LogChanged when it contradicts what was known there."""
        index, rest = divmod(position.line, CHECKPOINT_LINES)
        if rest == 0:
            if index == len(self._checkpoints):
                self._checkpoints.append(position)
            elif self._checkpoints[index] != position:
                raise LogChanged
        if position.line > self._furthest.line:
            self._furthest = position
        elif position.line == self._furthest.line and position != self._furthest:
            raise LogChanged

    def remember(self, position: Position) -> None:
        """Keep the end of a page: it is where the next request begins."""
        self._recent[position.line] = position
        self._recent.move_to_end(position.line)
        if len(self._recent) > _RECENT_POSITIONS:
            self._recent.popitem(last=False)


class _Found(NamedTuple):
    """A page, or else how the client's cursor does not fit the log."""

    page: LogPage | None = None
    mismatch: type[LogMismatch] = LogMismatch


class EventLog:
    """Reader of one events.jsonl. Safe to use from several threads.

    Only terminated lines are visible (D3); a terminated line that is no event is delivered as quarantined (D4). A poll
    costs what was appended since the last one. Every method raises FileNotFoundError while there is no file, and
    ArtifactUnreadable when the log does not hold still or is no regular file.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_line_bytes: int = MAX_LINE_BYTES,
        rehash_interval_s: float = REHASH_INTERVAL_S,
    ) -> None:
        self._path = path
        self._max_line_bytes = max_line_bytes
        self._scan = LogScan(max_line_bytes=max_line_bytes, rehash_interval_s=rehash_interval_s)
        self._index = LineIndex()
        self._lock = threading.Lock()

    def line_count(self) -> int:
        """The number of terminated lines."""
        return self._read(lambda _: self._scan.line_count)

    def facts(self) -> LogFacts:
        """What a snapshot says of the log."""
        return self._read(lambda _: self._facts())

    def head(self) -> Position:
        """The position behind the last terminated line."""
        return self._in_slices(self._try_head)

    def rehash(self) -> bool:
        """Hash the whole log again; False when it is not the one read before, which is then read anew (D8)."""
        return self._read(self._rehash)

    def positions(self, lines: Iterable[int]) -> list[Position]:
        """The positions behind those of `lines` that the log has."""
        found = [self._in_slices(partial(self._try_position, line)) for line in lines]
        return [position for position in found if position != _NOWHERE]

    def page(
        self, cursor: int, *, max_events: int = 0, max_bytes: int = PAGE_MAX_BYTES, chain_hex: str | None = None
    ) -> LogPage:
        """The lines after line `cursor`: at most `max_events` events (0: no wish), PAGE_MAX_EVENTS lines, `max_bytes`.

        `chain_hex` is the chain that the client has at `cursor`. Raises CursorAhead when the log has fewer lines,
        EventsRewritten when its chain there is another one (D8).
        """
        if cursor < 0 or max_events < 0:
            raise ValueError("cursor and max_events must not be negative")

        def attempt(descriptor: int) -> _Found | None:
            return self._try_page(descriptor, cursor, max_events, max_bytes, chain_hex)

        found = self._in_slices(attempt)
        if found.page is not None:
            return found.page
        head = self.head()
        raise found.mismatch(cursor, line_count=head.line, byte_offset=head.offset, chain=head.chain.hex())

    def _facts(self) -> LogFacts:
        scan = self._scan
        return LogFacts(scan.line_count, scan.read_end, scan.sha256, scan.mtime_epoch, scan.last_event)

    def _rehash(self, descriptor: int) -> bool:
        if self._scan.rehash(descriptor):
            return True
        self._forget()
        self._scan.sync(descriptor)
        return False

    def _read(self, work: Callable[[int], _T]) -> _T:
        """Run `work` on the open log, synced before and checked after; start over when the log changed meanwhile."""
        with self._lock:
            for _ in range(_ATTEMPTS):
                with open_regular(self._path) as descriptor:
                    try:
                        if not self._scan.sync(descriptor):
                            self._index.clear()
                        result = work(descriptor)
                        if self._scan.holds(descriptor):
                            return result
                    except LogChanged:
                        pass
                    self._forget()
        raise ArtifactUnreadable(f"{self._path} is rewritten again and again; it must only be appended to")

    def _in_slices(self, work: Callable[[int], _T | None]) -> _T:
        while True:
            result = self._read(work)
            if result is not None:
                return result
            time.sleep(0)

    def _forget(self) -> None:
        self._scan.reset()
        self._index.clear()

    def _try_head(self, descriptor: int) -> Position | None:
        return self._reach(descriptor, self._scan.line_count)

    def _try_position(self, line: int, descriptor: int) -> Position | None:
        return self._reach(descriptor, line) if line <= self._scan.line_count else _NOWHERE

    def _try_page(
        self, descriptor: int, cursor: int, max_events: int, max_bytes: int, chain_hex: str | None
    ) -> _Found | None:
        if cursor > self._scan.line_count:
            return _Found(mismatch=CursorAhead)
        start = self._reach(descriptor, cursor)
        if start is None:
            return None
        if chain_hex is not None and chain_hex.lower() != start.chain.hex():
            return _Found(mismatch=EventsRewritten)
        return _Found(self._collect(descriptor, start, max_events or PAGE_MAX_EVENTS, max_bytes))

    def _reach(self, descriptor: int, line: int) -> Position | None:
        """The position at `line`, or None when it is further than a slice away: call again."""
        position = self._index.nearest(line)
        if position.line == line:
            return position
        last = min(line, position.line + _SLICE_LINES)
        for _, reached in self._walk(descriptor, position):
            if reached.line == last:
                return reached if last == line else None
        raise LogChanged

    def _collect(self, descriptor: int, start: Position, max_events: int, max_bytes: int) -> LogPage:
        lines: list[LogLine] = []
        end = start
        events = spent = 0
        for line, position in self._walk(descriptor, start):
            # An envelope holds the line about twice: as `raw`, and its data again as `payload`.
            spent += _ENVELOPE_OVERHEAD + (2 * line.size if line.event is not None else 0)
            if lines and spent > max_bytes:
                break
            lines.append(line)
            end = position
            events += line.event is not None
            if events >= max_events or len(lines) >= PAGE_MAX_EVENTS:
                break
        self._index.remember(end)
        return LogPage(lines, end, self._scan.line_count)

    def _walk(self, descriptor: int, position: Position) -> Iterator[tuple[LogLine, Position]]:
        """The lines from `position` to the end, each with the position behind it."""
        number, offset, link = position
        for raw in raw_lines(descriptor, offset, self._scan.terminated_end, self._max_line_bytes):
            number += 1
            line = classify(number, raw)
            offset += line.size
            link = chain.extend(link, line.h)
            reached = Position(number, offset, link)
            self._index.note(reached)
            yield line, reached
