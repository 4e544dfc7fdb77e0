"""Notices from a real supervisor to a real receiver: each condition opened once and closed once, whatever is down."""

import asyncio
import base64
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from contract.status import Attention, IntentStage
from tests.harness import FAST, House, Supervised, Supervisors
from tests.harness_sprite import CANDIDATE, HANG, HANGING, QUEUE, TOKEN, WAITING, Sprite, loops, runs, until
from tests.peers import Fault, base_peer
from tests.receiver import SECRETS, Receiver, assert_each_told_once, receiving
from workflows.conditions import RELEASED

OPENED, CLOSED = "opened", "closed"
ANA = {"by": "ana"}
BLIND_AFTER_S = 60.0
BlindTask = asyncio.Task[Receiver]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path / "receiver") as started:
        yield started
        assert_each_told_once(started)


@pytest_asyncio.fixture(scope="module", autouse=True)
async def blind_loop(house: House, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BlindTask]:
    """See `_go_blind`. Autouse, because the half minute it takes is free while the other tests of this file run."""
    task = asyncio.create_task(_go_blind(house, tmp_path_factory.mktemp("blind")))
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _go_blind(house: House, folder: Path) -> Receiver:
    """A loop loses its service, and nobody serves its local queue; later the service comes back."""
    with receiving(folder / "receiver") as receiver, Sprite(folder, "unseen", HANGING) as sprite:
        sprite.serve()
        sprite.run()
        await sprite.until_role_works()
        async with Supervisors(house) as supervise:
            loop = await supervise(sprite, webhook=receiver.webhook)
            await loop.until_lifecycle("running")
            await asyncio.to_thread(sprite.stop_service)
            await receiver.until(lambda seen: seen.told, "blind", timeout_s=BLIND_AFTER_S)
            await asyncio.to_thread(sprite.serve)
            await receiver.until(lambda seen: len(seen.told) > 1, "sees again")
            await _delivered(loop)
    return receiver


async def _delivered(loop: Supervised) -> None:
    """Wait until nothing waits, so that a replay meets a supervisor at rest."""
    await loop.until(lambda seen: seen.notices and seen.notices.pending == 0, "all is delivered")


async def test_approval_from_request_to_consumption_is_told_in_order_with_its_run(
    supervise: Supervisors, new_sprite: Any, receiver: Receiver
) -> None:
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    loop = await supervise(sprite, webhook=receiver.webhook)
    sprite.run().wait()
    waiting = await loop.until(lambda seen: seen.attention.code is Attention.APPROVAL_WAITING, "it asks")
    await receiver.until_told(("approval_waiting", OPENED))
    (opened,) = receiver.taken
    assert opened.body["sentence"] == waiting.attention.sentence
    assert opened.body["nextCommand"] == waiting.attention.next_command
    assert (opened.body["runId"], opened.body["iteration"]) == (waiting.run_id, waiting.iteration)
    assert (opened.body["loopId"], opened.body["workflowId"]) == ("demo", loop.id)
    await loop.send("APPROVE_PENDING", ANA)
    await loop.until_intent(IntentStage.RECORDED)
    await receiver.until(lambda seen: len(seen.told) == 3, "it is decided")
    sprite.run().wait()
    await loop.until_lifecycle("complete")
    await receiver.until_told(
        ("approval_waiting", OPENED),
        ("approval_waiting", CLOSED),
        ("approved_not_resumed", OPENED),
        ("approved_not_resumed", CLOSED),
    )
    assert receiver.distinct[1].body["sentence"].startswith("ana approved it.")
    assert {taken.body["subject"] for taken in receiver.distinct} == {f"run {waiting.run_id} of line 1"}
    await _delivered(loop)
    done = await loop.status()
    assert done.conditions == []
    assert done.notices is not None
    assert (done.notices.delivered, done.notices.last_error) == (4, None)


async def test_crashed_run_is_told_and_its_clearing_ends_it(
    supervise: Supervisors, new_sprite: Any, receiver: Receiver
) -> None:
    sprite = new_sprite("acme", loops(demo=runs([HANG], [CANDIDATE])))
    sprite.serve()
    loop = await supervise(sprite, webhook=receiver.webhook)
    process = sprite.run()
    await sprite.until_role_works()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    await receiver.until_told(("crashed", OPENED))
    await loop.send("CANCEL_LOOP", ANA)
    await receiver.until_told(("crashed", OPENED), ("crashed", CLOSED))
    # What the command left behind may be seen before it is heard that it has ended.
    assert re.search(r"stopped now \((cancelled|state_removed)", receiver.distinct[1].body["sentence"])
    await loop.until(lambda seen: seen.reason == "cancelled", "it is known by whom")
    await _delivered(loop)


async def test_refused_token_and_a_service_that_is_away_are_told_and_their_ends(
    supervise: Supervisors, new_sprite: Any, receiver: Receiver
) -> None:
    sprite = new_sprite("acme", HANGING)
    sprite.serve()
    sprite.run()
    await sprite.until_role_works()
    async with sprite.local_worker(supervise.client):
        loop = await supervise(sprite, webhook=receiver.webhook)
        await loop.until_lifecycle("running")
        sprite.write_token("an-old-token")
        await loop.handle.execute_update("OBSERVE_NOW")
        await receiver.until_told(("unauthorized", OPENED))
        sprite.write_token(TOKEN)
        told = [("unauthorized", OPENED), ("unauthorized", CLOSED)]
        await receiver.until_told(*told)
        sprite.stop_service()
        await receiver.until_told(*told, ("service_down", OPENED))
        down = await loop.until(lambda seen: seen.attention.code is Attention.SERVICE_DOWN, "it is listed")
        assert down.transport.state == "local"
        query = f"WorkflowId = '{loop.id}' AND LoopAttention = 'service_down'"

        async def is_found() -> bool:
            return (await supervise.client.count_workflows(query)).count == 1

        await until(is_found, "it can be searched for")
        sprite.serve()
        await receiver.until_told(*told, ("service_down", OPENED), ("service_down", CLOSED))
        await _delivered(loop)


async def test_intent_of_which_nobody_can_know_is_told_and_the_evidence_that_comes_later(
    supervise: Supervisors, new_sprite: Any, receiver: Receiver
) -> None:
    # A service of the base contract keeps no record that could be asked. The command does what it should, and waits
    # with it until the wait for evidence is over.
    sprite = new_sprite("acme", HANGING)
    slow = sprite.folder / "slow" / "superloop.sh"
    slow.parent.mkdir()
    gate = sprite.folder / "gate"
    slow.write_text(
        f'#!/bin/sh\n(while [ ! -e {gate} ]; do sleep 0.05; done; exec {sprite.runtime} "$@") >/dev/null 2>&1 &\n'
    )
    slow.chmod(0o755)
    with base_peer(sprite.repo, token=TOKEN, runtime=slow) as peer:
        peer.fault, peer.faulty = Fault.EXECUTE_AND_DROP, lambda seen: seen.method == "POST"
        sprite.run()
        await sprite.until_role_works()
        options = FAST.model_copy(update={"cancel_confirm_wait_s": 3.0})
        target = sprite.target(service_url=peer.url)
        loop = await supervise(sprite, target=target, webhook=receiver.webhook, options=options)
        await loop.until_lifecycle("running")
        await loop.send("CANCEL_LOOP", {**ANA, "idempotencyKey": "k"})
        await receiver.until_told(("ambiguous", OPENED), timeout_s=60.0)
        assert receiver.distinct[0].body["subject"] == "intent k"
        gate.touch()
        await receiver.until_told(("ambiguous", OPENED), ("ambiguous", CLOSED), timeout_s=60.0)
        assert receiver.distinct[1].body["sentence"].startswith("Confirmed")
        await _delivered(loop)


async def test_receiver_that_is_down_gets_everything_once_and_in_order_when_it_is_back(
    supervise: Supervisors, new_sprite: Any, receiver: Receiver
) -> None:
    receiver.stop()
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    # It leaves for a fresh run again and again meanwhile.
    options = FAST.model_copy(update={"continue_as_new_events": 40})
    loop = await supervise(sprite, webhook=receiver.webhook, options=options)
    sprite.run().wait()
    await loop.until_lifecycle("awaiting_approval")
    await loop.send("APPROVE_PENDING", ANA)
    await loop.until_intent(IntentStage.RECORDED)
    first = (await loop.status()).as_of.run_id
    while (await loop.status()).as_of.run_id == first:
        await loop.handle.signal("APPROVE_PENDING", {})
    seen = await loop.status()
    assert seen.notices is not None
    assert seen.notices.pending == 3
    receiver.start()
    sprite.run().wait()
    await receiver.until_told(
        ("approval_waiting", OPENED),
        ("approval_waiting", CLOSED),
        ("approved_not_resumed", OPENED),
        ("approved_not_resumed", CLOSED),
    )
    await _delivered(loop)


async def test_receiver_that_fails_halfway_and_is_slow_is_asked_again_under_the_same_ids(
    supervise: Supervisors, new_sprite: Any, receiver: Receiver
) -> None:
    receiver.status = 500
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    loop = await supervise(sprite, webhook=receiver.webhook)
    sprite.run().wait()
    await receiver.until(lambda seen: len(seen.tries) >= 2, "two tries")
    receiver.hangs, receiver.status = True, 200
    await receiver.until(lambda seen: len(seen.tries) >= 3, "a try that hangs")
    # A receiver that hangs holds up nothing else.
    await loop.send("APPROVE_PENDING", ANA)
    await loop.until_intent(IntentStage.RECORDED)
    receiver.hangs = False
    receiver.stop()
    receiver.start()
    await receiver.until(lambda seen: len(seen.told) == 3, "all is told", timeout_s=60.0)
    assert len(set(receiver.tries)) == 3
    await _delivered(loop)


async def test_address_that_does_not_work_is_seen_in_the_status_and_nothing_secret_is_anywhere(
    supervise: Supervisors, new_sprite: Any, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 404
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    sprite.run().wait()
    with caplog.at_level("DEBUG"):
        loop = await supervise(sprite, webhook=receiver.webhook)
        failing = await loop.until(lambda seen: seen.notices and seen.notices.last_error, "the failure is shown")
    assert failing.notices is not None
    assert failing.notices.last_error is not None
    assert "answered 404" in failing.notices.last_error
    assert failing.notices.pending == 1
    history = await loop.history()
    described = await loop.handle.describe()
    places = {
        "status": failing.model_dump_json(),
        "history": history.to_json() + "".join(_payloads(history.to_json_dict())),
        "description": str(described.raw_description),
        "log": caplog.text,
    }
    assert {name for name, text in places.items() if any(secret in text for secret in SECRETS)} == set()
    receiver.status = 200
    # Who mends it and cannot wait releases the loop: what is open is told, and that it is over.
    await loop.release()
    assert receiver.told == [("approval_waiting", OPENED), ("approval_waiting", CLOSED)]
    assert receiver.distinct[1].body["sentence"] == RELEASED


def _payloads(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("data"), str):
            yield base64.b64decode(value["data"]).decode("utf-8", "replace")
        for item in value.values():
            yield from _payloads(item)
    elif isinstance(value, list):
        for item in value:
            yield from _payloads(item)


async def test_release_while_nobody_takes_notices_ends_in_time_and_says_what_was_not_delivered(
    supervise: Supervisors, new_sprite: Any, receiver: Receiver
) -> None:
    receiver.stop()
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    sprite.run().wait()
    loop = await supervise(sprite, webhook=receiver.webhook)
    await loop.until_lifecycle("awaiting_approval")
    await loop.release()
    released = await loop.status()
    assert released.notices is not None
    assert (released.notices.pending, released.notices.undelivered_count) == (0, 2)
    assert released.conditions == []


async def test_reset_tells_again_under_the_same_ids_only(
    supervise: Supervisors, new_sprite: Any, receiver: Receiver
) -> None:
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    sprite.run().wait()
    loop = await supervise(sprite, webhook=receiver.webhook)
    await receiver.until_told(("approval_waiting", OPENED))
    await _delivered(loop)
    run_id = (await loop.status()).as_of.run_id
    arguments = ["workflow", "reset", "--workflow-id", loop.id, "--type", "FirstWorkflowTask", "--reason", "a test"]
    done = await supervise.house.temporal(*arguments)
    assert done.returncode == 0, done.stderr
    await loop.until(lambda seen: seen.as_of.run_id != run_id and seen.conditions, "it has begun again")
    await receiver.until(lambda seen: len(seen.taken) == 2, "told again")
    assert receiver.told == [("approval_waiting", OPENED)]
    await _delivered(loop)


async def test_loop_without_a_webhook_has_nothing_of_it_in_its_history(supervise: Supervisors, new_sprite: Any) -> None:
    sprite = new_sprite("acme", WAITING)
    sprite.serve()
    sprite.run().wait()
    loop = await supervise(sprite)
    seen = await loop.until_lifecycle("awaiting_approval")
    assert seen.notices is None
    assert [condition.kind for condition in seen.conditions] == [Attention.APPROVAL_WAITING]
    text = json.dumps((await loop.history()).to_json_dict())
    assert f"{QUEUE}-notices" not in text
    assert '"name": "deliver"' not in text


# Last, because it has to wait for what the fixture began.
async def test_blind_is_told_once_and_once_that_it_is_over(blind_loop: BlindTask) -> None:
    receiver = await blind_loop
    assert receiver.told == [("blind", OPENED), ("blind", CLOSED)]
    assert_each_told_once(receiver)
    assert "last seen" in receiver.distinct[0].body["sentence"]
    assert receiver.distinct[0].body["transport"] == "blind"
