"""What an idle loop costs: history events a day, computed from a measured cycle of its observer."""

from __future__ import annotations

from bench.figures import Figure
from bench.stage import Stage, until_status
from contract.supervision import SupervisorOptions
from tests.harness import Supervised
from tests.harness_sprite import COMPLETING, until

GOAL_PER_DAY = 250.0
CYCLES = 3
SHORT = SupervisorOptions(observe_max_s=2.0, idle_poll_interval_s=1.0)
"""An observer's life of 2 s instead of an hour: the same cycle, so often that it can be waited for."""
_DAY_S = 86_400.0


async def measure(stage: Stage) -> list[Figure]:
    """Events that one observer's life adds to the history of a completed loop, times the lives in a day."""
    with stage.sprite("idle", COMPLETING) as sprite:
        await sprite.serve_as_process()
        sprite.run().wait()
        async with stage.supervised(sprite, options=SHORT) as loop:
            await until_status(loop, lambda seen: seen.lifecycle == "complete" and seen.cursor.at_head, every_s=0.1)
            lives = await _starts_of_observers(loop, CYCLES + 2)
    # Neither the first life, which still brought news, nor the one that goes on.
    per_life = (lives[-1] - lives[1]) / (len(lives) - 2)
    per_day = per_life * _DAY_S / SupervisorOptions().observe_max_s
    note = f"{per_life:.3g} events for each of {_DAY_S / SupervisorOptions().observe_max_s:.0f} lives of an observer"
    return [Figure("idle loop: history events", per_day, "a day", at_most=GOAL_PER_DAY, note=note)]


async def _starts_of_observers(loop: Supervised, count: int) -> list[int]:
    """The ids of the history events that scheduled observers, once there are so many."""
    found: list[int] = []

    async def enough() -> bool:
        history = await loop.history()
        found[:] = [
            event.event_id
            for event in history.events
            if event.activity_task_scheduled_event_attributes.activity_type.name == "observe"
        ]
        return len(found) >= count

    await until(enough, f"{count} observers", timeout_s=60.0)
    return found
