"""What a seed stands for: a loop, the ways it is reached, the faults that strike it, and what else is killed."""

import random
from dataclasses import dataclass
from enum import StrEnum

from sprite.drill import Fault, Setting
from sprite.drill.schedule import seeded_setting
from tests.chaos.crew import Victim
from tests.recordings.unpack import SCENARIOS


class Play(StrEnum):
    """What the stand-in's loop does, and what an operator sends meanwhile."""

    APPROVE = "approve"
    """Asks for approval, is approved, and completes in the next run."""
    REJECT = "reject"
    """Asks for approval, is rejected, and asks again in the next run."""
    CANCEL = "cancel"
    """Works without end, and is cancelled."""
    ROBOT = "robot"
    """Works without end, until a program that wants it cancelled is heard: when automation is frozen no more."""


class Reach(StrEnum):
    """How the manager gets at a sprite."""

    BOTH = "service and local"
    SERVICE = "service"
    LOCAL = "local"


@dataclass(frozen=True)
class Blow:
    """After `calm_s`: this fault for `seconds`; with `kills_service` the service is killed, and started again then.

    `until_seen`: the seconds begin when the manager has seen what it means, and a program has sent its first messages.
    """

    calm_s: float
    setting: Setting
    seconds: float
    kills_service: bool = False
    until_seen: bool = False

    def __str__(self) -> str:
        what = "kill -9 of the service" if self.kills_service else str(self.setting.fault)
        seen = "seen and then " if self.until_seen else ""
        return f"{what} after {self.calm_s} s, {seen}for {self.seconds} s"


@dataclass(frozen=True)
class Plan:
    """A seed, drawn out. `alteration`: a content fault, which comes instead of blows and must end in a divergence."""

    seed: int
    play: Play | str
    reach: Reach
    blows: tuple[Blow, ...]
    alteration: Setting | None
    kills: tuple[tuple[Victim, float], ...]
    """What everybody depends on is killed so many seconds after the beginning."""

    def __str__(self) -> str:
        struck = [str(blow) for blow in self.blows] or [str(self.alteration.fault) if self.alteration else "no fault"]
        kills = [f"{victim} at {at_s} s" for victim, at_s in self.kills]
        return f"seed {self.seed}: {self.play} through {self.reach}; {'; '.join(struck + kills)}"


PLAYED_IN_S = 10.0
"""A recording is played so fast that it takes this long."""
_ALTERED_EVERY = 5
_ROBOTS_OF_TWENTY = (3, 5, 7, 13, 17)
"""Three among the first ten seeds, of which one has an altered log, and one no local transport."""
_BLOWS_LAST_S = 12.0
_HUMAN = [Play.APPROVE, Play.REJECT, Play.CANCEL]


def plan_of(seed: int) -> Plan:
    """The plan of a seed: every second one has an intent in flight, every fifth an altered log."""
    numbers = random.Random(f"storm/{seed}")
    altered = seed % _ALTERED_EVERY == 0
    robot = seed % 20 in _ROBOTS_OF_TWENTY
    play = numbers.choice(_HUMAN) if seed % 2 else numbers.choice(SCENARIOS)
    reach = Reach.BOTH if altered else numbers.choice([Reach.BOTH, Reach.BOTH, Reach.BOTH, Reach.SERVICE, Reach.LOCAL])
    if robot:
        play, reach = Play.ROBOT, Reach.SERVICE if seed % 20 == 7 else Reach.BOTH
    fault = numbers.choice([Fault.EDIT_LINE, Fault.DROP_LINE])
    first = [_darkness(numbers)] if robot else []
    return Plan(
        seed=seed,
        play=play,
        reach=reach,
        blows=() if altered or reach is Reach.LOCAL else (*first, *_blows(numbers)),
        alteration=Setting(fault, line=numbers.randint(1, 4)) if altered else None,
        kills=tuple(_kills(numbers)),
    )


def _darkness(numbers: random.Random) -> Blow:
    """A blow after which automation is frozen, whatever else comes."""
    what = numbers.choice([Fault.REFUSE, Fault.BLACK_HOLE, None])
    return Blow(0.0, Setting(what), round(numbers.uniform(0.0, 3.0), 1), kills_service=what is None, until_seen=True)


def _blows(numbers: random.Random) -> list[Blow]:
    blows: list[Blow] = []
    left_s = _BLOWS_LAST_S
    while left_s > 0:
        calm_s, seconds = round(numbers.uniform(0.2, 2.0), 1), round(numbers.uniform(0.5, 4.0), 1)
        killing = numbers.random() < 0.2
        blows.append(Blow(calm_s, Setting() if killing else seeded_setting(numbers), seconds, kills_service=killing))
        left_s -= calm_s + seconds
    return blows


def _kills(numbers: random.Random) -> list[tuple[Victim, float]]:
    return [
        (victim, round(numbers.uniform(1.0, 12.0), 1))
        for victim, part in ((Victim.WORKER, 0.15), (Victim.TEMPORAL, 0.3))
        if numbers.random() < part
    ]
