"""The two transports: service gone and back, a token that is refused, and neither answering (D19)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from contract.status import Attention, IntentStage, StatusReport
from tests.harness import House, Supervisors
from tests.harness_sprite import CANDIDATE, CONTINUE, HANGING, TOKEN, WAITING, Sprite, loops, runs
from tests.interop.independent import read_log

FALLBACK_LIMIT_S = 10.0
BLIND_AFTER_S = 60.0
BlindTask = asyncio.Task[tuple[list[StatusReport], Sprite]]
WORKING = loops(
    demo=runs(
        [CONTINUE, {"outcome": "continue", "wait_for": "go"}, CONTINUE, {**CANDIDATE, "wait_for": "end"}],
        max_iterations=9,
        stuck_threshold=0,
    )
)


def _agrees(seen: StatusReport, sprite: Sprite) -> bool:
    on_disk = read_log(sprite.log())
    return (seen.cursor.event_line_offset, seen.cursor.chain) == (on_disk.line_count, on_disk.chain)


@pytest_asyncio.fixture(scope="module", autouse=True)
async def blind_loop(house: House, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BlindTask]:
    """See `_go_blind`. Autouse, because the half minute it takes is free while the other tests of this file run."""
    task = asyncio.create_task(_go_blind(house, tmp_path_factory.mktemp("blind")))
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _go_blind(house: House, folder: Path) -> tuple[list[StatusReport], Sprite]:
    """A waiting loop loses its service, and nobody serves its local queue; later the service comes back."""
    reports = []
    with Sprite(folder, "blind", WAITING) as sprite:
        sprite.serve()
        await asyncio.to_thread(sprite.run().wait)
        async with Supervisors(house) as supervise:
            loop = await supervise(sprite)
            reports.append(await loop.until_lifecycle("awaiting_approval"))
            await asyncio.to_thread(sprite.stop_service)
            await loop.send("APPROVE_PENDING", {"by": "ana"})
            blind = await loop.until(lambda seen: seen.transport.state == "blind", "blind", timeout_s=BLIND_AFTER_S)
            await asyncio.to_thread(sprite.serve)
            again = await loop.until(lambda seen: seen.transport.state == "sprite_service", "sees again")
            await loop.until_intent(IntentStage.RECORDED)
            reports += [blind, again, await loop.status()]
    return reports, sprite


async def test_killed_service_hands_over_to_local_within_ten_seconds_and_takes_back_when_it_answers_again(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", WORKING)
    await sprite.serve_as_process()
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite)
        sprite.run()
        await sprite.until_event("iteration_start", 2)
        await loop.until(lambda seen: seen.iteration == 2, "the second iteration is seen")
        clock = asyncio.get_running_loop().time
        killed_at = clock()
        sprite.kill_service()
        seen = await loop.until(lambda seen: seen.transport.state == "local", "local", timeout_s=FALLBACK_LIMIT_S)
        assert clock() - killed_at < FALLBACK_LIMIT_S
        assert "the sprite service does not answer" in seen.transport.reason
        # It goes on seeing: what happens now comes through the local transport.
        (sprite.repo / "go").touch()
        await sprite.until_event("iteration_start", 4)
        seen = await loop.until(lambda seen: seen.iteration == 4, "the fourth iteration is seen through local")
        assert seen.transport.state == "local"

        await sprite.serve_as_process()
        seen = await loop.until(lambda seen: seen.transport.state == "sprite_service", "back to the service")
        (sprite.repo / "end").touch()
        complete = await loop.until_lifecycle("complete")
    assert complete.transport.state == "sprite_service"
    assert complete.cursor.epoch == 1
    assert _agrees(complete, sprite)
    assert complete.divergence == []
    assert [t.lifecycle.value for t in complete.transitions if t.lifecycle != "not_started"] == [
        "starting", "running", "complete",
    ]  # fmt: skip


async def test_cancel_while_the_service_is_away_is_executed_through_local(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", HANGING)
    sprite.serve()
    sprite.run()
    await sprite.until_role_works()
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite)
        await loop.until_lifecycle("running")
        sprite.stop_service()
        await loop.send("CANCEL_LOOP", {"by": "ana"})
        confirmed = await loop.until_intent(IntentStage.CONFIRMED)
        assert confirmed.transport == "local"
        await loop.until_lifecycle("stopped", "cancelled")
    assert len(sprite.commands("cancel")) == 1


async def test_refused_token_is_its_own_attention_without_fallback_and_heals_with_the_token_file(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    sprite.run().wait()
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite)
        await loop.until_lifecycle("awaiting_approval")
        sprite.write_token("an-old-token")
        await loop.send("APPROVE_PENDING", {"by": "ana"})
        seen = await loop.until(lambda seen: seen.attention.code is Attention.UNAUTHORIZED, "unauthorized")
        assert "401" in seen.attention.sentence
        assert "an-old-token" not in seen.model_dump_json()
        # The loop is still what it was when last seen, and nobody has gone round the service.
        assert (seen.lifecycle, seen.transport.state) == ("awaiting_approval", "sprite_service")
        assert seen.intents[0].stage is IntentStage.RECEIVED
        assert sprite.commands() == []
        sprite.write_token(TOKEN)
        await loop.until_intent(IntentStage.RECORDED)
        healed = await loop.status()
    assert healed.transport.state == "sprite_service"
    assert healed.attention.code is Attention.APPROVED_NOT_RESUMED
    history = await loop.history()
    assert "an-old-token" not in history.to_json()
    assert TOKEN not in history.to_json()


async def test_loop_that_neither_transport_sees_is_blind_and_believed_as_last_seen_until_one_answers(
    blind_loop: BlindTask,
) -> None:
    (seen, blind, again, recorded), sprite = await blind_loop
    assert blind.attention.code is Attention.BLIND
    assert "last seen" in blind.attention.sentence
    # Cannot see is never is dead.
    assert (blind.lifecycle, blind.reason, blind.observed_at) == (seen.lifecycle, seen.reason, seen.observed_at)
    assert blind.intents[0].stage is IntentStage.RECEIVED
    assert again.attention.code is not Attention.BLIND
    assert recorded.intents[0].stage is IntentStage.RECORDED
    assert len(sprite.decisions()) == 1
