"""The commands against the real supervisor, a real service and the stand-in runtime."""

import json
from typing import TYPE_CHECKING, Any

import pytest

from contract.status import IntentStage
from tests import peers
from tests.cli.ops import Ops
from tests.harness_sprite import CANDIDATE, HANG, HANGING, LOOP, QUEUE, TOKEN, WAITING, Sprite, loops, runs
from tests.peers import base_peer

if TYPE_CHECKING:
    from tests.harness import House, Supervisors


@pytest.fixture
def ops(house: "House") -> Ops:
    return Ops({"TEMPORAL_ADDRESS": house.address, "OPS_MANAGER_TASK_QUEUE": QUEUE, "USER": "ana"})


def about(sprite: Sprite) -> str:
    return f"{sprite.name}/{LOOP}"


async def test_approval_is_recorded_and_confirmed_when_a_run_consumes_it(
    ops: Ops, supervise: "Supervisors", new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    sprite.serve()
    sprite.run()
    await sprite.until_event("approval_requested")
    supervised = await supervise(sprite)
    await supervised.until_lifecycle("awaiting_approval")
    (run_id,) = {event["run_id"] for event in sprite.events()}

    done = await ops("approve", about(sprite), "--note", "looks good", "--yes")
    assert done.code == 0, done
    assert done.out.startswith(f"Recorded: ana approved run {run_id} iteration 1")
    (decision,) = sprite.decisions()
    assert (decision["decision"], decision["by"], decision["note"]) == ("approved", "ana", "looks good")

    again = await ops("approve", about(sprite), "--yes")
    assert again.code == 4, again
    assert "Nothing done: ana already approved this" in again.out
    assert len(sprite.commands("approve")) == 1

    sprite.run().wait()
    await supervised.until_intent(IntentStage.CONFIRMED, index=0)
    written = len(sprite.events())
    await supervised.until(lambda seen: seen.cursor.event_line_offset == written, "every line is taken")
    shown = json.loads((await ops("status", about(sprite), "-o", "json")).out)
    assert [record["stage"] for record in shown["intents"]] == ["confirmed", "rejected"]
    assert shown["cursor"]["eventLineOffset"] == written
    assert shown["asOf"]["historyLength"] > 0


async def test_request_that_was_answered_since_it_was_shown_is_not_approved(
    ops: Ops, supervise: "Supervisors", new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    sprite.serve()
    sprite.run()
    await sprite.until_event("approval_requested")
    supervised = await supervise(sprite)
    await supervised.until_lifecycle("awaiting_approval")

    done = await ops.on_a_terminal("approve", about(sprite), type_at="[y/N]", typed="y", before=lambda: _reject(sprite))
    assert done.code == 4, done.out
    assert "Nothing done: bo already rejected this" in done.out
    assert [decision["by"] for decision in sprite.decisions()] == ["bo"]


def _reject(sprite: Sprite) -> None:
    sprite.superloop("approve", "--loop", LOOP, "--by", "bo", "--reject")


async def test_run_that_began_since_the_last_look_is_shown_and_cancelled(
    ops: Ops, supervise: "Supervisors", new_sprite: Any
) -> None:
    from tests.harness import FAST

    sprite: Sprite = new_sprite("acme", loops(demo=runs([CANDIDATE], [HANG])))
    sprite.serve()
    sprite.run().wait()
    supervised = await supervise(sprite, options=FAST.model_copy(update={"idle_poll_interval_s": 3600.0}))
    await supervised.until_lifecycle("complete")
    sprite.run()
    await sprite.until_event("loop_start", count=2)
    await sprite.until_role_works()
    done = await ops("cancel", about(sprite), "--yes")
    assert done.code == 0, done
    assert f"Cancel {about(sprite)}: ends its run" in done.err
    assert done.out.startswith("Confirmed: ana cancelled run ")


async def test_cancel_is_confirmed_by_the_end_of_the_process_and_then_refused(
    ops: Ops, supervise: "Supervisors", new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("acme", HANGING)
    sprite.serve()
    run = sprite.run()
    await sprite.until_role_works()
    supervised = await supervise(sprite)
    await supervised.until_lifecycle("running")

    done = await ops("cancel", about(sprite), "--yes")
    assert done.code == 0, done
    assert "Confirmed: ana cancelled run" in done.out
    assert run.wait(10) == 143
    assert "process" in done.err[: done.err.index("received")]

    again = await ops("cancel", about(sprite), "--yes")
    assert again.code == 4, again
    assert again.out.startswith("Nothing done: nothing to cancel")


async def test_supervise_begins_once_finds_itself_again_and_refuses_another_way_to_the_loop(
    ops: Ops, house: "House", new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("fresh", WAITING)
    sprite.serve()
    reach = ("--service-url", sprite.url, "--token", f"file:{sprite.token_file}", "--sprite", sprite.name)
    try:
        listed = await ops("supervise", *reach)
        assert listed.code == 0, listed
        assert f"--loop {LOOP}" in listed.out
        assert TOKEN not in listed.out + listed.err

        first = await ops("supervise", *reach, "--loop", LOOP)
        assert (first.code, "is supervised now" in first.out) == (0, True), first
        second = await ops("supervise", *reach, "--loop", LOOP)
        assert (second.code, "was supervised already" in second.out) == (0, True), second
        other = await ops("supervise", "--repo", str(sprite.repo), "--sprite", sprite.name, "--loop", LOOP)
        assert other.code == 4, other
        assert "release" in other.err
        history = await house.client.get_workflow_handle(f"loop:{sprite.name}:{LOOP}").fetch_history()
        assert TOKEN not in history.to_json()
    finally:
        released = await ops("release", about(sprite))
    assert released.code == 0, released


async def test_doctor_follows_a_loop_to_its_service_and_names_what_is_wrong(
    ops: Ops, supervise: "Supervisors", new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    sprite.serve()
    supervised = await supervise(sprite)
    well = await ops("doctor", about(sprite), "-o", "json")
    found = {finding["about"]: finding for finding in json.loads(well.out)}
    assert well.code == 0, well
    for about_what in (
        "Temporal",
        "search attrs",
        "supervision",
        "observation",
        "control",
        "service",
        "clock",
        "token",
    ):
        assert found[about_what]["level"] == "ok", found[about_what]
    assert found["schema"]["detail"].startswith("v1")
    assert f"{LOOP} (supervised)" in found["known loops"]["detail"]

    sprite.write_token("another token")
    refused = await ops("doctor", about(sprite))
    assert refused.code == 8, refused
    assert "fail" in refused.out
    assert "401" in refused.out

    sprite.stop_service()
    gone = await ops("doctor", about(sprite))
    assert gone.code == 7, gone
    assert "connection refused" in gone.out
    assert supervised.id


async def test_service_of_the_base_contract_is_listed_and_checked_with_what_it_offers(
    ops: Ops, supervise: "Supervisors", new_sprite: Any
) -> None:
    sprite: Sprite = new_sprite("acme", WAITING)
    sprite.run()
    await sprite.until_event("approval_requested")
    with base_peer(sprite.repo) as peer:
        reach = ("--service-url", peer.url, "--token", f"file:{sprite.token_file}", "--sprite", sprite.name)
        sprite.write_token(peers.TOKEN)
        listed = await ops("supervise", *reach)
        assert (listed.code, "--loop ID" in listed.err) == (2, True), listed

        await supervise(sprite, target=sprite.target(service_url=peer.url))
        well = await ops("doctor", about(sprite), "-o", "json")
        found = {finding["about"]: finding for finding in json.loads(well.out)}
        assert well.code == 0, well
        assert [found[what]["level"] for what in ("service", "token", "schema", "known loops")] == ["ok"] * 4

        sprite.write_token("another token")
        refused = await ops("supervise", *reach)
        assert (refused.code, "401" in refused.err) == (8, True), refused
