"""What people see in Temporal's UI and CLI: descriptions, the card, search attributes."""

import asyncio
import json
import os
import subprocess
import time
from typing import Any

from contract.directives import EXAMPLES
from contract.status import IntentStage, SearchAttribute, StatusReport
from tests.harness import FAST, Supervised, Supervisors
from tests.harness_sprite import LOOP, WAITING, Sprite


async def _metadata(loop: Supervised) -> dict[str, Any]:
    told = await loop.house.temporal("workflow", "metadata", "--workflow-id", loop.id, "-o", "json")
    assert told.returncode == 0, told.stderr
    (metadata,) = json.loads(told.stdout)["queryResult"]
    assert isinstance(metadata, dict)
    return metadata


async def _waiting(supervise: Supervisors, sprite: Sprite) -> Supervised:
    sprite.serve()
    sprite.run().wait()
    loop = await supervise(sprite)
    await loop.until_lifecycle("awaiting_approval")
    return loop


async def test_every_signal_and_query_is_described_with_an_example(supervise: Supervisors, new_sprite: Any) -> None:
    loop = await _waiting(supervise, new_sprite("acme", WAITING))
    definition = (await _metadata(loop))["definition"]
    signals = {signal.get("name"): signal["description"] for signal in definition["signalDefinitions"]}
    for name in ("CANCEL_LOOP", "APPROVE_PENDING", "REJECT_PENDING"):
        assert '{"by":"ana"' in signals[name]
    for directive, example in EXAMPLES.items():
        assert example in signals[directive.value]
    queries = {query.get("name"): query.get("description", "") for query in definition["queryDefinitions"]}
    assert queries["status"]
    assert queries["intents"]
    updates = {update.get("name"): update["description"] for update in definition["updateDefinitions"]}
    for name in ("CANCEL_LOOP", "APPROVE_PENDING", "REJECT_PENDING"):
        description = updates.pop(name)
        assert description.startswith("The signal, answered with its record")
        assert '{"by":"ana"' in description
    for directive, example in EXAMPLES.items():
        description = updates.pop(directive.value)
        assert description.startswith("The signal, answered with its record")
        assert example in description
    assert [description.split(",")[0] for description in updates.values()] == ["Look at the loop now"]


async def test_card_shows_state_attention_next_command_and_the_last_intents_with_rejections(
    supervise: Supervisors, new_sprite: Any
) -> None:
    loop = await _waiting(supervise, new_sprite("acme", WAITING))
    for number in range(6):
        await loop.handle.signal("APPROVE_PENDING", {"by": number})
    await loop.until(lambda seen: len(seen.intents) == 6, "all are recorded")
    card = (await _metadata(loop))["currentDetails"]
    assert "acme/demo: awaiting approval" in card
    assert "Waiting for approval of run" in card
    assert card.count("Nothing done: by should be a valid string") == 5
    # The command it shows can be pasted as it is, but for the name.
    command = card.split("```")[1].strip()
    assert command.startswith("temporal workflow signal")
    pasted = await _paste(loop, command.replace("YOUR-NAME", "ana"))
    assert pasted.returncode == 0, pasted.stderr
    recorded = await loop.until_intent(IntentStage.RECORDED)
    assert recorded.expect is not None
    assert recorded.expect.sprite_id == (await loop.status()).sprite_id
    assert recorded.expect.approval_sha256


async def test_a_look_that_is_asked_for_shows_what_is_there_now_however_seldom_a_resting_loop_is_looked_at(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    sprite.run().wait()
    loop = await supervise(sprite, options=FAST.model_copy(update={"idle_poll_interval_s": 3600.0}))
    await loop.until_lifecycle("awaiting_approval")
    sprite.superloop("approve", "--loop", LOOP, "--by", "bo")
    assert (await loop.status()).lifecycle == "awaiting_approval"
    looked = await loop.handle.execute_update("OBSERVE_NOW", result_type=StatusReport)
    assert (looked.lifecycle, looked.reason) == ("decided", "approved")
    assert looked.cursor.event_line_offset == sprite.log().count(b"\n")


async def test_a_look_that_cannot_be_had_answers_what_is_known_in_time(supervise: Supervisors, new_sprite: Any) -> None:
    sprite = new_sprite("acme", WAITING)
    loop = await supervise(sprite, local_only=True)  # and nobody serves its queue
    began = time.monotonic()
    looked = await loop.handle.execute_update("OBSERVE_NOW", result_type=StatusReport)
    assert looked.observed_at is None
    assert time.monotonic() - began < 20


async def _paste(loop: Supervised, command: str) -> "subprocess.CompletedProcess[str]":
    folder = str(loop.house.binary.parent)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "TEMPORAL_ADDRESS": loop.house.address}
    return await asyncio.to_thread(
        subprocess.run, ["sh", "-c", command], env=environment, capture_output=True, text=True, check=False
    )


async def test_search_attributes_tell_what_the_status_tells(supervise: Supervisors, new_sprite: Any) -> None:
    loop = await _waiting(supervise, new_sprite("acme", WAITING))
    status = await loop.status()
    attributes = {
        pair.key.name: pair.value for pair in (await loop.handle.describe()).typed_search_attributes.search_attributes
    }
    assert attributes[SearchAttribute.LOOP_STATUS] == "awaiting_approval"
    assert attributes[SearchAttribute.LOOP_ATTENTION] == "approval_waiting"
    assert attributes[SearchAttribute.LOOP_TRANSPORT] == "sprite_service"
    assert attributes[SearchAttribute.LOOP_ID] == "demo"
    assert attributes[SearchAttribute.SPRITE_ID] == status.sprite_id
    assert SearchAttribute.LOOP_OBSERVED_AT in attributes
