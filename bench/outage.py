"""How long an outage blinds: from the service's last breath to the first line that came through the local transport."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from bench.figures import Figure
from bench.freshness import EVENT, append
from bench.stage import Stage, until_status
from sprite.drill import ChaosProxy, Fault, Setting
from tests.harness_sprite import HANGING, Sprite

REFUSED_GOAL_S = 10.0
SILENT_GOAL_S = 60.0
ASK_EVERY_S = 0.1


async def measure(stage: Stage) -> list[Figure]:
    """A service that is killed, and one that falls silent, each under a running loop."""
    figures = [Figure("service killed until observed locally", await _killed(stage), "s", at_most=REFUSED_GOAL_S)]
    for number in range(stage.size.silences):
        taken_s = await _silent(stage, f"silent{number}")
        figures.append(Figure("service black-holed until observed locally", taken_s, "s", at_most=SILENT_GOAL_S))
    return figures


async def _killed(stage: Stage) -> float:
    with stage.sprite("killed", HANGING) as sprite:

        async def kill() -> None:
            sprite.kill_service()

        await sprite.serve_as_process()
        return await _from(stage, sprite, sprite.url, kill)


async def _silent(stage: Stage, name: str) -> float:
    with stage.sprite(name, HANGING) as sprite:
        await sprite.serve_as_process()
        async with ChaosProxy.before(sprite.url) as proxy:
            return await _from(stage, sprite, proxy.url, lambda: proxy.set(Setting(Fault.BLACK_HOLE)))


async def _from(stage: Stage, sprite: Sprite, url: str, begin: Callable[[], Awaitable[None]]) -> float:
    sprite.run()
    await sprite.until_role_works()
    async with (
        sprite.local_worker(stage.house.client),
        stage.supervised(sprite, target=sprite.target(service_url=url)) as loop,
    ):
        await until_status(loop, lambda seen: seen.lifecycle == "running" and seen.cursor.at_head, every_s=0.1)
        await begin()
        began = time.monotonic()
        line = append(sprite, EVENT)
        ended, _ = await until_status(loop, lambda seen: seen.cursor.event_line_offset >= line, every_s=ASK_EVERY_S)
        return ended - began
