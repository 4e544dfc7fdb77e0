"""A supervisor that leaves for a fresh run loses nothing, and one whose loop is idle writes nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from contract.status import IntentStage
from tests.harness import FAST, Supervisors
from tests.harness_sprite import CANDIDATE, CONTINUE, WAITING, loops, runs
from tests.interop.independent import read_log

SHORT = FAST.model_copy(update={"continue_as_new_events": 40})
RUNS = 4
IDLE_S = 5.0
"""Twenty looks through the service; through the local transport the files are watched."""
BUSY = loops(
    demo=runs([*[CONTINUE] * 8, CANDIDATE], max_iterations=12, stuck_threshold=0, approval_required=True),
)


async def test_events_and_intents_that_arrive_around_continue_as_new_are_all_there_afterwards(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", BUSY)
    sprite.serve()
    loop = await supervise(sprite, options=SHORT)
    run = sprite.run()
    sent = 0
    while run.poll() is None or len(await loop.runs()) < RUNS:
        # Each has to end as one record: a mistake, or an approval of what never was.
        never = {"by": f"operator-{sent}", "expect": {"runId": "2020-01-01T00:00:00Z"}}
        await loop.handle.signal("APPROVE_PENDING", never if sent % 3 else {"by": sent})
        sent += 1
        await asyncio.sleep(0.15)
    await loop.until_lifecycle("awaiting_approval")
    seen = await loop.until(
        lambda seen: [r.stage for r in seen.intents] == [IntentStage.REJECTED] * sent, f"all {sent} are answered"
    )
    assert [record.sequence for record in seen.intents] == list(range(1, sent + 1))
    await loop.send("APPROVE_PENDING", {"by": "ana"})
    await loop.until_intent(IntentStage.RECORDED)
    sprite.run().wait()
    await loop.until_intent(IntentStage.CONFIRMED)
    complete = await loop.until_lifecycle("complete")
    on_disk = read_log(sprite.log())
    assert (complete.cursor.event_line_offset, complete.cursor.chain) == (on_disk.line_count, on_disk.chain)
    assert complete.divergence == []
    assert len(sprite.decisions()) == 1


async def test_decision_that_waits_for_its_run_is_still_awaited_after_continue_as_new(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    sprite.run().wait()
    loop = await supervise(sprite, options=SHORT)
    await loop.until_lifecycle("awaiting_approval")
    await loop.send("APPROVE_PENDING", {"by": "ana", "idempotencyKey": "k"})
    await loop.until_intent(IntentStage.RECORDED)
    first_run = (await loop.status()).as_of.run_id
    while (await loop.status()).as_of.run_id == first_run:
        await loop.handle.signal("APPROVE_PENDING", {})
    # The key is remembered, too: the same message again is the same intent.
    await loop.handle.signal("APPROVE_PENDING", {"by": "ana", "idempotencyKey": "k"})
    await loop.until(lambda seen: seen.intents[0].received == 2, "the repetition is recognised")
    sprite.run().wait()
    confirmed = await loop.until_intent(IntentStage.CONFIRMED, index=0)
    assert [confirmed.effect_line] == sprite.lines_of("approval_consumed")
    assert len(sprite.commands("approve")) == 1


async def test_idle_loops_that_are_looked_at_many_times_cost_no_history(
    supervise: Supervisors, new_sprite: Any
) -> None:
    served, local = new_sprite("served", WAITING), new_sprite("local", WAITING)
    options = FAST.model_copy(update={"idle_poll_interval_s": 0.2})
    for sprite in (served, local):
        sprite.run().wait()
    served.serve()
    async with local.local_worker(supervise.client):
        supervised = [
            await supervise(sprite, local_only=sprite is local, options=options) for sprite in (served, local)
        ]
        for loop in supervised:
            await loop.until_lifecycle("awaiting_approval")
        before = [await _stands_still(loop.history) for loop in supervised]
        await asyncio.sleep(IDLE_S)
        assert [len((await loop.history()).events) for loop in supervised] == before
        assert max(before) <= 25


async def _stands_still(history: Callable[[], Awaitable[Any]]) -> int:
    """The length of history once the news of the start have been dealt with."""
    lengths = [-1, len((await history()).events)]
    while lengths[-1] != lengths[-2]:
        await asyncio.sleep(0.5)
        lengths.append(len((await history()).events))
    return lengths[-1]
