"""Our manager against a service of the base contract and nothing more: no addition of ours is needed."""

import asyncio
from typing import Any

from contract.status import Attention, IntentStage
from tests.harness import Supervised, Supervisors
from tests.harness_sprite import HANGING, TOKEN, Sprite
from tests.interop.independent import read_log
from tests.peers import BasePeer, base_peer

ANA = {"by": "ana", "note": "fine"}
RECORDED_EVENT_S = 0.225


async def _supervised(supervise: Supervisors, sprite: Sprite, peer: BasePeer) -> Supervised:
    return await supervise(sprite, target=sprite.target(service_url=peer.url))


async def test_base_service_is_supervised_and_an_approval_confirmed_through_it(
    supervise: Supervisors, waiting: Sprite, peer: BasePeer
) -> None:
    loop = await _supervised(supervise, waiting, peer)
    seen = await loop.until_lifecycle("awaiting_approval")
    assert seen.sprite_id is None
    assert seen.attention.code is Attention.APPROVAL_WAITING
    await loop.send("APPROVE_PENDING", ANA)
    recorded = await loop.until_intent(IntentStage.RECORDED)
    assert [recorded.decision_line] == waiting.lines_of("approval_decision")
    waiting.run().wait()
    confirmed = await loop.until_intent(IntentStage.CONFIRMED)
    assert [confirmed.effect_line] == waiting.lines_of("approval_consumed")
    complete = await loop.until_lifecycle("complete")
    # It shows no chain: ours is computed from what it serves, and is the one of the file.
    on_disk = read_log(waiting.log())
    assert (complete.cursor.event_line_offset, complete.cursor.chain) == (on_disk.line_count, on_disk.chain)
    assert complete.cursor.unverifiable_from is None
    assert len(waiting.decisions()) == 1
    (posted,) = peer.asked("/ops/control")
    assert posted.body["intent"] == "approve"
    assert posted.body["noConfirm"] is True
    assert "expect" not in posted.body
    assert {seen.headers["x-ops-token"] for seen in peer.requests} == {TOKEN}
    assert not any("authorization" in seen.headers for seen in peer.requests)


async def test_base_service_at_the_pace_of_the_recorded_one_is_supervised_and_controlled(
    supervise: Supervisors, waiting: Sprite, peer: BasePeer
) -> None:
    peer.event_delay_s = RECORDED_EVENT_S
    loop = await _supervised(supervise, waiting, peer)
    await loop.until_lifecycle("awaiting_approval", timeout_s=60)
    await loop.send("APPROVE_PENDING", ANA)
    recorded = await loop.until_intent(IntentStage.RECORDED, timeout_s=60)
    assert [recorded.decision_line] == waiting.lines_of("approval_decision")
    seen = await loop.status()
    on_disk = read_log(waiting.log())
    assert (seen.cursor.event_line_offset, seen.cursor.chain) == (on_disk.line_count, on_disk.chain)
    assert (seen.transport.state, seen.divergence) == ("sprite_service", [])


async def test_cancel_through_a_base_service_is_confirmed_by_what_its_snapshots_show(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("foreign", HANGING)
    process = sprite.run()
    await sprite.until_role_works()
    with base_peer(sprite.repo, token=TOKEN, runtime=sprite.control_binary) as peer:
        loop = await _supervised(supervise, sprite, peer)
        running = await loop.until_lifecycle("running")
        assert running.process is not None
        assert running.process.state == "absent"
        await loop.send("CANCEL_LOOP", ANA)
        confirmed = await loop.until_intent(IntentStage.CONFIRMED)
        assert "state.json is gone and active-run.json is gone" in confirmed.sentence
        await loop.until_lifecycle("stopped", "cancelled")
        assert process.poll() is not None
        assert len(peer.asked("/ops/control")) == 1
    assert sprite.commands() == [f"cancel --repo {sprite.repo}"]


async def test_bad_line_that_a_base_service_leaves_out_makes_the_chain_unverifiable_and_no_divergence(
    supervise: Supervisors, waiting: Sprite, peer: BasePeer
) -> None:
    peer.skips_bad_lines = True
    loop = await _supervised(supervise, waiting, peer)
    await loop.until_lifecycle("awaiting_approval")
    bad_line = len(waiting.events()) + 1
    with (waiting.loop_folder / "events.jsonl").open("ab") as log:
        log.write(b"this is no event\n")
    await asyncio.to_thread(waiting.superloop, "approve", "--loop", "demo", "--by", "bo")
    decided = await loop.until_lifecycle("decided", "approved")
    assert decided.cursor.unverifiable_from == bad_line
    assert decided.cursor.event_line_offset == bad_line + 1
    assert decided.divergence == []


async def test_base_service_that_comes_back_is_compared_by_its_events_and_used_again(
    supervise: Supervisors, waiting: Sprite, peer: BasePeer
) -> None:
    async with waiting.local_worker(supervise.client):
        loop = await _supervised(supervise, waiting, peer)
        await loop.until_lifecycle("awaiting_approval")
        await asyncio.to_thread(peer.stop)
        await loop.until(lambda seen: seen.transport.state == "local", "local")
        await asyncio.to_thread(waiting.superloop, "approve", "--loop", "demo", "--by", "bo")
        await loop.until_lifecycle("decided", "approved")
        peer.start()
        back = await loop.until(lambda seen: seen.transport.state == "sprite_service", "back")
        told = await loop.direct("RECONCILE", {"by": "ana", "fromStart": True})
    assert told.sentence.startswith("Done: agreed: lines 1 to ")
    on_disk = read_log(waiting.log())
    assert (back.cursor.event_line_offset, back.cursor.chain) == (on_disk.line_count, on_disk.chain)
    assert (back.cursor.epoch, back.divergence) == (1, [])
