"""Whether a long log costs more than a short one: a snapshot and a poll at the head of each, in turns."""

from __future__ import annotations

import time

import httpx

from bench.figures import Figure, quantile
from bench.freshness import EVENT, append
from bench.logs import write_log
from bench.stage import Stage
from tests.harness_sprite import LOOP, TOKEN

SHORT_LINES = 100
RATIO_GOAL = 2.0


async def measure(stage: Stage) -> list[Figure]:
    """Medians in milliseconds over the long log, and their ratios to those over the short one."""
    lines = stage.size.long_log_lines
    taken: dict[tuple[str, str], list[float]] = {}
    with stage.sprite("short") as short, stage.sprite("long") as long:
        for sprite, count in ((short, SHORT_LINES), (long, lines)):
            write_log(sprite.repo, count)
            await sprite.serve_as_process()
        headers = {"X-Ops-Token": TOKEN}
        async with httpx.AsyncClient(headers=headers, timeout=60.0, trust_env=False) as client:
            for turn in range(stage.size.polls + 1):
                for sprite in (short, long):
                    head = append(sprite, EVENT)
                    for what, path in (("snapshot", "snapshot?"), ("poll", f"events?cursor={head - 1}&")):
                        began = time.perf_counter()
                        answer = await client.get(f"{sprite.url}/ops/{path}loopId={LOOP}")
                        ended = time.perf_counter()
                        answer.raise_for_status()
                        if turn:  # the first reads the log from its beginning
                            taken.setdefault((sprite.name, what), []).append((ended - began) * 1000)
    figures = []
    for what in ("snapshot", "poll"):
        of_long, of_short = (quantile(taken[name, what], 0.5) for name in ("long", "short"))
        name = f"{what} at the head of {lines:,} lines"
        figures += [
            Figure(f"{name}, median", of_long, "ms", note=f"one line appended before each of {stage.size.polls}"),
            Figure(f"{name}, against {SHORT_LINES} lines", of_long / of_short, "times", at_most=RATIO_GOAL),
        ]
    return figures
