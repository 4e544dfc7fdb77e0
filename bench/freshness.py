"""How soon an event is visible: from its line in the log to the `status` that counts it, through HTTP and long poll."""

from __future__ import annotations

import asyncio
import random
import time

from bench.figures import Figure, quantile
from bench.stage import Stage, until_status
from tests.harness import Supervised
from tests.harness_sprite import HANGING, Sprite

ASK_EVERY_S = 0.005
EVENT = '{"timestamp":"2026-11-22T08:00:00Z","event":"tests_start","loop_id":"demo","run_id":"r","iteration":1}\n'


async def measure(stage: Stage) -> list[Figure]:
    """The median and the 99th percentile over events that come at random moments of a running loop."""
    numbers = random.Random("freshness")  # noqa: S311 - guards nothing
    with stage.sprite("fresh", HANGING) as sprite:
        await sprite.serve_as_process()
        sprite.run()
        await sprite.until_role_works()
        async with stage.supervised(sprite) as loop:
            await until_status(loop, lambda seen: seen.lifecycle == "running", every_s=0.1)
            taken = []
            for _ in range(stage.size.appended_events):
                await asyncio.sleep(numbers.uniform(0.02, 0.3))
                taken_s = await _visible_after_s(loop, append(sprite, EVENT))
                taken.append(taken_s * 1000)
    note = f"{len(taken)} events"
    return [
        Figure("event appended until visible in `status`, median", quantile(taken, 0.5), "ms", note=note),
        Figure("event appended until visible in `status`, 99th percentile", quantile(taken, 0.99), "ms", note=note),
    ]


async def _visible_after_s(loop: Supervised, line: int) -> float:
    began = time.monotonic()
    ended, _ = await until_status(loop, lambda seen: seen.cursor.event_line_offset >= line, every_s=ASK_EVERY_S)
    return ended - began


def append(sprite: Sprite, line: str) -> int:
    """Append a line to the log of the loop `demo`; the number of lines it has then."""
    path = sprite.loop_folder / "events.jsonl"
    with path.open("a", encoding="utf-8") as log:
        log.write(line)
    return path.read_bytes().count(b"\n")
