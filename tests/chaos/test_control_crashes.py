"""kill -9 of the service at every named point of a control request: no effect twice, none acknowledged that is missing.

Real processes: `ops-manager up` with its Temporal server and the local transport, `ops-manager sprite serve`, and the
stand-in for `superloop.sh`, which is held between two of its effects (D12).
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from contract.intents import Intent
from tests.chaos.ordeal import endure
from tests.chaos.points import APPROVE, CANCEL, POINTS, REJECT, Point

DECISIONS_A_POINT = 10
CANCELS_A_POINT = 3
AT_ONCE = 4


async def side_by_side(folder: Path, lives: Iterable[list[tuple[Point, Intent]]]) -> Counter[str]:
    """Some loops at once, because they wait more than they compute; how often each point was hit."""
    places = asyncio.Semaphore(AT_ONCE)

    async def live(number: int, strikes: list[tuple[Point, Intent]]) -> Counter[str]:
        async with places:
            return await endure(folder / f"life-{number}", strikes)

    struck = await asyncio.gather(*(live(number, strikes) for number, strikes in enumerate(lives)))
    return sum(struck, Counter())


@pytest.mark.timeout(240)
async def test_d12_service_killed_at_each_point_does_nothing_twice_and_tells_no_lie(tmp_path: Path) -> None:
    struck = list(zip(POINTS, itertools.cycle([APPROVE, REJECT, CANCEL]), strict=False))
    decisions = [(point, intent) for point, intent in struck if intent is not CANCEL]
    cancels = [(point, intent) for point, intent in struck if intent is CANCEL]
    hits = await side_by_side(tmp_path, [decisions[::2], decisions[1::2], cancels])

    print("\n".join(f"{hits[point.name]:3} {point}" for point in POINTS))
    assert all(hits[point.name] >= 1 for point in POINTS)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_d12_service_killed_ten_times_at_each_point_does_nothing_twice_and_tells_no_lie(tmp_path: Path) -> None:
    # Short lives: a supervisor whose history is full gives up what it has sent and nobody knows of.
    decisions = [[(point, intent) for intent in (APPROVE, REJECT) for point in POINTS]] * (DECISIONS_A_POINT // 2)
    cancels = [[(point, CANCEL) for point in POINTS]] * CANCELS_A_POINT
    hits = await side_by_side(tmp_path, [*cancels, *decisions])

    print("\n".join(f"{hits[point.name]:3} {point}" for point in POINTS))
    assert all(hits[point.name] >= DECISIONS_A_POINT for point in POINTS)
