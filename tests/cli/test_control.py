"""`approve`, `reject` and `cancel`: what is asked, what is sent, and how every outcome ends."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from contract.intents import Expect
from contract.status import Attention, AttentionReport, IntentStage, Lifecycle, StatusReport
from tests.cli.canned import start_canned
from tests.cli.conftest import QUEUE, Place
from tests.cli.reports import RUN, SHA, record, report, waiting
from tests.harness_sprite import until

S = IntentStage


async def sent(handle: WorkflowHandle[Any, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = await handle.query("messages")
    return messages


async def test_approve_sends_what_was_shown_as_a_precondition_and_waits_for_recorded(place: Place) -> None:
    async with place.worker():
        handle = await start_canned(
            place.client, QUEUE, waiting(), stages=[S.RECEIVED, S.ACCEPTED, S.EXECUTING, S.RECORDED]
        )
        done = await place.ops("approve", "demo", "--note", "looks fine", "--yes")
        (message,) = await sent(handle)
    assert done.code == 0, done
    assert done.out.startswith("The sentence about recorded; see: ")
    assert "ops-manager status acme/demo" in done.out
    for stage in ("received", "accepted", "executing", "recorded: as told"):
        assert f"Z {stage}" in done.err
    assert (message["name"], message["by"], message["note"]) == ("APPROVE_PENDING", "ana", "looks fine")
    assert message["expect"] == {"spriteId": "sprite-1", "runId": RUN, "iteration": 2, "approvalSha256": SHA}
    left = datetime.fromisoformat(message["notAfter"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(seconds=60)
    assert message["idempotencyKey"]


@pytest.mark.parametrize(
    ("stage", "attention", "code"),
    [
        (S.CONFIRMED, Attention.NONE, 0),
        (S.REJECTED, Attention.NONE, 4),
        (S.FAILED_COMMAND, Attention.NONE, 4),
        (S.AMBIGUOUS, Attention.NONE, 6),
        (S.EXPIRED, Attention.NONE, 4),
        (S.EXPIRED, Attention.BLIND, 7),
        (S.EXPIRED, Attention.UNAUTHORIZED, 8),
    ],
)
async def test_outcome_decides_the_exit_code_and_its_sentence_is_the_data(
    place: Place, stage: IntentStage, attention: Attention, code: int
) -> None:
    shown = report(attention=AttentionReport(code=attention))
    async with place.worker():
        await start_canned(place.client, QUEUE, shown, stages=[S.RECEIVED, stage])
        done = await place.ops("reject", "demo", "--by", "bo", "--yes")
    assert done.code == code, done
    assert f"The sentence about {stage.value}" in done.out


@pytest.mark.parametrize(
    ("stage", "attention", "wait_for", "code", "words"),
    [
        (S.RECEIVED, Attention.NONE, "recorded", 9, "NOT executed within 1 s"),
        (S.ACCEPTED, Attention.BLIND, "recorded", 7, "NOT executed within 1 s"),
        (S.RECEIVED, Attention.UNAUTHORIZED, "recorded", 8, "NOT executed within 1 s"),
        (S.EXECUTING, Attention.NONE, "recorded", 6, "Unknown: executing"),
        (S.RECORDED, Attention.NONE, "confirmed", 6, "Recorded, but not confirmed within 1 s"),
    ],
)
async def test_timeout_says_exactly_how_far_it_came(
    place: Place, stage: IntentStage, attention: Attention, wait_for: str, code: int, words: str
) -> None:
    shown = waiting(attention=AttentionReport(code=attention, sentence="Because of this."))
    async with place.worker():
        await start_canned(place.client, QUEUE, shown, stages=[S.RECEIVED, stage])
        done = await place.ops("approve", "demo", "--yes", "--timeout", "1", "--wait-for", wait_for)
    assert done.code == code, done
    assert words in done.out
    assert "ops-manager status acme/demo" in done.out


async def test_sending_again_under_a_key_is_the_same_message_whatever_has_happened_since(place: Place) -> None:
    async with place.worker():
        bound = Expect(run_id=RUN, iteration=2, approval_sha256=SHA)
        before = record(stage=S.RECORDED, key="k1", expect=bound)
        handle = await start_canned(
            place.client, QUEUE, report(Lifecycle.DECIDED, intents=[before]), stages=[S.RECEIVED, S.RECORDED]
        )
        await place.ops("approve", "demo", "--yes", "--idempotency-key", "k1")
        (message,) = await sent(handle)
    assert message["expect"] == {"runId": RUN, "iteration": 2, "approvalSha256": SHA}


async def test_run_that_is_demanded_takes_the_place_of_the_one_that_is_shown(place: Place) -> None:
    async with place.worker():
        handle = await start_canned(place.client, QUEUE, waiting(), stages=[S.RECEIVED, S.RECORDED])
        await place.ops("approve", "demo", "--yes", "--expect-run", "2026-11-22T02:00:00Z")
        (message,) = await sent(handle)
    assert message["expect"]["runId"] == "2026-11-22T02:00:00Z"
    assert message["expect"]["approvalSha256"] == SHA


async def test_sending_again_after_nothing_was_done_is_bound_to_what_is_shown_now(place: Place) -> None:
    async with place.worker():
        before = record(stage=S.EXPIRED, key="k1", expect=Expect(run_id="2020-01-01T00:00:00Z"))
        handle = await start_canned(place.client, QUEUE, waiting(intents=[before]), stages=[S.RECEIVED, S.RECORDED])
        await place.ops("approve", "demo", "--yes", "--idempotency-key", "k1")
        (message,) = await sent(handle)
    assert message["expect"]["runId"] == RUN


async def test_no_wait_sends_and_returns(place: Place) -> None:
    async with place.worker():
        handle = await start_canned(place.client, QUEUE, waiting())
        done = await place.ops("approve", "demo", "--yes", "--no-wait", "--idempotency-key", "my-key")
        (message,) = await sent(handle)
    assert done.code == 0, done
    assert "my-key" in done.out
    assert message["idempotencyKey"] == "my-key"


async def test_cancel_waits_for_confirmed_by_default(place: Place) -> None:
    async with place.worker():
        handle = await start_canned(place.client, QUEUE, report(), stages=[S.RECEIVED, S.RECORDED])
        done = await place.ops("cancel", "demo", "--yes", "--timeout", "1")
        (message,) = await sent(handle)
    assert done.code == 6, done
    assert message["expect"] == {"spriteId": "sprite-1", "runId": RUN}


async def test_key_that_was_used_before_shows_what_became_of_it(place: Place) -> None:
    shown: StatusReport = waiting(
        intents=[record(S.CONFIRMED, key="again", received=2, sentence="Confirmed long ago.")]
    )
    async with place.worker():
        await start_canned(place.client, QUEUE, shown, stages=[S.RECEIVED])
        done = await place.ops("approve", "demo", "--yes", "--idempotency-key", "again")
    assert done.code == 0, done
    assert "This key was sent before" in done.err
    assert "Confirmed long ago." in done.out


async def test_without_a_worker_it_is_queued_not_executed_and_exits_9(place: Place) -> None:
    handle = await start_canned(place.client, QUEUE, waiting())
    done = await place.ops("approve", "demo", "--yes")
    assert done.code == 9, done
    assert "queued, NOT executed" in done.out
    assert "NO WORKER since" in done.err
    async with place.worker():
        (message,) = await sent(handle)
    assert "runId" not in json.dumps(message), "nobody has seen a run, so none is claimed"


async def test_on_a_terminal_it_shows_asks_and_sends_only_on_yes(place: Place) -> None:
    async with place.worker():
        handle = await start_canned(place.client, QUEUE, waiting(), stages=[S.RECEIVED, S.RECORDED])
        no = await place.ops.on_a_terminal("approve", "demo", type_at="[y/N]", typed="n")
        assert (no.code, await sent(handle)) == (4, [])
        yes = await place.ops.on_a_terminal("approve", "demo", type_at="[y/N]", typed="y")
        assert yes.code == 0, yes.out
        assert len(await sent(handle)) == 1
    assert "Nothing was sent." in no.out
    for shown in (RUN, "iteration  2", "last event approval_requested", " ago", "tests ok, lifecycle ok", "matched"):
        assert shown in yes.out[: yes.out.index("[y/N]")]
    assert max(map(len, yes.out[: yes.out.index("[y/N]")].splitlines())) <= 80


async def test_ctrl_c_at_the_question_sends_nothing_and_shows_no_traceback(place: Place) -> None:
    async with place.worker():
        handle = await start_canned(place.client, QUEUE, waiting())
        done = await place.ops.on_a_terminal("approve", "demo", type_at="[y/N]", interrupt=True)
        assert await sent(handle) == []
    assert done.code == 130, done.out
    assert "Traceback" not in done.out


async def test_ctrl_c_while_waiting_ends_the_wait_and_not_the_intent(place: Place) -> None:
    async with place.worker():
        handle = await start_canned(place.client, QUEUE, waiting())
        done = await place.ops.on_a_terminal("approve", "demo", "--yes", type_at="Ctrl-C ends the wait", interrupt=True)
        assert len(await sent(handle)) == 1
    assert done.code == 130, done.out
    assert "Whatever was sent before goes on" in done.out
    assert "Traceback" not in done.out


async def test_worker_that_goes_away_after_the_message_was_sent_leaves_it_unknown_not_denied(place: Place) -> None:
    async def arrived() -> bool:
        return bool(await sent(handle))

    handle = await start_canned(place.client, QUEUE, waiting(), stages=[S.RECEIVED])
    async with place.worker():
        asking = asyncio.create_task(place.ops("approve", "demo", "--yes", "--idempotency-key", "mine"))
        await until(arrived, "the message arrives")
    done = await asking
    assert done.code == 6, done
    assert "Unknown: sent," in done.out
    assert "--idempotency-key mine" in done.out
