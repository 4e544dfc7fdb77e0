"""Commands through a service of the base contract, through ours, and locally: what was done, and what is told of it."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.bundles import LocalActivities, ServiceActivities
from activities.client import SpriteServiceClient
from contract.intents import Expect, Intent
from contract.observation import (
    ControlOutcomeKind,
    LookUpKind,
)
from tests.activities.hands import Hand
from tests.activities.support import target, until
from tests.control.support import write_state
from tests.http.support import Service, running

SIDES = ("base", "ours", "local")


@pytest.fixture
async def service(waiting_repo: Path, runtime: Path, tmp_path: Path) -> AsyncIterator[Service]:
    async with running(waiting_repo, runtime, tmp_path / "state") as one:
        yield one


@pytest.fixture
async def ours(service: Service, client: SpriteServiceClient, waiting_repo: Path, runtime: Path) -> Hand:
    """Our own service."""
    where = target(service_url=f"http://{service.host}:{service.port}", sprite_id=service.reader.sprite_id)
    return Hand("ours", ServiceActivities(client), where, waiting_repo, runtime, service.reader.sprite_id)


@pytest.fixture
def local(service: Service, waiting_repo: Path, runtime: Path) -> Hand:
    """The local transport beside our service, over the same sprite."""
    where = target(sprite_id=service.reader.sprite_id, repo_path=str(waiting_repo))
    bundle = LocalActivities(service.reader, service.controller, "acme")
    return Hand("local", bundle, where, waiting_repo, runtime, service.reader.sprite_id)


@pytest.fixture(params=SIDES)
def hand(request: pytest.FixtureRequest, base: Hand, ours: Hand, local: Hand) -> Hand:
    return {"base": base, "ours": ours, "local": local}[request.param]


def sha_of_approval(repo: Path) -> str:
    return hashlib.sha256((repo / ".superloop/loops/demo/approval.json").read_bytes()).hexdigest()


async def test_an_approval_is_executed_once_and_told(hand: Hand) -> None:
    outcome = await hand.send(note="fine by me")
    assert (outcome.kind, outcome.exit_code, outcome.output) == (ControlOutcomeKind.EXECUTED, 0, "done")
    assert hand.effects == [f"approve --repo {hand.repo} --loop demo --by ana --note fine by me"]
    assert outcome.answered_at is not None
    assert outcome.answered_at >= outcome.sent_at


async def test_a_rejection_is_executed_as_one(hand: Hand) -> None:
    assert (await hand.send(Intent.REJECT_PENDING)).kind is ControlOutcomeKind.EXECUTED
    assert "--reject" in hand.effects[0]


async def test_a_failing_command_is_told_with_its_output(hand: Hand) -> None:
    hand.runtime.write_text(hand.runtime.read_text() + "echo error: not pending >&2\nexit 1\n")
    outcome = await hand.send()
    assert (outcome.kind, outcome.exit_code) == (ControlOutcomeKind.FAILED_COMMAND, 1)
    assert "error: not pending" in outcome.output


async def test_a_repeated_key_does_nothing_again(hand: Hand) -> None:
    await hand.send()
    again = await hand.send()
    assert (again.kind, again.replayed) == (ControlOutcomeKind.EXECUTED, True)
    assert len(hand.effects) == 1


async def test_a_key_of_another_intent_is_refused(hand: Hand) -> None:
    await hand.send()
    outcome = await hand.send(Intent.REJECT_PENDING)
    assert (outcome.kind, outcome.code) == (ControlOutcomeKind.REFUSED, "key_reused")
    assert len(hand.effects) == 1


@pytest.mark.parametrize(
    "expect",
    [
        Expect(run_id="R0"),
        Expect(iteration=9),
        Expect(approval_sha256="0123456789abcdef"),
        Expect(run_id="R1", iteration=2),
    ],
)
async def test_an_expectation_that_does_not_hold_is_refused_without_effect(hand: Hand, expect: Expect) -> None:
    outcome = await hand.send(expect=expect)
    assert (outcome.kind, outcome.code) == (ControlOutcomeKind.REFUSED, "precondition_failed")
    assert "no effect" in outcome.message
    assert outcome.current["runId"] == "R1"
    assert hand.effects == []


async def test_an_expectation_that_holds_lets_it_through(hand: Hand) -> None:
    expect = Expect(sprite_id=hand.sprite_id, run_id="R1", iteration=3, approval_sha256=sha_of_approval(hand.repo)[:16])
    assert (await hand.send(expect=expect)).kind is ControlOutcomeKind.EXECUTED


async def test_a_cancel_with_nothing_running_is_refused_without_effect(hand: Hand) -> None:
    write_state(hand.repo, active=False)
    outcome = await hand.send(Intent.CANCEL_LOOP)
    assert (outcome.kind, outcome.code) == (ControlOutcomeKind.REFUSED, "nothing_to_cancel")
    assert hand.effects == []


async def test_a_cancel_while_another_loop_is_active_is_refused_without_effect(hand: Hand) -> None:
    write_state(hand.repo, active=True, loop="neighbour")
    outcome = await hand.send(Intent.CANCEL_LOOP)
    assert (outcome.kind, outcome.code) == (ControlOutcomeKind.REFUSED, "other_loop_active")
    assert hand.effects == []


async def test_a_crashed_run_is_cleared(hand: Hand) -> None:
    write_state(hand.repo, active=True)
    assert (await hand.send(Intent.CANCEL_LOOP, expect=Expect(run_id="R1"))).kind is ControlOutcomeKind.EXECUTED
    assert hand.effects == [f"cancel --repo {hand.repo}"]


async def test_an_unknown_loop_is_refused_without_effect(hand: Hand) -> None:
    outcome = await hand.send(Intent.CANCEL_LOOP, target=hand.target.model_copy(update={"loop_id": "nope"}))
    assert outcome.kind is ControlOutcomeKind.REFUSED
    assert hand.effects == []


async def test_a_name_no_runtime_could_take_is_refused_before_anything(hand: Hand) -> None:
    outcome = await hand.send(by="x" * 500)
    assert (outcome.kind, outcome.code) == (ControlOutcomeKind.REFUSED, "invalid_request")
    assert hand.effects == []


async def test_another_repo_path_is_refused_without_effect(hand: Hand) -> None:
    outcome = await hand.send(target=hand.target.model_copy(update={"repo_path": "/srv/elsewhere"}))
    assert (outcome.kind, outcome.code) == (ControlOutcomeKind.REFUSED, "wrong_sprite")
    assert hand.effects == []


@pytest.mark.parametrize("kind", ["ours", "local"])
async def test_another_sprite_is_refused_without_effect(kind: str, ours: Hand, local: Hand) -> None:
    hand = {"ours": ours, "local": local}[kind]
    outcome = await hand.send(target=hand.target.model_copy(update={"sprite_id": "another-sprite"}))
    assert (outcome.kind, outcome.code) == (ControlOutcomeKind.REFUSED, "wrong_sprite")
    looked = await hand.look_up(target=hand.target.model_copy(update={"sprite_id": "another-sprite"}))
    assert looked.kind is LookUpKind.UNREACHABLE
    assert hand.effects == []


async def test_the_local_worker_of_another_name_acts_on_nothing(local: Hand) -> None:
    outcome = await local.send(target=local.target.model_copy(update={"sprite": "other"}))
    assert (outcome.kind, outcome.code) == (ControlOutcomeKind.REFUSED, "wrong_sprite")
    assert local.effects == []


# What only our own sprite does.


async def test_our_service_is_bound_to_its_sprite(ours: Hand, service: Service) -> None:
    await ours.send()
    record = (await service.get("/ops/control/k-1?loopId=demo")).json()
    assert record["result"]["requestedBy"] == "ana"
    assert record["spriteId"] == service.reader.sprite_id


@pytest.mark.parametrize("first", ["ours", "local"])
async def test_one_key_through_both_transports_is_one_effect(first: str, ours: Hand, local: Hand) -> None:
    one, other = (ours, local) if first == "ours" else (local, ours)
    expect = Expect(run_id="R1", iteration=3)
    assert (await one.send(expect=expect)).kind is ControlOutcomeKind.EXECUTED
    again = await other.send(expect=expect)
    assert (again.kind, again.replayed) == (ControlOutcomeKind.EXECUTED, True)
    assert len(ours.effects) == 1


@pytest.mark.parametrize("kind", ["ours", "local"])
@pytest.mark.parametrize("key", ["k-1", "a/b c%2F?#", "..", "x" * 200])
async def test_what_the_sprite_knows_of_a_key(kind: str, key: str, ours: Hand, local: Hand) -> None:
    hand = {"ours": ours, "local": local}[kind]
    assert (await hand.look_up(key)).kind is LookUpKind.UNKNOWN_KEY
    await hand.send(key=key)
    known = await hand.look_up(key)
    assert known.kind is LookUpKind.KNOWN
    assert known.outcome is not None
    assert (known.outcome.kind, known.outcome.exit_code) == (ControlOutcomeKind.EXECUTED, 0)
    assert known.outcome.argv[1] == "approve"


@pytest.mark.parametrize("kind", ["ours", "local"])
async def test_a_command_under_way_is_in_flight(kind: str, ours: Hand, local: Hand) -> None:
    hand = {"ours": ours, "local": local}[kind]
    release = hand.repo / "release"
    hand.runtime.write_text(hand.runtime.read_text() + f"while [ ! -e {release} ]; do sleep 0.05; done\n")
    sending = asyncio.create_task(hand.send())
    await until(lambda: hand.effects)
    assert (await hand.look_up()).kind is LookUpKind.IN_FLIGHT
    assert (await hand.send()).kind is ControlOutcomeKind.IN_FLIGHT
    release.touch()
    assert (await sending).kind is ControlOutcomeKind.EXECUTED
    assert len(hand.effects) == 1


async def test_a_run_without_an_event_log_can_still_be_cleared_by_our_service(ours: Hand) -> None:
    (ours.repo / ".superloop/loops/demo/events.jsonl").unlink()
    write_state(ours.repo, active=True)
    assert (await ours.send(Intent.CANCEL_LOOP)).kind is ControlOutcomeKind.EXECUTED


async def test_no_outcome_holds_the_token(hand: Hand) -> None:
    told = json.dumps([(await hand.send()).model_dump(mode="json"), (await hand.look_up()).model_dump(mode="json")])
    assert "test-token" not in told
