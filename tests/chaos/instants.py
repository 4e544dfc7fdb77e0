"""When a process is killed: instants drawn from a seed, each defined by what can be observed, none by a clock."""

import os
import random
import secrets
from dataclasses import dataclass

from contract.intents import Intent
from tests.chaos.crew import Victim
from tests.chaos.gate import Moment

SEED_VARIABLE = "CHAOS_SEED"
SEED = int(os.environ.get(SEED_VARIABLE) or secrets.randbelow(1_000_000))
"""One seed a session; every failure names it."""


@dataclass(frozen=True)
class AtLine:
    """When the running loop has written so many lines more."""

    lines: int


@dataclass(frozen=True)
class WhileLeaving:
    """During a continue-as-new, so long after the task in which the supervisor leaves was scheduled."""

    delay_s: float


@dataclass(frozen=True)
class InCommand:
    """During `execute_control` of an intent, while the runtime's command is held before or after its effect.

    `back_first`: the command goes on when what was killed is back; else it goes on at once. `leaving`: not before
    the history has reached its bound, so that a continue-as-new waits for the command.
    """

    intent: Intent
    moment: Moment
    back_first: bool = True
    leaving: bool = False


@dataclass(frozen=True)
class Kill:
    """What is killed when."""

    victim: Victim
    instant: AtLine | WhileLeaving | InCommand

    def __str__(self) -> str:
        return f"{self.victim} {self.instant}"


def random_for(name: str) -> random.Random:
    """The random numbers of one life: the same for a seed, whatever else runs."""
    return random.Random(f"{SEED}/{name}")


def at_line(victim: Victim, numbers: random.Random) -> Kill:
    """After a part of an iteration, or after nearly two."""
    return Kill(victim, AtLine(numbers.randint(1, 45)))


def while_leaving(victim: Victim, numbers: random.Random) -> Kill:
    """Anywhere from the last task of one run of the supervisor to the first of the next."""
    return Kill(victim, WhileLeaving(numbers.choice([0.0, 0.01, 0.03, 0.08])))


def in_approval(victim: Victim, numbers: random.Random) -> Kill:
    """Before or after the effect of an approval."""
    moment = numbers.choice(list(Moment))
    return Kill(victim, InCommand(Intent.APPROVE_PENDING, moment, back_first=numbers.random() < 0.5))


def in_cancel(victim: Victim, numbers: random.Random) -> Kill:
    """Before the effect of a cancel, for which a continue-as-new waits."""
    back_first = numbers.random() < 0.5
    return Kill(victim, InCommand(Intent.CANCEL_LOOP, Moment.BEFORE_EFFECT, back_first, leaving=True))
