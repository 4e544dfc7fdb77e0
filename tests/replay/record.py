"""Records the kept histories anew, from scenes played on a real server with the stand-in runtime.

    .venv/bin/python -m tests.replay.record [SCENE ...]

Do this when commands of the workflow change on purpose, under a new rules version or a patch; the old files then show
whether running supervisors survive the change, so look at them before they are replaced. For every run of a scene it
writes `histories/<scene>[-<n>].json`, and beside the last one `<scene>[-<n>].status.json`: the report of the live
workflow at that instant. Everything is played in one neutral folder, so that no path of this machine is kept.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Awaitable, Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHistory

from contract.status import IntentStage
from tests.harness import FAST, House, Supervised, Supervisors, comparable, settled
from tests.harness_sprite import CANDIDATE, CONTINUE, HANG, HANGING, WAITING, Scenario, Sprite, loops, runs
from tests.receiver import receiving

HISTORIES = Path(__file__).with_name("histories")
FOLDER = Path("/tmp/ops-manager-replay")  # noqa: S108 - the same on every machine, and in every history
IDENTITY = "recorder"
ANA = {"by": "ana", "note": "looks good"}


async def approve_and_consume(supervise: Supervisors, sprite: Sprite) -> Supervised:
    """Mistakes, then an approval: recorded, and confirmed by the run that consumes it."""
    sprite.serve()
    loop = await supervise(sprite)
    sprite.run().wait()
    await loop.until_lifecycle("awaiting_approval")
    await loop.handle.signal("APPROVE_PENDING", {})
    await loop.handle.signal("APROVE_PENDING", ANA)
    await loop.send("APPROVE_PENDING", ANA)
    await loop.until_intent(IntentStage.RECORDED)
    sprite.run().wait()
    await loop.until_intent(IntentStage.CONFIRMED)
    await loop.until_lifecycle("complete")
    return loop


async def reject_and_go_on(supervise: Supervisors, sprite: Sprite) -> Supervised:
    """A rejection, confirmed by the run that goes on."""
    sprite.serve()
    sprite.run().wait()
    loop = await supervise(sprite)
    await loop.until_lifecycle("awaiting_approval")
    await loop.send("REJECT_PENDING", ANA)
    await loop.until_intent(IntentStage.RECORDED)
    sprite.run()
    await loop.until_intent(IntentStage.CONFIRMED)
    return loop


async def cancel_live_run(supervise: Supervisors, sprite: Sprite) -> Supervised:
    """A cancel of a live run, confirmed by its process."""
    sprite.serve()
    sprite.run()
    await sprite.until_role_works()
    loop = await supervise(sprite)
    await loop.until_lifecycle("running")
    await loop.send("CANCEL_LOOP", {"by": "ana"})
    await loop.until_intent(IntentStage.CONFIRMED)
    await loop.until_lifecycle("stopped", "cancelled")
    return loop


async def crash_and_clear(supervise: Supervisors, sprite: Sprite) -> Supervised:
    """A killed run, recognised on two readings and cleared."""
    sprite.serve()
    loop = await supervise(sprite)
    process = sprite.run()
    await sprite.until_role_works()
    process.kill()
    process.wait()
    await loop.until_lifecycle("failed", "crashed")
    await loop.send("CANCEL_LOOP", {"by": "ana"})
    await loop.until_intent(IntentStage.CONFIRMED)
    await loop.until_lifecycle("stopped", "cancelled")
    return loop


async def fall_back_and_return(supervise: Supervisors, sprite: Sprite) -> Supervised:
    """The service away, the local transport, and back."""
    sprite.serve()
    sprite.run()
    await sprite.until_role_works()
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite)
        await loop.until_lifecycle("running")
        sprite.stop_service()
        await loop.until(lambda seen: seen.transport.state == "local", "local")
        (sprite.repo / "go").touch()
        await loop.until_lifecycle("complete")
        sprite.serve()
        await loop.until(lambda seen: seen.transport.state == "sprite_service", "back")
        await loop.until(lambda seen: seen.observed_at and seen.cursor.at_head, "looked at")
    return loop


async def continue_as_new(supervise: Supervisors, sprite: Sprite) -> Supervised:
    """A short run after another, with events and mistakes arriving; an approval is carried over and confirmed."""
    sprite.serve()
    loop = await supervise(sprite, options=FAST.model_copy(update={"continue_as_new_events": 40}))
    sprite.run().wait()
    await loop.until_lifecycle("awaiting_approval")
    await loop.send("APPROVE_PENDING", ANA)
    await loop.until_intent(IntentStage.RECORDED)
    run_id = (await loop.status()).as_of.run_id
    while (await loop.status()).as_of.run_id == run_id:
        await loop.handle.signal("APPROVE_PENDING", {})
    sprite.run().wait()
    await loop.until_intent(IntentStage.CONFIRMED, index=0)
    await loop.until_lifecycle("complete")
    return loop


async def tell(supervise: Supervisors, sprite: Sprite) -> Supervised:
    """An approval, told to a receiver that refuses the first notice at first."""
    with receiving(FOLDER / "receiver") as receiver:
        receiver.status = 500
        sprite.serve()
        loop = await supervise(sprite, webhook=receiver.webhook)
        sprite.run().wait()
        await receiver.until(lambda seen: seen.tries, "the first try")
        receiver.status = 200
        await loop.send("APPROVE_PENDING", ANA)
        await loop.until_intent(IntentStage.RECORDED)
        sprite.run().wait()
        await loop.until_lifecycle("complete")
        await loop.until(lambda seen: seen.notices and seen.notices.delivered == 4, "everything is told")
    return loop


Scene = Callable[[Supervisors, Sprite], Awaitable[Supervised]]
SCENES: dict[str, tuple[Scene, Scenario]] = {
    "approve-consume": (approve_and_consume, WAITING),
    "reject": (reject_and_go_on, loops(demo=runs([CANDIDATE], [HANG], approval_required=True))),
    "cancel": (cancel_live_run, HANGING),
    "crash-clear": (crash_and_clear, loops(demo=runs([HANG], [CANDIDATE]))),
    "fallback": (fall_back_and_return, loops(demo=runs([{**CANDIDATE, "wait_for": "go"}]))),
    "notices": (tell, WAITING),
    "continue-as-new": (
        continue_as_new,
        loops(demo=runs([CONTINUE, CONTINUE, CANDIDATE], approval_required=True, stuck_threshold=0)),
    ),
}


async def record(names: list[str]) -> None:
    """Play the scenes of these names and write what they leave."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    HISTORIES.mkdir(exist_ok=True)
    async with House.open(FOLDER, identity=IDENTITY) as house:
        for name in names:
            scene, scenario = SCENES[name]
            with Sprite(FOLDER / name, name, scenario) as sprite:
                async with Supervisors(house) as supervise:
                    await _write(name, await scene(supervise, sprite))
    shutil.rmtree(FOLDER, ignore_errors=True)


async def _write(name: str, loop: Supervised) -> None:
    status, newest = await settled(loop)
    # Another run may have begun since.
    earlier = list(takewhile(lambda run_id: run_id != status.as_of.run_id, await loop.runs()))
    histories = [*[await loop.history(run_id) for run_id in earlier], newest]
    for old in HISTORIES.glob(f"{name}*.json"):
        if old.name.split(".")[0].removeprefix(name).strip("-0123456789") == "":
            old.unlink()
    for number, history in enumerate(histories, 1):
        stem = f"{name}-{number}" if len(histories) > 1 else name
        (HISTORIES / f"{stem}.json").write_text(_readable(history))
    expected = json.dumps(comparable(status), indent=1, sort_keys=True)
    (HISTORIES / f"{stem}.status.json").write_text(expected + "\n")
    print(f"{name}: {[len(history.events) for history in histories]} events")


def _readable(history: WorkflowHistory) -> str:
    """An event a line, so that a difference between two recordings can be read."""
    events = [json.dumps(_without_traces(event)) for event in json.loads(history.to_json())["events"]]
    return '{"events": [\n' + ",\n".join(events) + "\n]}\n"


def _without_traces(value: Any) -> Any:
    """Nothing reads the stack traces of failed activities, and they name this machine's folders."""
    if isinstance(value, dict):
        return {key: _without_traces(item) for key, item in value.items() if key != "stackTrace"}
    return [_without_traces(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1:] or list(SCENES)))
