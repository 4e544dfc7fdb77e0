"""A service of the base contract in trouble: gone and back, an answer lost, a command failed, a log replaced."""

import asyncio
import json

from contract.status import IntentStage, StatusReport
from tests.harness import House, Supervised, Supervisors
from tests.harness_sprite import Sprite
from tests.interop.independent import read_log
from tests.peers import BasePeer, Fault

ANA = {"by": "ana", "note": "fine"}


async def _waits(supervise: Supervisors, sprite: Sprite, peer: BasePeer) -> Supervised:
    loop = await supervise(sprite, target=sprite.target(service_url=peer.url))
    await loop.until_lifecycle("awaiting_approval")
    return loop


def _agrees(seen: StatusReport, sprite: Sprite) -> bool:
    on_disk = read_log(sprite.log())
    return (seen.cursor.event_line_offset, seen.cursor.chain) == (on_disk.line_count, on_disk.chain)


async def test_base_service_that_goes_and_comes_back_is_stood_in_for_by_local_and_gone_back_to(
    supervise: Supervisors, house: House, waiting: Sprite, peer: BasePeer
) -> None:
    async with waiting.local_worker(house.client):
        loop = await _waits(supervise, waiting, peer)
        await asyncio.to_thread(peer.stop)
        fallen = await loop.until(lambda seen: seen.transport.state == "local", "the local transport observes")
        assert _agrees(fallen, waiting)
        await loop.send("APPROVE_PENDING", ANA)
        recorded = await loop.until_intent(IntentStage.RECORDED)
        assert [recorded.decision_line] == waiting.lines_of("approval_decision")
        peer.start()
        await loop.until(lambda seen: seen.transport.state == "sprite_service", "the service observes again")
        await asyncio.to_thread(waiting.run().wait)
        confirmed = await loop.until_intent(IntentStage.CONFIRMED)
        assert [confirmed.effect_line] == waiting.lines_of("approval_consumed")
        complete = await loop.until_lifecycle("complete")
        assert complete.transport.state == "sprite_service"
        assert _agrees(complete, waiting)
        assert (complete.cursor.epoch, complete.cursor.unverifiable_from, complete.divergence) == (1, None, [])
    assert peer.asked("/ops/control") == []
    assert len(waiting.decisions()) == len(waiting.commands("approve")) == 1


async def test_rejection_through_a_base_service_is_recorded_and_confirmed_by_the_run_that_goes_on(
    supervise: Supervisors, waiting: Sprite, peer: BasePeer
) -> None:
    loop = await _waits(supervise, waiting, peer)
    await loop.send("REJECT_PENDING", ANA)
    recorded = await loop.until_intent(IntentStage.RECORDED)
    assert [recorded.decision_line] == waiting.lines_of("approval_decision")
    await loop.until_lifecycle("decided", "rejected")
    await asyncio.to_thread(waiting.run().wait)
    await loop.until_intent(IntentStage.CONFIRMED)
    (posted,) = peer.asked("/ops/control")
    assert (posted.body["intent"], posted.body["noConfirm"]) == ("reject", True)
    assert [decision["decision"] for decision in waiting.decisions()] == ["rejected"]
    # The loop goes on and asks again, which is another request than the one that was decided.
    asked_again = await loop.until_lifecycle("awaiting_approval")
    assert asked_again.run_id == waiting.events()[-1]["run_id"]


async def test_approval_whose_answer_a_base_service_lost_is_recorded_by_what_is_seen_and_not_sent_again(
    supervise: Supervisors, waiting: Sprite, peer: BasePeer
) -> None:
    loop = await _waits(supervise, waiting, peer)
    peer.fault, peer.faulty = Fault.EXECUTE_AND_DROP, lambda seen: seen.endpoint == "/ops/control"
    await loop.send("APPROVE_PENDING", ANA)
    recorded = await loop.until_intent(IntentStage.RECORDED)
    assert [recorded.decision_line] == waiting.lines_of("approval_decision")
    assert len(peer.asked("/ops/control")) == len(waiting.decisions()) == 1


async def test_approval_that_a_base_service_lost_before_its_effect_is_unknown_and_not_sent_again(
    supervise: Supervisors, waiting: Sprite, peer: BasePeer
) -> None:
    loop = await _waits(supervise, waiting, peer)
    peer.fault, peer.faulty = Fault.DROP, lambda seen: seen.endpoint == "/ops/control"
    await loop.send("APPROVE_PENDING", ANA)
    await loop.until_intent(IntentStage.AMBIGUOUS)
    assert len(peer.asked("/ops/control")) == 1
    assert waiting.decisions() == []


async def test_command_that_fails_in_a_base_service_has_done_nothing_and_says_so(
    supervise: Supervisors, waiting: Sprite, peer: BasePeer
) -> None:
    loop = await _waits(supervise, waiting, peer)
    waiting.control_binary.write_text("#!/bin/sh\necho 'error: not today' >&2\nexit 1\n")
    await loop.send("APPROVE_PENDING", ANA)
    failed = await loop.until_intent(IntentStage.FAILED_COMMAND)
    assert "not today" in failed.sentence
    assert waiting.decisions() == []


async def test_log_replaced_behind_a_base_service_is_a_divergence_and_read_again_whole(
    supervise: Supervisors, waiting: Sprite, peer: BasePeer
) -> None:
    loop = await _waits(supervise, waiting, peer)
    other = [{**event, "message": "of another log"} for event in waiting.events()]
    log = waiting.loop_folder / "events.jsonl"
    replacement = log.with_suffix(".new")
    replacement.write_text("".join(json.dumps(event) + "\n" for event in [*other, other[-1]]))
    replacement.replace(log)
    seen = await loop.until(lambda seen: bool(seen.divergence) and _agrees(seen, waiting), "the other log is read")
    assert [divergence.type for divergence in seen.divergence] == ["events_rewritten"]
    assert seen.cursor.epoch == 2
