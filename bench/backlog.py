"""How fast a backlog is drained: a long log, from its first line to its head, through HTTP and Temporal."""

from __future__ import annotations

import time

from bench.figures import Figure
from bench.logs import write_log
from bench.stage import Stage, until_status

GOAL_PER_S = 5_000.0
ASK_EVERY_S = 0.5
"""Asking more often would be most of what the worker does."""


async def measure(stage: Stage) -> list[Figure]:
    """Events a second until the cursor is at the head; the service is a process of its own."""
    lines = stage.size.backlog_lines
    with stage.sprite("backlog") as sprite:
        size = write_log(sprite.repo, lines).stat().st_size
        await sprite.serve_as_process()
        began = time.monotonic()
        async with stage.supervised(sprite) as loop:
            ended, _ = await until_status(
                loop, lambda seen: seen.cursor.event_line_offset >= lines, every_s=ASK_EVERY_S
            )
    note = f"{lines:,} lines of {size / lines:.0f} bytes in {ended - began:.1f} s"
    per_s = lines / (ended - began)
    return [Figure("backlog: events ingested", per_s, "a second", at_least=GOAL_PER_S, note=note)]
