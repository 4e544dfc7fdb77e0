"""Where an observation comes from: the sprite's service over HTTP, or the sprite's own files in-process.

Both give the same three things, so that one observer serves both transports.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from activities.anchor import one_line_before, without_anchor
from activities.client import SeenSnapshot, SpriteServiceClient
from activities.failures import AnswerTooLarge, NoAnswer, Refusal, trouble_of
from activities.paging import FIRST_EVENTS, PageSize
from activities.targets import check_identity
from contract.envelopes import EventsPage, SnapshotEnvelope
from contract.errors import HTTP_STATUS, ContractError, ErrorCode
from contract.observation import CursorPosition, Target, Transport
from sprite.errors import SpriteError
from sprite.reader import SpriteReader

_SILENCE_LIMIT_S = 8.0
"""A service that was silent for so long over a page is not asked for a smaller one: the local transport waits."""


class LoopSource(Protocol):
    """One loop as one transport shows it. Every method raises the classes of `activities.failures`.

    `transport` names it; `waiting_keeps_awake` says that a long poll keeps the sprite's machine from sleeping.
    """

    @property
    def transport(self) -> Transport: ...  # noqa: D102 - a field

    @property
    def waiting_keeps_awake(self) -> bool: ...  # noqa: D102 - a field

    async def snapshot(self) -> SeenSnapshot:
        """The loop as it is now."""
        ...

    async def events(self, cursor: CursorPosition, *, max_events: int, rehash: bool = False) -> EventsPage:
        """The page after `cursor`, at once, holding at most `max_events` events.

        `rehash`: the whole log is to be hashed again before, where the transport can be asked for that.
        """
        ...

    async def chains(self, cursor: CursorPosition, lines: Sequence[int]) -> EventsPage:
        """A small page after `cursor`, with the chains at `lines` where the transport can be asked for them."""
        ...

    async def wait(
        self, cursor: CursorPosition, *, etag: str | None, timeout_s: float, max_events: int
    ) -> EventsPage | None:
        """Return when there are events after `cursor` or the snapshot is no longer `etag`'s, at most after `timeout_s`.

        With the page if the transport has read one on the way. May return early without anything.
        """
        ...


class ServiceSource:
    """A loop through its sprite's HTTP service.

    A service of the base contract shows neither an ETag nor a chain. It gets no long poll, which it would answer at
    once with a page that nobody takes, and pages that it can make in time; its log is held to the line at the cursor.
    """

    transport = Transport.SPRITE_SERVICE
    waiting_keeps_awake = True

    def __init__(self, client: SpriteServiceClient, target: Target, *, trace_id: str) -> None:
        self._client = client
        self._target = target
        self._trace_id = trace_id
        self._clock = asyncio.get_running_loop().time
        self._shows_chain: bool | None = None
        self._size: PageSize | None = None

    async def snapshot(self) -> SeenSnapshot:
        """`GET /ops/snapshot`."""
        seen = await self._client.snapshot(self._target, trace_id=self._trace_id)
        check_identity(self._target, seen.envelope.sprite_id, seen.envelope.source.repo_path)
        if self._shows_chain is None:
            self._shows_chain = seen.etag is not None  # until a page tells
        return seen if self._shows_chain else SeenSnapshot(seen.envelope)

    async def events(self, cursor: CursorPosition, *, max_events: int, rehash: bool = False) -> EventsPage:
        """`GET /ops/events`, with as many events as the service can give at a time."""
        anchored = self._is_anchored(cursor)
        page = await self._sized_page(cursor, max_events, anchored=anchored, rehash=rehash)
        if self._is_anchored(cursor) != anchored:
            # The page showed that the service is not what it was taken for, so the log was not held to anything yet.
            page = await self._sized_page(cursor, max_events, anchored=not anchored, rehash=rehash)
        return page

    async def chains(self, cursor: CursorPosition, lines: Sequence[int]) -> EventsPage:
        """`GET /ops/events` with `chainAt`."""
        return await self._page(cursor, max_events=1, chain_at=lines)

    async def wait(
        self, cursor: CursorPosition, *, etag: str | None, timeout_s: float, max_events: int
    ) -> EventsPage | None:
        """`GET /ops/events` with `waitSeconds`."""
        if not self._shows_chain:
            return None
        try:
            page = await self._page(cursor, max_events=max_events, wait_s=timeout_s, etag=etag)
        except AnswerTooLarge:
            return None
        return None if page.cursor.chain is None or self._is_anchored(cursor) else page

    def _is_anchored(self, cursor: CursorPosition) -> bool:
        """Whether the log is held to the line at `cursor`, because there is no chain that would do it."""
        return cursor.h is not None and (cursor.chain is None or not self._shows_chain)

    async def _sized_page(
        self, cursor: CursorPosition, max_events: int, *, anchored: bool, rehash: bool = False
    ) -> EventsPage:
        size = self._size = self._size or PageSize(max_events if self._shows_chain else FIRST_EVENTS)
        start, extra = (one_line_before(cursor), 1) if anchored else (cursor, 0)
        began = self._clock()
        while True:
            asked = min(max_events, size.events)
            page_began = self._clock()
            try:
                page = await self._page(start, max_events=asked + extra, rehash=rehash)
            except (AnswerTooLarge, NoAnswer) as failure:
                if asked <= 1 or not self._may_be_too_slow(failure, self._clock() - began):
                    raise
                size.was_too_much(asked)
                continue
            full = page.cursor.event_line_offset >= start.line + asked + extra
            size.took(asked, self._clock() - page_began, full=full)
            return without_anchor(page, cursor) if anchored else page

    def _may_be_too_slow(self, failure: AnswerTooLarge | NoAnswer, waited_s: float) -> bool:
        """Whether a smaller page may succeed where this one failed."""
        if isinstance(failure, AnswerTooLarge):
            return True
        return not self._shows_chain and not failure.blip and waited_s < _SILENCE_LIMIT_S

    async def _page(
        self,
        cursor: CursorPosition,
        *,
        max_events: int,
        wait_s: float = 0.0,
        etag: str | None = None,
        rehash: bool = False,
        chain_at: Sequence[int] = (),
    ) -> EventsPage:
        page = await self._client.events(
            self._target,
            cursor,
            max_events=max_events,
            wait_s=wait_s,
            snapshot_etag=etag,
            rehash=rehash,
            chain_at=chain_at,
            trace_id=self._trace_id,
        )
        check_identity(self._target, page.sprite_id, page.source.repo_path)
        self._shows_chain = page.cursor.chain is not None
        return page


class LocalSource:
    """A loop through the sprite's own files, on the machine that has them. It has no transport that could fail."""

    transport = Transport.LOCAL
    waiting_keeps_awake = False

    def __init__(
        self, reader: SpriteReader, loop_id: str, *, trace_id: str, check: Callable[[], None] = lambda: None
    ) -> None:
        """`check` raises the WRONG_SPRITE condition when this is not the sprite that was asked for."""
        self._reader = reader
        self._loop_id = loop_id
        self._trace_id = trace_id
        self._check = check

    async def snapshot(self) -> SeenSnapshot:
        """The snapshot, read in a thread."""
        self._check()
        try:
            body = await asyncio.to_thread(self._reader.snapshot, self._loop_id, trace_id=self._trace_id)
            return SeenSnapshot(SnapshotEnvelope.read(body, loop_id=self._loop_id), self._reader.etag_of(body))
        except (SpriteError, ContractError, OSError) as error:
            raise local_trouble(error) from None

    async def events(self, cursor: CursorPosition, *, max_events: int, rehash: bool = False) -> EventsPage:
        """The page, read in a thread."""
        self._check()
        if cursor.chain is None and cursor.h is not None:
            page = await self._page(one_line_before(cursor), max_events + 1, rehash=rehash)
            return without_anchor(page, cursor)
        return await self._page(cursor, max_events, rehash=rehash)

    async def chains(self, cursor: CursorPosition, lines: Sequence[int]) -> EventsPage:
        """A page with the chains, read in a thread."""
        self._check()
        return await self._page(cursor, 1, chain_at=lines)

    async def _page(
        self, cursor: CursorPosition, max_events: int, *, rehash: bool = False, chain_at: Sequence[int] = ()
    ) -> EventsPage:
        try:
            body = await asyncio.to_thread(
                self._reader.events_page,
                self._loop_id,
                cursor=cursor.line,
                max_events=max_events,
                chain=cursor.chain if cursor.line else None,
                rehash=rehash,
                chain_at=chain_at,
                trace_id=self._trace_id,
            )
            return EventsPage.read(body, loop_id=self._loop_id, after_line=cursor.line)
        except (SpriteError, ContractError, OSError) as error:
            raise local_trouble(error, cursor_line=cursor.line) from None

    async def wait(
        self, cursor: CursorPosition, *, etag: str | None, timeout_s: float, max_events: int
    ) -> EventsPage | None:
        """Watch the files; the page is read afterwards."""
        try:
            await self._reader.wait_for_news(self._loop_id, cursor=cursor.line, snapshot_etag=etag, timeout_s=timeout_s)
        except (SpriteError, ContractError, OSError) as error:
            raise local_trouble(error, cursor_line=cursor.line) from None
        return None


def local_trouble(error: Exception, *, cursor_line: int | None = None) -> Exception:
    """What an error of the sprite's own code means, in the same words as if its service had answered it."""
    if isinstance(error, SpriteError):
        refusal = Refusal(HTTP_STATUS.get(error.code, 502), error.code.value, error.message, dict(error.fields))
    else:
        refusal = Refusal(502, ErrorCode.RUNTIME_ERROR.value, f"{type(error).__name__}: {error}")
    return trouble_of(refusal, cursor_line=cursor_line)
