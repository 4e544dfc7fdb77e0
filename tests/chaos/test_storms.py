"""Seeded storms: faults on the way to the service, kills of service, worker and server, an intent in flight or none.

What comes of a loop is what comes of it without them; a log that was altered on the way ends in a divergence. All the
while a program demands that the loop be cancelled, every two seconds: never with an effect, but in the storms of its
own, where it has one as soon as automation is frozen no more. Every failure names its seed; `make chaos SEEDS="17 18"`
goes through the same storms again.
"""

from pathlib import Path

import pytest

from tests.chaos.storm import AT_ONCE, SEEDS_VARIABLE, chosen_seeds, weather
from tests.chaos.storm_plans import Play, Reach, plan_of

USUAL = range(1, AT_ONCE + 1)
MORE = range(AT_ONCE + 1, AT_ONCE + 201)


@pytest.mark.timeout(400)
async def test_storm_changes_nothing_of_what_is_believed_in_the_end(tmp_path: Path) -> None:
    await weather(tmp_path, chosen_seeds() or USUAL)


@pytest.mark.slow
@pytest.mark.skipif(bool(chosen_seeds()), reason=f"{SEEDS_VARIABLE} names the seeds")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("first", MORE[::AT_ONCE])
async def test_more_storms_change_nothing_of_what_is_believed_in_the_end(tmp_path: Path, first: int) -> None:
    await weather(tmp_path, range(first, first + AT_ONCE))


def test_seed_is_the_same_plan_every_time_and_half_of_them_have_an_intent_in_flight() -> None:
    plans = [plan_of(seed) for seed in MORE]
    assert plans == [plan_of(seed) for seed in MORE]
    assert sum(isinstance(plan.play, Play) for plan in plans) == len(plans) // 2
    assert sum(plan.alteration is not None for plan in plans) == len(plans) // 5
    usual = [plan_of(seed) for seed in USUAL if plan_of(seed).play is Play.ROBOT]
    assert {plan.reach for plan in usual if plan.alteration is None} == {Reach.BOTH, Reach.SERVICE}
    assert any(plan.alteration is not None for plan in usual)
