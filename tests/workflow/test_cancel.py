"""CANCEL_LOOP: attributed, confirmed by evidence for that very run, and never at the cost of another (D6, D17)."""

import signal
from typing import Any

from contract.status import Attention, IntentStage
from tests.harness import Supervisors
from tests.harness_sprite import COMPLETING, HANG, HANGING, Sprite, loops, runs

ANA = {"by": "ana"}
TWO_LOOPS = loops(demo=runs([HANG]), other=runs([HANG]))


async def _hanging(sprite: Sprite) -> int:
    sprite.serve()
    process = sprite.run()
    await sprite.until_role_works()
    return process.pid


async def test_cancel_of_a_live_run_is_confirmed_by_its_process_being_gone(
    supervise: Supervisors, new_sprite: Any
) -> None:
    """D6: attributed, confirmed for that run, and `stopped`."""
    sprite = new_sprite("acme", HANGING)
    pid = await _hanging(sprite)
    loop = await supervise(sprite)
    await loop.until_lifecycle("running")
    await loop.send("CANCEL_LOOP", ANA)
    confirmed = await loop.until_intent(IntentStage.CONFIRMED)
    assert confirmed.process_pid == pid
    assert f"process {pid} is gone and state.json is gone" in confirmed.sentence
    assert confirmed.run_id == sprite.events()[0]["run_id"]
    stopped = await loop.until_lifecycle("stopped", "cancelled")
    # Somebody wanted it: nobody is needed.
    assert stopped.attention.code is Attention.NONE
    assert sprite.commands() == [f"cancel --repo {sprite.repo}"]
    assert sprite.state is None


async def test_run_after_a_cancel_is_a_run_of_its_own(supervise: Supervisors, new_sprite: Any) -> None:
    sprite = new_sprite("acme", loops(demo=runs([HANG], [{"outcome": "candidate"}])))
    await _hanging(sprite)
    loop = await supervise(sprite)
    await loop.until_lifecycle("running")
    await loop.send("CANCEL_LOOP", ANA)
    await loop.until_intent(IntentStage.CONFIRMED)
    await loop.until_lifecycle("stopped", "cancelled")
    sprite.run().wait()
    complete = await loop.until_lifecycle("complete")
    second = sprite.events()[sprite.lines_of("loop_start")[1] - 1]["run_id"]
    assert (complete.run_id, complete.run_line, complete.iteration) == (second, sprite.lines_of("loop_start")[1], 1)
    assert [(t.lifecycle.value, t.reason) for t in complete.transitions][-4:] == [
        ("stopped", "cancelled"),
        ("starting", "loop_start"),
        ("running", "iteration_start"),
        ("complete", "loop_complete"),
    ]


async def test_cancel_of_one_loop_while_another_runs_is_refused_and_the_other_lives(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", TWO_LOOPS)
    sprite.serve()
    ended = sprite.run("demo")
    await sprite.until_role_works()
    sprite.superloop("cancel")
    ended.wait()
    neighbour = sprite.run("other")
    await sprite.until_role_works(loop_id="other")
    loop = await supervise(sprite)
    await loop.until(lambda seen: seen.cursor.at_head, "the log is read")
    await loop.send("CANCEL_LOOP", ANA)
    refused = await loop.until_intent(IntentStage.REJECTED)
    assert refused.sentence.startswith("Nothing done: ")
    assert f"pid {neighbour.pid}" in refused.sentence
    assert neighbour.poll() is None
    assert sprite.state is not None
    assert sprite.state["current_loop_id"] == "other"
    assert sprite.commands() == []


async def test_cancel_of_a_complete_loop_is_refused_and_nothing_is_touched(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", COMPLETING)
    sprite.serve()
    sprite.run().wait()
    loop = await supervise(sprite)
    await loop.until_lifecycle("complete")
    before = sprite.state
    await loop.send("CANCEL_LOOP", ANA)
    refused = await loop.until_intent(IntentStage.REJECTED)
    assert "nothing to cancel: the loop is complete" in refused.reason
    assert (sprite.commands(), sprite.state) == ([], before)


async def test_cancel_goes_before_intents_that_were_queued_earlier(supervise: Supervisors, new_sprite: Any) -> None:
    sprite = new_sprite("acme", HANGING)
    await _hanging(sprite)
    # Nothing is judged unseen, so what arrives while the service refuses our token has to queue.
    sprite.write_token("not-the-token")
    loop = await supervise(sprite)
    await loop.until(lambda seen: seen.attention.code is Attention.UNAUTHORIZED, "the token is refused")
    await loop.send("APPROVE_PENDING", ANA)
    await loop.send("REJECT_PENDING", ANA)
    await loop.send("CANCEL_LOOP", ANA)
    queued = await loop.status()
    assert [record.stage for record in queued.intents] == [IntentStage.RECEIVED] * 3
    sprite.write_token("a-token-for-tests")
    await loop.until_intent(IntentStage.CONFIRMED, index=2)
    seen = await loop.until(
        lambda seen: [r.stage for r in seen.intents[:2]] == [IntentStage.REJECTED] * 2, "the others are judged, too"
    )
    cancel_began = next(stage.at for stage in seen.intents[2].stages if stage.stage is IntentStage.EXECUTING)
    assert all(cancel_began < record.stages[-1].at for record in seen.intents[:2])
    assert sprite.commands() == [f"cancel --repo {sprite.repo}"]


async def test_cancel_of_a_run_that_ignores_sigterm_is_confirmed_after_it_was_killed(
    supervise: Supervisors, new_sprite: Any
) -> None:
    scenario = loops(demo={"runs": [{"ignore_term": True, "iterations": [HANG]}]})
    sprite = new_sprite("acme", {**scenario, "pace_ms": {**scenario["pace_ms"], "cancel_term": 1000}})
    sprite.serve()
    process = sprite.run()
    await sprite.until_role_works()
    loop = await supervise(sprite)
    await loop.until_lifecycle("running")
    await loop.send("CANCEL_LOOP", ANA)
    confirmed = await loop.until_intent(IntentStage.CONFIRMED)
    assert confirmed.process_pid == process.pid
    assert process.wait(5) == -signal.SIGKILL
    await loop.until_lifecycle("stopped", "cancelled")
