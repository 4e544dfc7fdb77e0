"""`reconcile` and `chains`: does a transport show the log that was ingested, and where does it begin to differ?

The replay reads the events anew and folds them by itself, so a service that shows no chain can be held to them, too.
What was read stays in the worker; positions and hashes go into history.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Awaitable, Callable
from typing import TypeVar

from activities.chainwalk import Step, walk
from activities.failures import Condition, InvalidAnswer, LocalShortage, LogMoved, TransportFailure, clipped
from activities.heartbeats import ContactLog, heartbeating, unless_shutdown
from activities.sources import LoopSource
from contract.envelopes import MAX_CHAINS, EventsPage
from contract.errors import EnvelopeInvalid
from contract.observation import (
    ChainAt,
    Contact,
    CursorPosition,
    ObserveHeartbeat,
)
from contract.reconciliation import Agreement, ChainsInput, ChainsResult, ReconcileInput, ReconcileResult

RETRY_PAUSE_S = 1.0
_SHUTDOWN = "the worker is shutting down"
_T = TypeVar("_T")


async def reconcile(source: LoopSource, asked: ReconcileInput) -> ReconcileResult:
    """Replay the log behind `source` up to `asked.cursor`; what the other side says or fails at is in the result."""
    replay = _Replay(source, asked)
    async with heartbeating(replay.log.beat):
        done = await unless_shutdown(replay.run())
    return done or replay.result(Agreement.UNREACHABLE, detail=_SHUTDOWN)


async def chains(source: LoopSource, asked: ChainsInput) -> ChainsResult:
    """The chain at each line asked for, as far as the log goes; raises nothing: see `ChainsResult.complete`."""
    log = ContactLog(ObserveHeartbeat())
    async with heartbeating(log.beat):
        done = await unless_shutdown(_chains(source, asked))
    return done or ChainsResult(complete=False, detail=_SHUTDOWN)


class _Replay:
    def __init__(self, source: LoopSource, asked: ReconcileInput) -> None:
        self.log = ContactLog(ObserveHeartbeat())
        self._source = source
        self._asked = asked
        self._position = asked.start
        self._line_count: int | None = None
        self._same_up_to = asked.start.line
        self._known = {known.line: known.chain for known in asked.checkpoints}
        self._last: Step | None = None

    def result(self, agreement: Agreement, *, differs_at: int | None = None, detail: str = "") -> ReconcileResult:
        return ReconcileResult(
            agreement=agreement,
            from_line=self._asked.start.line,
            to_line=min(self._position.line, self._asked.cursor.line),
            chain=self._chain_at_end(),
            line_count=self._line_count,
            same_up_to=self._same_up_to,
            differs_at=differs_at,
            detail=clipped(detail),
        )

    async def run(self) -> ReconcileResult:
        try:
            return await self._compare()
        except LogMoved as moved:
            # The chain at the start was shown with the request, so the difference may lie before what was replayed.
            if moved.reset.at_line <= self._asked.start.line:
                self._same_up_to = 0
            self._line_count = moved.reset.line_count
            result = self.result(Agreement.DIFFERENT, differs_at=moved.reset.at_line, detail=moved.reset.detail)
            # What is shown is the head of their log.
            head = moved.reset.line_count if moved.reset.line_count is not None else result.to_line
            start = min(result.from_line, head)
            return result.model_copy(update={"from_line": start, "to_line": head, "chain": moved.reset.chain})
        except Condition as condition:
            agreement = Agreement.DIFFERENT if condition.contact is Contact.WRONG_SPRITE else Agreement.CONDITION
            return self.result(agreement, detail=str(condition)).model_copy(update={"contact": condition.contact})
        except TransportFailure as failure:
            return self.result(Agreement.UNREACHABLE, detail=str(failure))

    async def _compare(self) -> ReconcileResult:
        until, first = self._asked.cursor, True
        await _patiently(self._source.snapshot, self._asked.failure_limit)
        while (first and until.line) or self._position.line < until.line:
            before = self._position
            page = await self._page(rehash=first)
            first = False
            differs_at = await asyncio.to_thread(self._take, page)
            if differs_at is not None:
                return self.result(Agreement.DIFFERENT, differs_at=differs_at, detail=f"line {differs_at} differs")
            if self._position.line == before.line:
                break
        return self._verdict()

    async def _page(self, *, rehash: bool) -> EventsPage:
        left = self._asked.cursor.line - self._position.line
        page = await _patiently(
            lambda: self._source.events(
                self._position, max_events=max(1, min(left, self._asked.page_events)), rehash=rehash
            ),
            self._asked.failure_limit,
        )
        self.log.answered(page.cursor.event_line_count)
        self._line_count = page.cursor.event_line_count
        return page

    def _take(self, page: EventsPage) -> int | None:
        """Fold a page; the first line at which a known chain is another, or None."""
        try:
            walked = walk(self._position, page)
        except EnvelopeInvalid as error:
            raise InvalidAnswer(str(error)) from None
        for step in walked.steps:
            if step.line > self._asked.cursor.line:
                break
            self._last = step
            known = self._known.get(step.line)
            if known is not None and step.chain is not None:
                if step.chain.hex() != known:
                    self._position = CursorPosition(line=step.line, chain=step.chain.hex())
                    return step.line
                self._same_up_to = step.line
        self._position = walked.end
        return None

    def _verdict(self) -> ReconcileResult:
        until = self._asked.cursor
        if until.line == 0:
            return self.result(Agreement.AGREED, detail="nothing was ingested yet")
        if self._position.line < until.line:
            detail = f"the log has {self._line_count} lines, {until.line} were ingested"
            return self.result(Agreement.DIFFERENT, differs_at=(self._line_count or 0) + 1, detail=detail)
        chain, h = self._chain_at_end(), self._last.h if self._at_end() and self._last else None
        if chain is not None and until.chain is not None:
            if chain == until.chain:
                self._same_up_to = until.line
                return self.result(Agreement.AGREED)
            return self.result(Agreement.DIFFERENT, differs_at=until.line, detail="other lines than were ingested")
        if h is not None and until.h is not None and h != until.h:
            return self.result(Agreement.DIFFERENT, differs_at=until.line, detail=f"line {until.line} is another")
        return self.result(Agreement.UNVERIFIABLE, detail="a line that is no event has no hash here")

    def _at_end(self) -> bool:
        return self._last is not None and self._last.line == self._asked.cursor.line

    def _chain_at_end(self) -> str | None:
        if self._at_end() and self._last is not None:
            return self._last.chain.hex() if self._last.chain is not None else None
        return self._position.chain


async def _chains(source: LoopSource, asked: ChainsInput) -> ChainsResult:
    try:
        shown = await _patiently(lambda: source.chains(CursorPosition(), asked.lines[:MAX_CHAINS]), 3)
        if shown.chains is not None:
            found = [ChainAt(line=one.line, chain=one.chain) for one in shown.chains]
            return ChainsResult(complete=True, chains=found, line_count=shown.cursor.event_line_count)
        return await _folded(source, asked)
    except (Condition, LogMoved, TransportFailure) as trouble:
        return ChainsResult(complete=False, detail=clipped(str(trouble)))


async def _folded(source: LoopSource, asked: ChainsInput) -> ChainsResult:
    """Of a service that shows no chain: its events, folded here."""
    wanted, position, count = sorted(asked.lines), asked.start, 0
    found: list[ChainAt] = []
    while wanted and position.line < wanted[-1]:
        at = position
        page = await _patiently(lambda: source.events(at, max_events=1_000), 3)  # noqa: B023 - awaited within the turn
        count = page.cursor.event_line_count
        try:
            walked = await asyncio.to_thread(walk, position, page)
        except EnvelopeInvalid as error:
            raise InvalidAnswer(str(error)) from None
        if walked.unverifiable_from is not None:
            return ChainsResult(complete=False, line_count=count, detail="a line that is no event has no hash here")
        for step in walked.steps:
            asked_for = bisect.bisect_left(wanted, step.line)
            if asked_for < len(wanted) and wanted[asked_for] == step.line and step.chain is not None:
                found.append(ChainAt(line=step.line, chain=step.chain.hex()))
        if walked.end.line == position.line:
            break
        position = walked.end
    return ChainsResult(complete=True, chains=found, line_count=count)


async def _patiently(call: Callable[[], Awaitable[_T]], limit: int) -> _T:
    """The answer of `call`, tried up to `limit` times where the transport fails; a local shortage is nobody's."""
    failures = 0
    while True:
        try:
            return await call()
        except LocalShortage:
            await asyncio.sleep(RETRY_PAUSE_S)
        except TransportFailure:
            failures += 1
            if failures >= limit:
                raise
            await asyncio.sleep(RETRY_PAUSE_S)
