"""`transport`, `reconcile` and `resolve` against the real supervisor."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.ops import Ops
from tests.harness_sprite import LOOP, QUEUE, WAITING, Sprite, edit_line

if TYPE_CHECKING:
    from tests.harness import House, Supervisors


@pytest.fixture
def ops(house: "House") -> Ops:
    return Ops({"TEMPORAL_ADDRESS": house.address, "OPS_MANAGER_TASK_QUEUE": QUEUE, "USER": "ana"})


async def test_transport_is_pinned_compared_and_freed(ops: Ops, supervise: "Supervisors", new_sprite: Any) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    await asyncio.to_thread(sprite.run().wait)
    sprite.serve()
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite)
        await loop.until_lifecycle("awaiting_approval")
        name = f"{sprite.name}/{LOOP}"
        pinned = await ops("transport", name, "local", "--note", "maintenance")
        assert (pinned.code, pinned.out) == (0, "Done: ana pinned the loop to local, and nothing else is used\n")
        seen = await ops("status", name)
        assert "local (pinned by ana)" in seen.out
        assert "sprite service -> local by ana" in seen.out
        assert "frozen: not reconciled with the sprite service since" in seen.out
        agreed = await ops("reconcile", name, "--from-start")
        assert agreed.code == 0, agreed
        assert agreed.out.startswith("Done: agreed: lines 1 to ")
        await asyncio.to_thread(sprite.stop_service)
        nothing = await ops("reconcile", name)
        assert nothing.code == 7, nothing
        assert nothing.out.startswith("Nothing done: nothing was compared: ")
        freed = await ops("transport", name, "auto")
        assert freed.code == 0
        assert [record.intent for record in (await loop.status()).intents] == [
            "SET_TRANSPORT", "RECONCILE", "RECONCILE", "SET_TRANSPORT",
        ]  # fmt: skip


async def test_edited_log_is_told_with_the_command_that_closes_it(
    ops: Ops, supervise: "Supervisors", new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    await asyncio.to_thread(sprite.run().wait)
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite, local_only=True)
        await loop.until_lifecycle("awaiting_approval")
        name = f"{sprite.name}/{LOOP}"
        edit_line(sprite.loop_folder / "events.jsonl", 3)
        await ops("reconcile", name)
        await loop.until(lambda seen: seen.cursor.epoch == 2 and seen.cursor.at_head, "read again")
        shown = await ops("status", name)
        (command,) = [line.split(None, 1)[1] for line in shown.out.splitlines() if " resolve " in line]
        arguments = command.split()
        assert arguments[arguments.index("resolve") + 1 :][:1] != []
        assert arguments[-6:] == [name, "d1", "--accept", "current", "--by", "ana"]
        wrong = await ops("resolve", name, "d1", "--accept", "local")
        assert wrong.code == 4, wrong
        unknown = await ops("resolve", name, "nonsense", "--accept", "local")
        assert unknown.code == 4, unknown
        closed = await ops("resolve", *arguments[-6:])
        assert closed.code == 0, closed
        report = json.loads((await ops("status", name, "-o", "json")).out)
    assert report["divergence"] == []
    assert report["resolvedDivergence"][0]["resolvedBy"] == "ana"
    assert report["automation"] == {"frozen": False, "reasons": []}


async def test_automated_cancel_of_a_loop_that_is_not_reconciled_is_refused(
    ops: Ops, supervise: "Supervisors", new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    await asyncio.to_thread(sprite.run().wait)
    sprite.serve()
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite)
        await loop.until_lifecycle("awaiting_approval")
        await ops("transport", f"{sprite.name}/{LOOP}", "local")
        await loop.until(lambda seen: seen.transport.state == "local", "local")
        refused = await ops("approve", f"{sprite.name}/{LOOP}", "--yes", "--automated")
        assert refused.code == 4, refused
        assert "automated intents are frozen: not reconciled" in refused.out
        by_hand = await ops("approve", f"{sprite.name}/{LOOP}", "--yes")
        assert by_hand.code == 0, by_hand
    assert len(sprite.decisions()) == 1
