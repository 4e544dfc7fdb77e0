"""How many events to ask a slow service for at a time.

The reference service needs 225 ms an event and half a second for a snapshot (recorded), and a busy VM takes longer:
asked for all that there is, it would never answer in time. So a page begins small and grows while it is quick.
"""

from __future__ import annotations

FIRST_EVENTS = 4
"""Under a second at the recorded pace, and within the time limit of a read at five times that."""
PAGE_TARGET_S = 2.0
_GROWTH = 4.0
_SHRINK = 8
"""A page that is too much, in size or in time, is asked for again with so many times fewer events."""


class PageSize:
    """The number of events to ask for next."""

    def __init__(self, events: int) -> None:
        self.events = events

    def took(self, asked: int, seconds: float, *, full: bool) -> None:
        """A page of at most `asked` events took so long. One that was not `full` says nothing about larger ones."""
        factor = min(_GROWTH, PAGE_TARGET_S / max(seconds, 0.001))
        if full or factor < 1.0:
            self.events = max(1, int(asked * factor))

    def was_too_much(self, asked: int) -> None:
        """A page of `asked` events could not be taken at all."""
        self.events = max(1, asked // _SHRINK)
