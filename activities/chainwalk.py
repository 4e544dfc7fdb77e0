"""The chain over an events page, continued from this side, and the batch of lines that one observation takes.

`chain_n = sha256(chain_{n-1} || h_n)` is recomputed from every event's raw JSON and the hash of every quarantined
line. A service that shows its own chain must agree and must account for every line, else the page is invalid. One that
shows none cannot show a bad line either: such a gap makes the chain *unverifiable from line n*, which is no divergence,
and leaves us without one until a service shows its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from activities.digest import clip, event_digest, is_well_formed, json_size, quarantined_digest
from contract.chain import GENESIS, event_name, extend, line_hash
from contract.envelopes import EventEnvelope, EventsPage, QuarantinedLine
from contract.errors import EnvelopeInvalid, EventLineInvalid
from contract.observation import CursorPosition, EventDigest, QuarantinedDigest

_HASH_BYTES = 32


@dataclass(frozen=True)
class Step:
    """One line of a page: its digest and the chain after it (None when it cannot be computed)."""

    line: int
    digest: EventDigest | QuarantinedDigest
    chain: bytes | None

    @property
    def h(self) -> str | None:
        """The hash by which the line is known again; not that of a bad line, whose bytes not every service shows."""
        return self.digest.h if isinstance(self.digest, EventDigest) else None


@dataclass(frozen=True)
class Walk:
    """A whole page walked: its lines, where it ends, and the first line whose hash nobody could show."""

    steps: list[Step]
    end: CursorPosition
    unverifiable_from: int | None


def walk(position: CursorPosition, page: EventsPage) -> Walk:
    """Continue the chain of `position` over `page`.

    Raises EnvelopeInvalid when the page contradicts itself, leaves lines out although its service shows a chain, or
    shows another chain than its own lines give.
    """
    _check(position, page)
    chain = _start(position)
    unknown: int | None = None
    steps: list[Step] = []
    line = position.line
    for number, item in _lines(page):
        h, digest = _hashed(item)
        if unknown is None and (number != line + 1 or h is None):
            unknown = line + 1
        chain = extend(chain, h) if chain is not None and h is not None and unknown is None else None
        steps.append(Step(number, digest, chain))
        line = number
    if unknown is None and line != page.cursor.event_line_offset:
        unknown, chain = line + 1, None
    verifiable = position.line == 0 or position.chain is not None
    _check_shown(page, chain, unknown)
    end = CursorPosition(
        epoch=position.epoch,
        line=page.cursor.event_line_offset,
        # A chain that was lost to a gap is taken up again where a service shows its own.
        chain=chain.hex() if chain is not None else page.cursor.chain,
        h=_hash_at_end(position, steps, page.cursor.event_line_offset),
    )
    return Walk(steps, end, unknown if verifiable else None)


@dataclass
class Batch:
    """The lines that one observation carries, bounded in number and in bytes of history (D20)."""

    cursor: CursorPosition
    max_events: int
    max_bytes: int
    events: list[EventDigest] = field(default_factory=list)
    quarantined: list[QuarantinedDigest] = field(default_factory=list)
    unverifiable_from: int | None = None
    full: bool = False
    start_line: int = field(init=False)
    _bytes: int = 0

    def __post_init__(self) -> None:
        self.start_line = self.cursor.line

    @property
    def room(self) -> int:
        """How many more lines fit by number; at least 1, because a full batch asks for nothing."""
        return max(1, self.max_events - len(self.events) - len(self.quarantined))

    def add(self, page: EventsPage) -> None:
        """Take the lines of `page` that fit; the first one always does, so that every observation gets on.

        Raises EnvelopeInvalid as `walk` does; then nothing was taken.
        """
        walked = walk(self.cursor, page)
        for step in walked.steps:
            if not self._take(step):
                self._note_unverifiable(walked, up_to=self.cursor.line)
                return
        self.cursor = walked.end
        self._note_unverifiable(walked, up_to=walked.end.line)
        self.full = len(self.events) + len(self.quarantined) >= self.max_events

    def _take(self, step: Step) -> bool:
        size = json_size(step.digest)
        count = len(self.events) + len(self.quarantined)
        if count and (count >= self.max_events or self._bytes + size > self.max_bytes):
            self.full = True
            return False
        if isinstance(step.digest, EventDigest):
            self.events.append(step.digest)
        else:
            self.quarantined.append(step.digest)
        self._bytes += size
        chain = step.chain.hex() if step.chain is not None else None
        self.cursor = CursorPosition(epoch=self.cursor.epoch, line=step.line, chain=chain, h=step.h)
        return True

    def _note_unverifiable(self, walked: Walk, *, up_to: int) -> None:
        if self.unverifiable_from is None and walked.unverifiable_from and walked.unverifiable_from <= up_to:
            self.unverifiable_from = walked.unverifiable_from


def _hash_at_end(position: CursorPosition, steps: list[Step], end: int) -> str | None:
    if steps and steps[-1].line == end:
        return steps[-1].h
    return position.h if end == position.line else None


def _start(position: CursorPosition) -> bytes | None:
    if position.line == 0:
        return GENESIS
    return bytes.fromhex(position.chain) if position.chain else None


def _lines(page: EventsPage) -> Iterator[tuple[int, EventEnvelope | QuarantinedLine]]:
    """Every line the page tells of, by ascending number; raises EnvelopeInvalid for a line told twice."""
    told: list[tuple[int, EventEnvelope | QuarantinedLine]] = [
        *((envelope.cursor.event_line_offset, envelope) for envelope in page.events),
        *((quarantined.line, quarantined) for quarantined in page.quarantined),
    ]
    told.sort(key=lambda entry: entry[0])
    for (line, _), (following, _) in itertools.pairwise(told):
        if line == following:
            raise EnvelopeInvalid(f"events page tells of line {line} twice")
    yield from told


def _hashed(item: EventEnvelope | QuarantinedLine) -> tuple[bytes | None, EventDigest | QuarantinedDigest]:
    if isinstance(item, QuarantinedLine):
        return _told_hash(item), quarantined_digest(item)
    line, raw = item.cursor.event_line_offset, item.event.raw
    if not is_well_formed(raw):
        # Another implementation delivers what we quarantine; its hash would need the bytes, which are not shown.
        return None, QuarantinedDigest(line=line, reason="no event name or no timestamp")
    # Where the envelope is silent it contradicts nothing: other implementations name a line by other rules.
    named, stamped = item.event.name or event_name(raw), item.event.timestamp or raw["timestamp"]
    if named != event_name(raw) or stamped != raw["timestamp"]:
        raise EnvelopeInvalid(f"events page: line {line} is called {clip(named)!r}, but its raw line is not")
    try:
        h = line_hash(raw)
    except EventLineInvalid as error:
        return None, QuarantinedDigest(line=line, reason=str(error))
    return h, event_digest(line, raw, h)


def _told_hash(quarantined: QuarantinedLine) -> bytes | None:
    if quarantined.h is None:
        return None
    try:
        told = bytes.fromhex(quarantined.h)
    except ValueError:
        told = b""
    if len(told) != _HASH_BYTES:
        raise EnvelopeInvalid(f"events page: the hash of quarantined line {quarantined.line} is no SHA-256")
    return told


def _check(position: CursorPosition, page: EventsPage) -> None:
    offset, count = page.cursor.event_line_offset, page.cursor.event_line_count
    if offset < position.line:
        raise EnvelopeInvalid(f"events page: cursor {offset} lies before line {position.line}, where it was to begin")
    if offset > count:
        raise EnvelopeInvalid(f"events page: cursor {offset} lies beyond the {count} lines it counts")
    for envelope in page.events:
        if envelope.sequence.value != envelope.cursor.event_line_offset:
            raise EnvelopeInvalid(
                f"events page: sequence {envelope.sequence.value} at line {envelope.cursor.event_line_offset}"
            )
    for quarantined in page.quarantined:
        if not position.line < quarantined.line <= offset:
            raise EnvelopeInvalid(f"events page: quarantined line {quarantined.line} lies outside the page")


def _check_shown(page: EventsPage, chain: bytes | None, unknown: int | None) -> None:
    shown = page.cursor.chain
    if shown is None:
        return
    if unknown is not None:
        raise EnvelopeInvalid(f"events page: line {unknown} is left out or has no hash although a chain is shown")
    if chain is not None and chain.hex() != shown:
        raise EnvelopeInvalid(
            f"events page: its lines give chain {chain.hex()[:12]} at line {page.cursor.event_line_offset}, "
            f"it shows {shown[:12]}"
        )
