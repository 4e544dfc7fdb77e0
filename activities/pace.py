"""How long to wait before the next reading, and whether by a long poll: pure, so that a table can test it."""

from __future__ import annotations

from dataclasses import dataclass

from activities.digest import is_awake
from activities.reading import Reading
from contract.observation import Contact, Freshness, ObserveInput

CONDITION_CLOSE_WATCH_S = 60.0
"""A condition is looked at closely for so long (a loop that is just starting, a token being mended), then calmly."""
_FRUITLESS_FIRST_S = 0.25
_MOST_DOUBLINGS = 20
SHORTEST_POLL_S = 1.0
"""`waitSeconds` is a whole number."""


@dataclass(frozen=True)
class Pause:
    """Wait so long; `long_poll`: on the other side, so that news ends the wait."""

    seconds: float
    long_poll: bool = False


def next_pause(asked: ObserveInput, reading: Reading, *, condition_age_s: float, waiting_keeps_awake: bool) -> Pause:
    """The pause after a reading without news.

    A prompt observer polls at its interval. A running loop is watched by a long poll (without an etag its service knows
    none: then by short reads), a resting one by one short read per idle interval, because a long poll would keep its
    machine from sleeping; where waiting costs nothing, every loop is watched. The wait ends when the heartbeat would
    become stale, so that staleness is noticed in time.
    """
    if asked.interval_s is not None:
        return Pause(asked.interval_s)
    snapshot = reading.snapshot
    if reading.contact is not Contact.OK or snapshot is None:
        close = condition_age_s < CONDITION_CLOSE_WATCH_S or not waiting_keeps_awake
        return Pause(asked.running_poll_interval_s if close else asked.idle_poll_interval_s)
    if waiting_keeps_awake and not is_awake(snapshot, asked.target.loop_id):
        return Pause(asked.idle_poll_interval_s)
    if reading.etag is None:
        return Pause(asked.running_poll_interval_s)
    wait_s = asked.long_poll_wait_s
    if snapshot.freshness is Freshness.FRESH and snapshot.heartbeat_age_s is not None and snapshot.status == "running":
        wait_s = min(wait_s, asked.stale_after_s - snapshot.heartbeat_age_s + SHORTEST_POLL_S)
    return Pause(max(SHORTEST_POLL_S, wait_s), long_poll=True)


def fruitless_pause_s(asked: ObserveInput, fruitless: int, *, etag_moved: bool) -> float:
    """How long to rest after a long poll that ended early and brought no news, `fruitless` times in a row.

    A service that ignores `waitSeconds` answers at once and shows no other snapshot: it is polled at the running
    interval. One that woke for a change without interest (a heartbeat, say) is asked again soon, but never in a rush.
    """
    if not etag_moved:
        return asked.running_poll_interval_s
    # Bounded before the power: a day of heartbeats would exceed what a float can hold.
    return min(asked.running_poll_interval_s, _FRUITLESS_FIRST_S * 2.0 ** min(fruitless, _MOST_DOUBLINGS))
