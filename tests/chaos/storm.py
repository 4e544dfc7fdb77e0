"""Several seeds side by side under one manager, whose server and worker are killed under all of them."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Self

from tests.chaos.crew import Crew, Victim, leaving_nothing_behind
from tests.chaos.storm_plans import Plan, plan_of
from tests.chaos.storm_rides import Ride
from tests.ground.dev_server import clean_environment
from tests.harness_sprite import QUEUE
from worker.connection import Target, connect
from worker.server_state import running_server

SEEDS_VARIABLE = "CHAOS_SEEDS"
AT_ONCE = 10
"""Loops that a machine of two cores takes at a time, with a service each."""


class Manager:
    """`ops-manager up`, which holds Temporal, and `ops-manager worker`, which supervises."""

    def __init__(self, folder: Path, sessions: list[int]) -> None:
        self.crew = Crew(folder, sessions)
        self._environment = clean_environment(folder)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder: Path, sessions: list[int]) -> AsyncIterator[Self]:
        """Both of them until the block ends."""
        manager = cls(folder, sessions)
        try:
            up = ["up", "--data", str(manager.crew.data)]
            await manager.crew.start(Victim.UP, up, manager._environment, "worker ready")
            await manager._start_worker()
            yield manager
        finally:
            await manager.crew.end()

    async def _start_worker(self) -> None:
        arguments = ["worker", "--data", str(self.crew.data)]
        environment = {**self._environment, "OPS_MANAGER_TASK_QUEUE": QUEUE}
        await self.crew.start(Victim.WORKER, arguments, environment, "worker ready")

    @property
    def address(self) -> str:
        """Where Temporal answers; the same after it was killed."""
        server = running_server(self.crew.data)
        assert server is not None
        return server.address

    async def strike(self, kills: Sequence[tuple[Victim, float]]) -> None:
        """Kill each at its time, and do what a process manager would."""
        begun = asyncio.get_running_loop().time()
        for victim, at_s in sorted(kills, key=lambda kill: kill[1]):
            await asyncio.sleep(max(0.0, begun + at_s - asyncio.get_running_loop().time()))
            pid = self.crew.pid(victim)
            os.kill(pid, signal.SIGKILL)
            if victim is Victim.TEMPORAL:
                await self.crew.temporal_is_back(pid)
            else:
                self.crew.bury(victim)
                await self._start_worker()


async def weather(folder: Path, seeds: Sequence[int]) -> None:
    """Go through the storms of these seeds at once; each to its end, and all that failed are told."""
    plans = [plan_of(seed) for seed in seeds]
    with leaving_nothing_behind(folder) as sessions:
        async with Manager.open(folder / "manager", sessions) as manager:
            async with connect(Target(manager.address)) as client, contextlib.AsyncExitStack() as stack:
                rides = [await stack.enter_async_context(Ride.begun(client, plan, folder)) for plan in plans]
                striking = asyncio.create_task(manager.strike(_once_each(plans)))
                ends = await asyncio.gather(*(ride.run() for ride in rides), return_exceptions=True)
                await striking
            _raise_failures(ends, plans, manager)


def _once_each(plans: Sequence[Plan]) -> list[tuple[Victim, float]]:
    """The kills that the plans ask for, of each victim the first: a worker's death is noticed after half a minute."""
    kills: dict[Victim, float] = {}
    for plan in plans:
        for victim, at_s in plan.kills:
            kills.setdefault(victim, at_s)
    return list(kills.items())


def _raise_failures(ends: Sequence[BaseException | None], plans: Sequence[Plan], manager: Manager) -> None:
    failures = [(plan, end) for plan, end in zip(plans, ends, strict=True) if isinstance(end, BaseException)]
    for plan, failure in failures:
        failure.add_note(
            f"{plan}\nThe same again: {SEEDS_VARIABLE}={plan.seed}, all of them together: {_listed(plans)}"
        )
    if failures:
        failures[0][1].add_note(manager.crew.last_words())
        raise BaseExceptionGroup(f"{len(failures)} of {len(plans)} seeds", [failure for _, failure in failures])


def _listed(plans: Sequence[Plan]) -> str:
    return f"{SEEDS_VARIABLE}={','.join(str(plan.seed) for plan in plans)}"


def chosen_seeds() -> list[int]:
    """What the environment asks for instead of the usual seeds."""
    return [int(seed) for seed in os.environ.get(SEEDS_VARIABLE, "").replace(",", " ").split()]
