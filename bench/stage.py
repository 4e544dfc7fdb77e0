"""What the benches stand on: a Temporal server, the product's workers, and a sprite with a service of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from contract.identifiers import workflow_id
from contract.observation import Target
from contract.status import WORKFLOW_TYPE, StatusReport
from contract.supervision import SupervisorOptions, SupervisorStart
from tests.harness import House, Supervised, ask_status
from tests.harness_sprite import QUEUE, Scenario, Sprite


@dataclass(frozen=True)
class Size:
    """How much is measured: as published, or as little as shows that a bench runs."""

    backlog_lines: int = 100_000
    appended_events: int = 200
    long_log_lines: int = 100_000
    polls: int = 40
    silences: int = 1


TINY = Size(backlog_lines=2_000, appended_events=3, long_log_lines=2_000, polls=3, silences=0)
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Stage:
    """A running house and an empty folder."""

    house: House
    folder: Path
    size: Size

    @contextlib.contextmanager
    def sprite(self, name: str, scenario: Scenario | None = None) -> Iterator[Sprite]:
        """A sprite whose processes end with the block."""
        with Sprite(self.folder / name, name, scenario) as made:
            yield made

    @contextlib.asynccontextmanager
    async def supervised(
        self, sprite: Sprite, *, target: Target | None = None, options: SupervisorOptions | None = None
    ) -> AsyncIterator[Supervised]:
        """A supervisor with the product's own intervals, unless `options` say others, for the block."""
        target = target or sprite.target()
        handle = await self.house.client.start_workflow(
            WORKFLOW_TYPE,
            SupervisorStart(target=target, task_queue=QUEUE, options=options or SupervisorOptions()),
            id=workflow_id(target.sprite, target.loop_id),
            task_queue=QUEUE,
        )
        try:
            yield Supervised(self.house, sprite, self.house.client.get_workflow_handle(handle.id), "")
        finally:
            await self.house.client.get_workflow_handle(handle.id).terminate("measured")


async def until_status(
    loop: Supervised, holds: Callable[[StatusReport], bool], *, every_s: float
) -> tuple[float, StatusReport]:
    """Ask for the status until it satisfies `holds`; the time (monotonic) at which it did, and that status."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        report = await ask_status(loop.handle)
        now = time.monotonic()
        if holds(report):
            return now, report
        if now > deadline:
            raise TimeoutError(f"not within {PATIENCE_S:.0f} s; the last status: {report.model_dump_json()}")
        await asyncio.sleep(every_s)
