"""Faults in a row, drawn from a seed: the same seed draws the same ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from sprite.drill.faults import Fault, Setting

PASSING_FAULTS = tuple(fault for fault in Fault if not fault.alters_content)
"""Those after which a supervisor must believe what it would have believed without them."""


@dataclass(frozen=True)
class Step:
    """A setting, and for how long it stands."""

    setting: Setting
    seconds: float


def seeded_setting(numbers: random.Random) -> Setting:
    """A fault that alters nothing, with numbers of its own."""
    return Setting(
        numbers.choice(PASSING_FAULTS),
        delay_s=round(numbers.uniform(0.2, 3.0), 2),
        drip_s=round(numbers.uniform(0.02, 0.3), 2),
        skew_s=numbers.choice([-86_400.0, -600.0, 600.0, 86_400.0]),
    )


def seeded_steps(seed: int, *, fault_s: float = 8.0, calm_s: float = 15.0) -> Iterator[Step]:
    """Without end: a fault for up to `fault_s` seconds, then nothing for up to `calm_s`."""
    numbers = random.Random(f"chaos-proxy/{seed}")  # noqa: S311 - to be repeatable; it guards nothing
    while True:
        yield Step(seeded_setting(numbers), round(numbers.uniform(fault_s / 4, fault_s), 1))
        yield Step(Setting(), round(numbers.uniform(calm_s / 4, calm_s), 1))
