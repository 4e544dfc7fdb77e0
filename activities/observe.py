"""`observe`: watch one loop until there is news, however long that takes.

One activity per loop is outstanding at any time. It returns when there are new lines, when the decision digest has
changed, when the log was replaced, or after `observe_max_s`; so an idle loop costs no history. Transport failures are
counted across attempts in the heartbeat details and end the transport at the limit.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from activities.failures import Condition, LocalShortage, LogMoved, TransportFailure
from activities.heartbeats import ContactLog, heartbeating, now, unless_shutdown
from activities.pace import SHORTEST_POLL_S, Pause, fruitless_pause_s, next_pause
from activities.reading import Bounds, Reading, read_loop
from activities.sources import LoopSource
from activities.stillness import Stillness
from contract.envelopes import EventsPage
from contract.observation import Contact, Observation, ObserveInput

_log = logging.getLogger(__name__)

SETTLE_DELAYS_S = (0.3, 0.7)
"""The runtime truncates its files before it writes them, and a service of the base contract answers 502 while it
does (D16): such an answer counts only if it persists this long."""
_UNSETTLED = (Contact.RUNTIME_ERROR, Contact.NOT_READY)
_SHORTAGE_PAUSE_S = 1.0
_EARLY = 0.8
"""A long poll that took less than this part of its time ended early."""
_JITTER = 0.1
"""The polls of many loops spread over the last tenth of their interval."""


async def observe(asked: ObserveInput, source: LoopSource, *, trace_id: str) -> Observation:
    """Watch the loop behind `source` until there is news.

    Raises ApplicationError of type TransportFailure (retried by Temporal) or TransportExhausted (not retried). At the
    worker's shutdown it returns what it last saw, or an observation without snapshot when it had seen nothing yet.
    """
    log = ContactLog.resume()
    observer = _Observer(asked, source, log, trace_id=trace_id)
    async with heartbeating(log.beat):
        try:
            news = await unless_shutdown(observer.until_news())
        except TransportFailure as failure:
            log.failed(failure)
            _log.warning("observe %s/%s: %s", asked.target.sprite, asked.target.loop_id, failure)
            raise log.error(failure, limit=asked.transport_failure_limit) from None
    return news or observer.so_far()


class _Observer:
    def __init__(self, asked: ObserveInput, source: LoopSource, log: ContactLog, *, trace_id: str) -> None:
        self._asked = asked
        self._source = source
        self._log = log
        self._trace_id = trace_id
        self._bounds = Bounds(asked.max_events, asked.max_bytes, asked.stale_after_s)
        self._clock: Callable[[], float] = asyncio.get_running_loop().time
        self._deadline = self._clock() + asked.observe_max_s
        self._last: Observation | None = None
        self._page: EventsPage | None = None
        self._fruitless = 0
        self._waited_for: str | None = None
        self._condition_since: float | None = None
        self._scrub_at = None if asked.scrub_after_s is None else self._clock() + asked.scrub_after_s
        self._scrubbed = False
        self._image = Stillness(asked.image)

    async def until_news(self) -> Observation:
        if self._asked.first_read_delay_s > 0 and not self._log.failing:
            await asyncio.sleep(self._asked.first_read_delay_s)
        first = True
        while True:
            reading = await self._read()
            self._last = self._observation(reading)
            if self._is_news(reading) or (first and self._asked.return_first) or self._clock() >= self._deadline:
                return self._last
            first = False
            await self._pause(reading)

    def so_far(self) -> Observation:
        """The last reading, which was no news; without one, an observation that says nothing."""
        if self._last is not None:
            return self._last
        return Observation(
            observer=self._asked.observer,
            transport=self._source.transport,
            contact=Contact.OK,
            contact_at=self._log.details.last_contact_at or now(),
            digest="",
            detail="the worker is shutting down; nothing was read",
            cursor=self._asked.cursor,
            trace_id=self._trace_id,
        )

    def _is_news(self, reading: Reading) -> bool:
        return reading.moved or reading.reset is not None or reading.digest != self._asked.known

    async def _read(self) -> Reading:
        reading = await self._read_once()
        for delay_s in SETTLE_DELAYS_S:
            if reading.contact not in _UNSETTLED or reading.digest == self._asked.known:
                break
            await asyncio.sleep(delay_s)
            reading = await self._read_once()
        if reading.contact is Contact.OK:
            self._condition_since = None
        elif self._condition_since is None:
            self._condition_since = self._clock()
        return reading

    async def _read_once(self) -> Reading:
        page, self._page = self._page, None
        scrub = self._scrub_at is not None and self._clock() >= self._scrub_at
        while True:
            try:
                reading = await read_loop(
                    self._source,
                    self._asked.cursor,
                    self._bounds,
                    # A page that a wait has brought was made before the log was hashed again.
                    page=None if scrub else page,
                    rehash=scrub,
                )
            except LocalShortage:
                await asyncio.sleep(_SHORTAGE_PAUSE_S)
                continue
            if scrub and reading.contact is Contact.OK:
                self._scrubbed, self._scrub_at = True, self._clock() + self._asked.scrub_interval_s
            reading = self._image.judge(reading, self._asked.cursor.line)
            self._log.answered(reading.snapshot.event_count if reading.snapshot else None)
            return reading

    async def _pause(self, reading: Reading) -> None:
        pause = next_pause(
            self._asked,
            reading,
            condition_age_s=self._clock() - self._condition_since if self._condition_since is not None else 0.0,
            waiting_keeps_awake=self._source.waiting_keeps_awake,
        )
        if pause.long_poll:
            await self._long_poll(reading, pause)
        else:
            await asyncio.sleep(min(pause.seconds * (1.0 - _JITTER * random.random()), self._left_s()))  # noqa: S311

    async def _long_poll(self, reading: Reading, pause: Pause) -> None:
        if self._fruitless:
            moved = reading.etag is not None and reading.etag != self._waited_for
            rest_s = fruitless_pause_s(self._asked, self._fruitless, etag_moved=moved)
            await asyncio.sleep(min(rest_s, self._left_s()))
        self._waited_for = reading.etag
        began, timeout_s = self._clock(), min(pause.seconds, self._left_s())
        if timeout_s < SHORTEST_POLL_S:
            await asyncio.sleep(timeout_s)
            return
        try:
            self._page = await self._source.wait(
                self._asked.cursor, etag=reading.etag, timeout_s=timeout_s, max_events=self._asked.max_events
            )
        except (Condition, LogMoved, TransportFailure, LocalShortage):
            # The reading that follows is short and shows what is the matter. A long poll that something between us
            # cut off is no failure of a service that answers short requests.
            self._page = None
        early = self._clock() - began < timeout_s * _EARLY
        self._fruitless = self._fruitless + 1 if early else 0

    def _left_s(self) -> float:
        return max(0.0, self._deadline - self._clock())

    def _observation(self, reading: Reading) -> Observation:
        batch = reading.batch
        return Observation(
            observer=self._asked.observer,
            transport=self._source.transport,
            contact=reading.contact,
            contact_at=self._log.details.last_contact_at or now(),
            digest=reading.digest,
            detail=reading.detail,
            cursor=batch.cursor,
            events=batch.events,
            quarantined=batch.quarantined,
            at_head=reading.at_head,
            snapshot=reading.snapshot,
            reset=reading.reset,
            unverifiable_from=batch.unverifiable_from,
            sprite_id=reading.sprite_id,
            repo_path=reading.repo_path,
            trace_id=self._trace_id,
            image=self._image.trusted,
            scrubbed=self._scrubbed,
        )
