"""Two sprites with equal repo paths and equal loop ids: no message for one ever acts on the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from activities.client import SpriteServiceClient
from activities.control import execute_through_service
from contract.intents import Intent
from contract.observation import ControlInput, ControlOutcomeKind, Transport
from contract.status import Attention, IntentStage
from tests.harness import House, Supervised, Supervisors
from tests.harness_box import Twin, unshare_options
from tests.harness_sprite import CANDIDATE, HANG, end, loops, runs
from tests.harness_wire import Wire

ANA = {"by": "ana"}
WAITING = runs([CANDIDATE], approval_required=True)
LOOPS = loops(decided=WAITING, wired=WAITING, queued=WAITING, running=runs([HANG]))
Twins = tuple[Twin, Twin]
PATIENCE_S = 60.0
"""A worker that is ended just as it takes a task loses that task until its heartbeat is missed for 30 s."""


@pytest_asyncio.fixture(scope="module")
async def twins(house: House, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Twins]:
    """Sprites `a` and `b` at one and the same path, each with three loops that wait and one that runs; both served."""
    folder = tmp_path_factory.mktemp("twins")
    shared = folder / "srv"
    shared.mkdir()
    with contextlib.ExitStack() as stack:
        a, b = [stack.enter_context(Twin(folder / name, name, shared, LOOPS)) for name in ("a", "b")]
        await asyncio.gather(_lay(a), _lay(b))
        yield a, b


async def _lay(twin: Twin) -> None:
    await twin.ready()
    for loop_id in ("decided", "wired", "queued"):
        await asyncio.to_thread(twin.run(loop_id).wait)
    twin.run("running")
    await twin.until_role_works(loop_id="running")
    await twin.serve_inside()


async def _both(supervise: Supervisors, twins: Twins, loop_id: str, lifecycle: str) -> list[Supervised]:
    supervised = [await supervise(twin, target=twin.target(loop_id)) for twin in twins]
    seen_a, seen_b = [await loop.until_lifecycle(lifecycle) for loop in supervised]
    assert (seen_a.repo_path == seen_b.repo_path) is twins[0].same_path
    assert seen_a.sprite_id != seen_b.sprite_id
    return supervised


def test_both_sprites_are_at_one_path(twins: Twins) -> None:
    if unshare_options() is None:
        pytest.skip("this machine has no namespaces, so the other tests here only had equal names and loop ids")
    a, b = twins
    assert (a.inside, a.repo) == (b.inside, a.repo)
    assert a.repo != b.repo


async def test_decisions_for_one_of_two_equal_sprites_leave_the_other_alone(
    supervise: Supervisors, twins: Twins
) -> None:
    a, b = twins
    loop_a, loop_b = await _both(supervise, twins, "decided", "awaiting_approval")
    await loop_a.send("APPROVE_PENDING", ANA)
    await loop_a.until_intent(IntentStage.RECORDED)
    assert (len(a.decisions("decided")), b.decisions("decided")) == (1, [])
    seen_b = await loop_b.until_lifecycle("awaiting_approval")
    assert seen_b.intents == []
    await loop_b.send("REJECT_PENDING", {"by": "bo"})
    await loop_b.until_intent(IntentStage.RECORDED)
    made = [*a.decisions("decided"), *b.decisions("decided")]
    assert [(decision["decision"], decision["by"]) for decision in made] == [("approved", "ana"), ("rejected", "bo")]
    assert (await loop_a.status()).reason == "approved"


async def test_service_of_the_other_sprite_at_the_known_address_is_not_believed_and_gets_no_command(
    supervise: Supervisors, twins: Twins
) -> None:
    a, b = twins
    async with Wire.to(a.port) as wire, SpriteServiceClient() as client:
        loop_a = await supervise(a, target=a.target("wired", service_url=wire.url))
        known = await loop_a.until_lifecycle("awaiting_approval")
        # The address now leads to the other sprite, which has the same token, path, loop and state of affairs.
        wire.plug(b.port)
        await loop_a.send("APPROVE_PENDING", ANA)
        seen = await loop_a.until(lambda seen: seen.attention.code is Attention.WRONG_SPRITE, "the mix-up is noticed")
        assert (seen.sprite_id, seen.run_id, seen.cursor) == (known.sprite_id, known.run_id, known.cursor)
        # Had the intent been judged before the mix-up, the look before the command would have stopped it.
        request = ControlInput(
            target=a.target("wired", service_url=wire.url, sprite_id=known.sprite_id),
            transport=Transport.SPRITE_SERVICE,
            intent=Intent.APPROVE_PENDING,
            by="ana",
            key="late",
            trace_id="t",
        )
        outcome = await execute_through_service(client, request)
        assert (outcome.kind, outcome.code) == (ControlOutcomeKind.REFUSED, "wrong_sprite")
        assert (await loop_a.status()).intents[0].stage is IntentStage.RECEIVED
        assert (a.decisions("wired"), b.decisions("wired")) == ([], [])
        # The right one is back: the approval that waited is for it.
        wire.plug(a.port)
        await loop_a.until_intent(IntentStage.RECORDED)
        assert (len(a.decisions("wired")), b.decisions("wired")) == (1, [])


async def test_worker_of_the_other_sprite_on_the_local_queue_is_not_believed_and_does_nothing(
    supervise: Supervisors, twins: Twins
) -> None:
    a, b = twins
    right = a.start_local_worker(supervise.house.address)
    loop_a = await supervise(a, target=a.local_target("queued"), local_only=True)
    known = await loop_a.until_lifecycle("awaiting_approval")
    end(right)
    # Its own name is enough to notice a worker that merely polls the wrong queue,
    async with b.local_worker(supervise.client, serving="a"):
        await loop_a.send("APPROVE_PENDING", ANA)
        seen = await loop_a.until(lambda seen: seen.attention.code is Attention.WRONG_SPRITE, "the queue is wrong")
        assert "serves sprite 'b'" in seen.attention.sentence
        assert seen.intents[0].stage is IntentStage.RECEIVED
    await loop_a.release()
    # and its id where a worker was even started under the name of the other sprite.
    wrong = b.start_local_worker(supervise.house.address, serving="a")
    target = a.local_target("queued").model_copy(update={"sprite_id": known.sprite_id})
    loop_a = await supervise(a, target=target, local_only=True)
    await loop_a.send("APPROVE_PENDING", ANA)
    seen = await loop_a.until(lambda seen: seen.attention.code is Attention.WRONG_SPRITE, "the id is wrong")
    assert str(known.sprite_id) in seen.attention.sentence
    assert seen.intents[0].stage is IntentStage.RECEIVED
    assert (a.decisions("queued"), b.decisions("queued")) == ([], [])
    end(wrong)
    right = a.start_local_worker(supervise.house.address)
    await loop_a.until_intent(IntentStage.RECORDED, timeout_s=PATIENCE_S)
    end(right)
    assert (len(a.decisions("queued")), b.decisions("queued")) == (1, [])


async def test_cancel_of_one_of_two_equal_sprites_leaves_the_run_of_the_other_alive(
    supervise: Supervisors, twins: Twins
) -> None:
    a, b = twins
    loop_a, loop_b = await _both(supervise, twins, "running", "running")
    before = await loop_b.status()
    await loop_a.send("CANCEL_LOOP", ANA)
    await loop_a.until_intent(IntentStage.CONFIRMED)
    await loop_a.until_lifecycle("stopped", "cancelled")
    assert (len(a.commands("cancel")), b.commands("cancel")) == (1, [])
    assert (a.state, (b.state or {}).get("active")) == (None, True)
    # The next look at b is one that was asked for after the cancel.
    await loop_b.send("APPROVE_PENDING", ANA)
    await loop_b.until_intent(IntentStage.REJECTED)
    after = await loop_b.status()
    assert (after.lifecycle, after.transitions) == ("running", before.transitions)
    assert after.process is not None
    assert after.process.state == "alive"
