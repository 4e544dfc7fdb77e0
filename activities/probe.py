"""`probe`: find out when the sprite service answers again, in one long activity.

A success is a snapshot and an events page at the cursor, both valid and of the right sprite. So is a service that says
what is the matter instead: that the log has moved on, that the loop has no events yet, that the token is wrong. It is
alive, and the observer tells such things better than a transport that goes round it. That another sprite answers, as
often, ends the probe too: somebody has to know. The interval between tries grows with jitter, so that a service that is
away for long is left in peace, and shrinks back as soon as it answers.
"""

from __future__ import annotations

import asyncio
import random

from activities.client import SpriteServiceClient
from activities.failures import Condition, LogMoved, NoCredential, PeerTrouble, clipped
from activities.heartbeats import ContactLog, heartbeating, unless_shutdown
from activities.sources import ServiceSource
from contract.observation import Contact, ObserveHeartbeat, ProbeInput, ProbeResult

_GROWTH = 1.5
_JITTER = 0.2


async def probe(client: SpriteServiceClient, asked: ProbeInput, *, trace_id: str) -> ProbeResult:
    """Try until `asked.successes` tries in a row succeeded, `probe_max_s` has passed or the worker shuts down."""
    source = ServiceSource(client, asked.target, trace_id=trace_id)
    prober = _Prober(asked, source)
    async with heartbeating(prober.log.beat):
        done = await unless_shutdown(prober.until_recovered())
    return done or prober.result(recovered=False, detail="the worker is shutting down")


class _Prober:
    def __init__(self, asked: ProbeInput, source: ServiceSource) -> None:
        self.log = ContactLog(ObserveHeartbeat())
        self._asked = asked
        self._source = source
        self._attempts = 0
        self._last = ""
        self._others = 0

    def result(self, *, recovered: bool, detail: str, other_sprite: bool = False) -> ProbeResult:
        return ProbeResult(recovered=recovered, attempts=self._attempts, detail=detail, other_sprite=other_sprite)

    async def until_recovered(self) -> ProbeResult:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._asked.probe_max_s
        interval_s, successes = self._asked.interval_s, 0
        while True:
            if await self._succeeds():
                successes, interval_s = successes + 1, self._asked.interval_s
            else:
                successes, interval_s = 0, min(interval_s * _GROWTH, self._asked.max_interval_s)
            if successes >= self._asked.successes:
                return self.result(recovered=True, detail=f"{successes} tries in a row succeeded")
            if self._others >= self._asked.successes:
                return self.result(recovered=False, detail=self._last, other_sprite=True)
            pause_s = interval_s * (1.0 - _JITTER * random.random())  # noqa: S311 - spreads probes, guards nothing
            if clock() + pause_s > deadline:
                return self.result(recovered=False, detail=self._last)
            await asyncio.sleep(pause_s)

    async def _succeeds(self) -> bool:
        self._attempts += 1
        try:
            await self._source.snapshot()
            await self._source.events(self._asked.cursor, max_events=1)
            self._others = 0
        except PeerTrouble as trouble:
            foreign = isinstance(trouble, Condition) and trouble.contact is Contact.WRONG_SPRITE
            self._others = self._others + 1 if foreign else 0
            if not is_alive(trouble):
                self._last = clipped(str(trouble))
                self.log.missed(self._last)
                return False
        self.log.answered()
        return True


def is_alive(trouble: PeerTrouble) -> bool:
    """Whether the sprite that is meant has answered, though not with what it was asked for."""
    if isinstance(trouble, Condition):
        return trouble.contact is not Contact.WRONG_SPRITE and not isinstance(trouble, NoCredential)
    return isinstance(trouble, LogMoved)
