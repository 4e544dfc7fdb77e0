"""A loop's whole event log, read for an investigation through either transport."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from activities.failures import Condition, LocalShortage, LogMoved, TransportFailure
from activities.sources import LocalSource, LoopSource, ServiceSource
from activities.targets import check_identity
from cli.errors import AuthProblem, TransportProblem
from contract.envelopes import EventsPage
from contract.observation import Contact, CursorPosition, Target, Transport
from incidents.log import EventLog, LoggedLine
from sprite.errors import SpriteError
from sprite.reader import SpriteReader
from worker.service_client import sprite_service_client

PAGE_EVENTS = 2_000


async def read_log(target: Target, transport: Transport) -> EventLog:
    """The log from line 1 to its end; `trouble` says what stopped it before that.

    Raises TransportProblem when nothing could be read at all, AuthProblem when that was for a credential.
    """
    log = EventLog(transport=transport.value, read_at=datetime.now(UTC))
    try:
        async with _source(target, transport) as source:
            await _read_pages(source, log)
    except (Condition, LogMoved, TransportFailure, LocalShortage, SpriteError) as error:
        if not log.lines:
            message = f"the event log of {target.sprite}/{target.loop_id} cannot be read: {error}"
            refused = isinstance(error, Condition) and error.contact is Contact.UNAUTHORIZED
            raise (AuthProblem if refused else TransportProblem)(message) from None
        log.trouble = f"line {log.line_count + 1}: {error}"
    return log


@asynccontextmanager
async def _source(target: Target, transport: Transport) -> AsyncIterator[LoopSource]:
    trace_id = uuid.uuid4().hex
    if transport is Transport.SPRITE_SERVICE:
        async with sprite_service_client(max_loops=1) as client:
            yield ServiceSource(client, target, trace_id=trace_id)
        return
    if target.repo_path is None:
        raise TransportProblem(
            f"where the repo of {target.sprite} is on this machine is not known: name it with --repo"
        )
    reader = SpriteReader(Path(target.repo_path))

    def check() -> None:
        check_identity(target, reader.sprite_id, str(reader.repo))

    yield LocalSource(reader, target.loop_id, trace_id=trace_id, check=check)


async def _read_pages(source: LoopSource, log: EventLog) -> None:
    # Without chain or hash in the cursor: a log that was rewritten is read as it is now, and compared afterwards.
    while True:
        page = await source.events(CursorPosition(line=log.line_count), max_events=PAGE_EVENTS)
        log.lines += _lines(page)
        if page.cursor.event_line_offset <= log.line_count:
            return
        log.line_count = page.cursor.event_line_offset
        if log.line_count >= page.cursor.event_line_count:
            return


def _lines(page: EventsPage) -> list[LoggedLine]:
    events = [LoggedLine(line=event.cursor.event_line_offset, raw=event.event.raw) for event in page.events]
    bad = [LoggedLine(line=line.line, reason=line.reason, h=line.h) for line in page.quarantined]
    return sorted([*events, *bad], key=lambda line: line.line)
