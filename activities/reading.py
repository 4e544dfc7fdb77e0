"""One reading of a loop: its snapshot, then its events up to what the snapshot counted.

In that order, so that process evidence is always older than the events read with it: a process seen gone has nothing
left to write that was not read.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from activities.chainwalk import Batch
from activities.client import SeenSnapshot
from activities.digest import decision_digest, snapshot_digest
from activities.failures import Condition, InvalidAnswer, LogMoved, TransportFailure
from activities.sources import LoopSource
from contract.envelopes import EventsPage
from contract.errors import EnvelopeInvalid
from contract.observation import Contact, CursorPosition, LogImage, LogReset, SnapshotDigest

READING_LIMIT_S = 10.0
"""No further page is asked for after this: the long log of a slow service is told in parts, not after minutes."""
_HASH_IN_THREAD_EVENTS = 100
_SHA_CHARS = 16


@dataclass(frozen=True)
class Reading:
    """What one look at a loop gave. `batch` holds the lines after the cursor it began at.

    `at_head`: every line that the snapshot counted has been taken. `etag` names the snapshot towards its service.
    """

    contact: Contact
    digest: str
    batch: Batch
    detail: str = ""
    at_head: bool = False
    snapshot: SnapshotDigest | None = None
    etag: str | None = None
    image: LogImage | None = None
    reset: LogReset | None = None
    sprite_id: str | None = None
    repo_path: str | None = None

    @property
    def moved(self) -> bool:
        """Whether lines were taken."""
        return self.batch.cursor.line != self.batch.start_line


@dataclass(frozen=True)
class Bounds:
    """What one observation may carry, and when a running loop's heartbeat is stale."""

    max_events: int
    max_bytes: int
    stale_after_s: float


async def read_loop(
    source: LoopSource,
    cursor: CursorPosition,
    bounds: Bounds,
    *,
    page: EventsPage | None = None,
    rehash: bool = False,
) -> Reading:
    """Read a loop once. `page` is one that a wait has just brought; it saves asking for it again.

    `rehash`: the other side is to hash its whole log again before, as far as it can be asked for that.

    Raises TransportFailure and LocalShortage; everything that a living sprite says is in the result.
    """
    until = asyncio.get_running_loop().time() + READING_LIMIT_S
    batch = Batch(cursor, bounds.max_events, bounds.max_bytes)
    await _take(batch, page)
    try:
        seen = await source.snapshot()
    except Condition as condition:
        return _condition(condition, cursor)
    count = seen.envelope.cursor.event_line_count
    behind = count < batch.cursor.line
    try:
        # A snapshot that counts fewer lines than were read may only lag behind; the log itself says if it shrank.
        await _read_events(source, batch, count, until, begun=page is not None and not behind, rehash=rehash)
    except LogMoved as moved:
        # Asked for from one line before, it is the cursor's own line that is meant.
        reset = moved.reset.model_copy(update={"at_line": batch.cursor.line})
        return _reading(seen, batch, bounds, reset=reset)
    except (Condition, TransportFailure) as trouble:
        # What was taken before is true, and the trouble will still be there at the next reading.
        if not batch.events and not batch.quarantined:
            if isinstance(trouble, Condition):
                return _condition(trouble, cursor)
            raise
    return _reading(seen, batch, bounds)


async def _read_events(
    source: LoopSource, batch: Batch, count: int, until: float, *, begun: bool, rehash: bool
) -> None:
    clock = asyncio.get_running_loop().time
    # At least one page, even at the head: it is what finds a log that was rewritten in place (D8).
    while not begun or (not batch.full and batch.cursor.line < count and clock() < until):
        begun = True
        line = batch.cursor.line
        await _take(batch, await source.events(batch.cursor, max_events=batch.room, rehash=rehash))
        rehash = False
        if batch.cursor.line == line:
            return


async def _take(batch: Batch, page: EventsPage | None) -> None:
    if page is None:
        return
    try:
        # Hashing a full page takes a while, in which every other observer on this worker would wait.
        if len(page.events) > _HASH_IN_THREAD_EVENTS:
            await asyncio.to_thread(batch.add, page)
        else:
            batch.add(page)
    except EnvelopeInvalid as error:
        raise InvalidAnswer(str(error)) from None


def _reading(seen: SeenSnapshot, batch: Batch, bounds: Bounds, *, reset: LogReset | None = None) -> Reading:
    envelope = seen.envelope
    snapshot = snapshot_digest(envelope, stale_after_s=bounds.stale_after_s)
    return Reading(
        contact=Contact.OK,
        digest=decision_digest(Contact.OK, snapshot),
        batch=batch,
        at_head=reset is None and batch.cursor.line >= snapshot.event_count,
        snapshot=snapshot,
        etag=seen.etag,
        image=_image(seen),
        reset=reset,
        sprite_id=envelope.sprite_id,
        repo_path=envelope.source.repo_path,
    )


def _condition(condition: Condition, cursor: CursorPosition) -> Reading:
    return Reading(
        contact=condition.contact,
        digest=decision_digest(condition.contact, None),
        batch=Batch(cursor, 0, 0),
        detail=str(condition),
        sprite_id=condition.sprite_id,
    )


def _image(seen: SeenSnapshot) -> LogImage | None:
    log = seen.envelope.artifacts.get("events")
    if log is None or not log.sha256 or log.size_bytes is None or log.line_count is None:
        return None
    return LogImage(line_count=log.line_count, size_bytes=log.size_bytes, sha256=log.sha256[:_SHA_CHARS])
