"""The steps of a control request, named so that a crash can be placed between any two of them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """What has just been reached, in this order; whoever is told may end the process there."""

    ARRIVED = "arrived"
    CLAIMED = "claimed"
    IN_TURN = "in_turn"
    """The repo's lock is held and what crashed before has been settled."""
    BEGUN = "begun"
    """It is durable that the command is about to be started."""
    AUDITED = "audited"
    """The last step before the command is started."""
    ENDED = "ended"
    """The command has ended; its result is in memory only."""
    RECORDED = "recorded"
    """Its result is durable."""
    ANSWERED = "answered"
    """The answer is about to be given."""


AtStep = Callable[[Step], None]


def go_on(step: Step) -> None:
    """Do nothing: what a step does outside of tests."""
