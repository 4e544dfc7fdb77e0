"""Runs that die without a word are recognised, and cleared on request (D14); two runs in one repo are named."""

import os
import re
import signal
from typing import Any

import pytest

from contract.status import Attention, IntentStage
from tests.harness import Supervisors
from tests.harness_sprite import CANDIDATE, HANG, Sprite, loops, runs

TWO_LOOPS = loops(demo=runs([HANG]), other=runs([HANG]))
ENDS = ("SIGKILL", "SIGTERM", "role error")


async def _die(sprite: Sprite, how: str) -> None:
    process = sprite.run()
    if how != "role error":
        await sprite.until_role_works()
        os.killpg(process.pid, signal.Signals[how])
    process.wait()


@pytest.mark.parametrize("how", ENDS)
async def test_run_that_died_silently_is_crashed_and_a_cancel_clears_it(
    supervise: Supervisors, new_sprite: Any, how: str
) -> None:
    first = {"outcome": "role_error"} if how == "role error" else HANG
    sprite = new_sprite("acme", loops(demo=runs([first], [CANDIDATE])))
    sprite.serve()
    loop = await supervise(sprite)
    await _die(sprite, how)
    gone = await loop.until(lambda seen: seen.process and seen.process.state == "dead", "the process is seen gone")
    crashed = await loop.until_lifecycle("failed", "crashed")
    assert gone.observed_at is not None
    assert crashed.since is not None
    # One reading is not enough, and there are at least two seconds between the two.
    assert gone.lifecycle != "failed"
    assert (crashed.since - gone.observed_at).total_seconds() >= 2.0
    assert crashed.attention.code is Attention.CRASHED
    assert crashed.attention.next_command == "ops-manager cancel acme/demo"
    assert crashed.run_id == sprite.events()[0]["run_id"]
    assert crashed.iteration == 1
    # The runtime refuses every further run until somebody clears it.
    assert sprite.superloop("run", "--loop", "demo").returncode == 1

    await loop.send("CANCEL_LOOP", {"by": "ana"})
    cleared = await loop.until_intent(IntentStage.CONFIRMED)
    assert cleared.clears_crash
    assert re.search(r"cleared .*crashed.*nothing (had to be|was) killed", cleared.sentence)
    await loop.until_lifecycle("stopped", "cancelled")
    assert sprite.run().wait() == 0
    await loop.until_lifecycle("complete")


async def test_second_live_run_in_the_repo_is_a_divergence_that_names_both_and_ends_with_it(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("acme", TWO_LOOPS)
    sprite.serve()
    first = sprite.run("demo")
    await sprite.until_role_works()
    loop = await supervise(sprite)
    await loop.until_lifecycle("running")
    second = sprite.run("other")
    await sprite.until_role_works(loop_id="other")
    seen = await loop.until(lambda seen: seen.divergence, "the second run is noticed")
    (divergence,) = seen.divergence
    assert divergence.type == "multiple_runs"
    for process, loop_id in ((first, "demo"), (second, "other")):
        assert f"pid {process.pid} (loop {loop_id})" in divergence.detail
    assert seen.attention.code is Attention.DIVERGED
    assert seen.lifecycle == "running"

    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    seen = await loop.until(lambda seen: not seen.divergence, "the divergence has cleared")
    assert seen.lifecycle == "running"
