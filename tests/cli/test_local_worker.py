"""`ops-manager worker --local`: the worker inside a sprite serves the queue of that sprite, and nothing else."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from contract.identifiers import control_task_queue, local_task_queue, observe_task_queue
from tests.cli.ops import Ops
from tests.harness_sprite import QUEUE, WAITING, Sprite
from worker.pollers import find_pollers

if TYPE_CHECKING:
    from tests.harness import House, Supervisors


@pytest.fixture
def ops(house: "House") -> Ops:
    return Ops({"TEMPORAL_ADDRESS": house.address, "OPS_MANAGER_TASK_QUEUE": QUEUE, "USER": "ana"})


async def test_worker_inside_a_sprite_shows_its_loops_and_polls_no_other_queue(
    ops: Ops, house: "House", supervise: "Supervisors", new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("inside", WAITING)
    await asyncio.to_thread(sprite.run().wait)
    environment = {"SUPERLOOP_BIN": str(sprite.control_binary), "OPS_MANAGER_STATE_DIR": str(sprite.state_dir)}
    inside = Ops({**ops.environment, **environment})
    arguments = ["worker", "--local", "--repo", str(sprite.repo), "--sprite", sprite.name]
    async with inside.running(*arguments) as process:
        assert process.stderr is not None
        ready = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
        assert "nothing but the local transport of inside" in ready, ready
        loop = await supervise(sprite, local_only=True)
        seen = await loop.until_lifecycle("awaiting_approval")
        assert seen.transport.state == "local"
        (own,) = await find_pollers(house.client, local_task_queue(QUEUE, sprite.name))
        for queue in (QUEUE, observe_task_queue(QUEUE), control_task_queue(QUEUE), local_task_queue(QUEUE, "other")):
            others = await find_pollers(house.client, queue)
            assert own.identity not in [poller.identity for poller in others], queue


async def test_local_worker_without_a_repo_is_refused(ops: Ops) -> None:
    done = await ops("worker", "--local")
    assert done.code == 2
    assert "--local serves the local transport of --repo" in done.err
