"""Incidents with faults, made anew from a seed, and what `status` answered live at random instants meanwhile."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from contract.status import StatusReport
from tests.harness import FAST, Supervised, Supervisors
from tests.harness_sprite import CANDIDATE, CONTINUE, HANG, Sprite, loops, runs

SAMPLES = 100
STORY = loops(
    demo=runs(
        [CONTINUE, CANDIDATE], [CONTINUE, HANG], [CANDIDATE], [CANDIDATE], approval_required=True, stuck_threshold=0
    )
)
_OPTIONS = FAST.model_copy(update={"continue_as_new_events": 60})
_STEPS = 14


@dataclass(frozen=True)
class Answer:
    """A live answer: asked at `asked`, there at `there`."""

    asked: datetime
    there: datetime
    report: StatusReport


async def play(supervise: Supervisors, sprite: Sprite, seed: int) -> tuple[Supervised, list[Answer]]:
    """Play the incident of this seed; at its end the service answers, and every line has been taken."""
    rng = random.Random(seed)
    sprite.serve()
    async with contextlib.AsyncExitStack() as stack:
        if rng.random() < 0.5:
            await stack.enter_async_context(sprite.local_worker(supervise.client))
        loop = await supervise(sprite, options=_OPTIONS)
        async with asking(loop, rng) as answers:
            for _ in range(_STEPS):
                await _step(loop, rng)
            while len(answers) < SAMPLES:
                await _step(loop, rng)
        if (state := sprite.repo / ".superloop" / "state.json").exists() and not state.stat().st_size:
            # A run that was ended while it wrote left it so. The card says what to do.
            sprite.superloop("cancel")
        await loop.until(lambda seen: seen.cursor.event_line_offset == len(sprite.events()), "every line is taken")
    return loop, answers


async def _step(loop: Supervised, rng: random.Random) -> None:
    sprite = loop.sprite
    action = rng.choice(["run", "outage", "typo", "approve", "cancel", "look", "pause", "kill"])
    if action == "run":
        sprite.run()
    elif action == "outage":
        sprite.stop_service()
        await asyncio.sleep(rng.uniform(0.1, 3.0))
        sprite.serve()
    elif action == "typo":
        await loop.handle.signal("APPROVE_PENDNG", {"by": "ana"})
    elif action in ("approve", "cancel"):
        name = {"approve": "APPROVE_PENDING", "cancel": "CANCEL_LOOP"}[action]
        await loop.handle.signal(name, {"by": rng.choice(["ana", "bo"])})
    elif action == "look":
        await loop.handle.execute_update("OBSERVE_NOW")
    elif action == "kill":
        sprite.kill_runs()
    await asyncio.sleep(rng.uniform(0.0, 0.6))


@contextlib.asynccontextmanager
async def asking(loop: Supervised, rng: random.Random) -> AsyncIterator[list[Answer]]:
    """Ask for the status at random instants for the block."""
    answers: list[Answer] = []

    async def ask() -> None:
        while True:
            asked = datetime.now(UTC)
            report = await loop.status()
            answers.append(Answer(asked, datetime.now(UTC), report))
            await asyncio.sleep(rng.uniform(0.0, 0.15))

    task = asyncio.create_task(ask())
    try:
        yield answers
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
