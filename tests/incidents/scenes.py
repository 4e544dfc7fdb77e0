"""Incidents that several tests look at: played on a real server with the stand-in runtime."""

from contract.status import IntentStage
from tests.harness import FAST, Supervised, Supervisors
from tests.harness_sprite import CANDIDATE, CONTINUE, Sprite, loops, runs

ANA = {"by": "ana", "note": "looks good"}
LONG_STORY = loops(demo=runs([CONTINUE, CONTINUE, CANDIDATE], approval_required=True, stuck_threshold=0))
SHORT_RUNS = FAST.model_copy(update={"continue_as_new_events": 20})


async def chain_of_runs(supervise: Supervisors, sprite: Sprite, *, at_least: int = 4) -> Supervised:
    """An approval, carried over several runs of the supervisor and confirmed; every line is taken at the end."""
    sprite.serve()
    loop = await supervise(sprite, options=SHORT_RUNS)
    sprite.run().wait()
    await loop.until_lifecycle("awaiting_approval")
    await loop.send("APPROVE_PENDING", {})
    await loop.send("APPROVE_PENDING", ANA)
    await loop.until_intent(IntentStage.RECORDED)
    while len(await loop.runs()) < at_least:
        await loop.handle.execute_update("OBSERVE_NOW")
    sprite.run().wait()
    await loop.until_lifecycle("complete")
    await taken(loop)
    return loop


async def taken(loop: Supervised) -> None:
    """Wait until every line of the log is taken."""
    await loop.until(lambda seen: seen.cursor.event_line_offset == len(loop.sprite.events()), "every line is taken")
