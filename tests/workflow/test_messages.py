"""Whatever an operator can send with the Temporal CLI: every mistake is a recorded rejection, and none hurts.

A mistake must not wedge the workflow (a failed task is retried for ever), must not end it, and must not vanish.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from contract.status import IntentStage, StatusReport
from tests.harness import House, Supervised, Supervisors
from tests.harness_history import failed_tasks
from tests.harness_sprite import WAITING, Sprite

GOOD = '{"by":"ana"}'
UNDECODABLE = ("--input-meta", "encoding=binary/encrypted")

BAD_MESSAGES = {
    # name: (signal, inputs, what the reason must tell the operator)
    "no input": ("APPROVE_PENDING", [], ["no arguments", GOOD]),
    "null": ("APPROVE_PENDING", ["--input", "null"], ["must say who asks", GOOD]),
    "empty object": ("APPROVE_PENDING", ["--input", "{}"], ["must say who asks", GOOD]),
    "by missing": ("APPROVE_PENDING", ["--input", '{"note":"x"}'], ["by is required", GOOD]),
    "by blank": ("APPROVE_PENDING", ["--input", '{"by":"  "}'], ["by must name who asks"]),
    "string": ("APPROVE_PENDING", ["--input", '"ana"'], ["not a string", GOOD]),
    "number": ("APPROVE_PENDING", ["--input", "3"], ["not a number", GOOD]),
    "array": ("APPROVE_PENDING", ["--input", '["ana"]'], ["not an array", GOOD]),
    "boolean": ("CANCEL_LOOP", ["--input", "true"], ["not a boolean", GOOD]),
    "two inputs": ("APPROVE_PENDING", ["--input", GOOD, "--input", GOOD], ["2 arguments", GOOD]),
    "two inputs, undecodable": (
        "APPROVE_PENDING",
        ["--input", GOOD, "--input", GOOD, *UNDECODABLE],
        ["2 arguments", GOOD],
    ),
    "wrong field type": ("APPROVE_PENDING", ["--input", '{"by":3}'], ["by should be a valid string"]),
    "wrong flag type": ("APPROVE_PENDING", ["--input", '{"by":"ana","noConfirm":"yes"}'], ["noConfirm"]),
    "wrong time": (
        "APPROVE_PENDING",
        ["--input", '{"by":"ana","notAfter":"soon"}'],
        ["notAfter", "2026-11-22T03:12:07Z"],
    ),
    "unknown field": ("APPROVE_PENDING", ["--input", '{"by":"ana","nota":"x"}'], ["'nota'", "did you mean 'note'"]),
    "unknown field in expect": (
        "APPROVE_PENDING",
        ["--input", '{"by":"ana","expect":{"runID":"x"}}'],
        ["'expect.runID'", "did you mean 'runId'"],
    ),
    "unknown encoding": ("APPROVE_PENDING", ["--input", GOOD, *UNDECODABLE], ["binary/encrypted", GOOD]),
    "unknown signal": ("APROVE_PENDING", ["--input", GOOD], ["no signal 'APROVE_PENDING'", "APPROVE_PENDING"]),
    "unknown signal, no input": ("approve", [], ["no signal 'approve'", "APPROVE_PENDING"]),
    "unknown signal, undecodable": ("approve", ["--input", GOOD, *UNDECODABLE], ["no signal 'approve'"]),
    "nothing to cancel": ("CANCEL_LOOP", ["--input", GOOD], ["nothing to cancel", "awaiting approval"]),
}  # fmt: skip


@pytest_asyncio.fixture(scope="module")
async def waiting_loop(house: House, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Supervised]:
    """A supervised loop that waits for an approval, shared by all bad messages: none of them changes anything."""
    with Sprite(tmp_path_factory.mktemp("messages"), "messages", WAITING) as sprite:
        sprite.serve()
        sprite.run().wait()
        async with Supervisors(house) as supervise:
            loop = await supervise(sprite)
            await loop.until_lifecycle("awaiting_approval")
            yield loop


async def _closed_records(loop: Supervised, known: int) -> StatusReport:
    return await loop.until(
        lambda seen: len(seen.intents) > known and seen.intents[-1].stage is not IntentStage.RECEIVED,
        "the message is recorded and closed",
    )


async def _assert_healthy(loop: Supervised) -> None:
    assert failed_tasks(await loop.history()) == []
    described = await loop.handle.describe()
    assert described.status is not None
    assert described.status.name == "RUNNING"
    assert "TemporalReportedProblems" not in described.search_attributes
    assert (await loop.status()).lifecycle == "awaiting_approval"


async def _assert_one_rejection(loop: Supervised, before: StatusReport, told: list[str]) -> None:
    seen = await _closed_records(loop, len(before.intents))
    assert len(seen.intents) == len(before.intents) + 1
    record = seen.intents[-1]
    assert record.stage is IntentStage.REJECTED, record
    assert record.sentence.startswith("Nothing done: ")
    assert [words for words in told if words not in record.reason] == [], record.reason
    assert loop.sprite.commands() == []
    await _assert_healthy(loop)


@pytest.mark.parametrize("case", BAD_MESSAGES)
async def test_bad_message_by_the_temporal_cli_is_one_recorded_rejection_with_a_reason(
    waiting_loop: Supervised, case: str
) -> None:
    signal, inputs, told = BAD_MESSAGES[case]
    before = await waiting_loop.status()
    sent = await waiting_loop.send_by_cli(signal, *inputs)
    assert sent.returncode == 0, sent.stderr
    await _assert_one_rejection(waiting_loop, before, told)


async def test_note_of_a_megabyte_is_a_recorded_rejection_that_keeps_the_note_out(
    waiting_loop: Supervised, tmp_path: Path
) -> None:
    before = await waiting_loop.status()
    message = tmp_path / "big.json"
    message.write_text(json.dumps({"by": "ana", "note": "n" * 1_000_000}))
    sent = await waiting_loop.send_by_cli("APPROVE_PENDING", "--input-file", str(message))
    assert sent.returncode == 0, sent.stderr
    await _assert_one_rejection(waiting_loop, before, ["note has 1000000 characters", "at most 4000"])
    record = (await waiting_loop.status()).intents[-1]
    assert len(record.model_dump_json()) < 2_000


async def test_hundred_bad_messages_leave_the_newest_rejections_and_a_bounded_report(
    waiting_loop: Supervised,
) -> None:
    before = max((record.sequence for record in (await waiting_loop.status()).intents), default=0)
    for number in range(100):
        await waiting_loop.handle.signal("APPROVE_PENDING", {"by": number})
    seen = await waiting_loop.until(
        lambda seen: seen.intents and seen.intents[-1].sequence == before + 100, "all are recorded"
    )
    assert len(seen.intents) <= 50
    assert {record.stage for record in seen.intents} == {IntentStage.REJECTED}
    await _assert_healthy(waiting_loop)


async def test_good_message_by_the_temporal_cli_is_recorded_then_confirmed_by_the_next_run(
    supervise: Supervisors, new_sprite: Any
) -> None:
    sprite = new_sprite("good", WAITING)
    sprite.serve()
    sprite.run().wait()
    loop = await supervise(sprite)
    await loop.until_lifecycle("awaiting_approval")
    sent = await loop.send_by_cli("APPROVE_PENDING", "--input", GOOD)
    assert sent.returncode == 0, sent.stderr
    recorded = await loop.until_intent(IntentStage.RECORDED)
    assert f"superloop.sh run --repo {sprite.repo} --loop demo" in recorded.sentence
    assert [decision["by"] for decision in sprite.decisions()] == ["ana"]
    sprite.run().wait()
    confirmed = await loop.until_intent(IntentStage.CONFIRMED)
    assert [stage.stage for stage in confirmed.stages] == [
        IntentStage.RECEIVED,
        IntentStage.ACCEPTED,
        IntentStage.EXECUTING,
        IntentStage.RECORDED,
        IntentStage.CONFIRMED,
    ]
    assert len((await loop.status()).intents) == 1
    await loop.until_lifecycle("complete")
    await loop.send_by_cli("APPROVE_PENDING", "--input", GOOD)
    again = await loop.until_intent(IntentStage.REJECTED, index=1)
    assert "no approval is pending; the loop is complete" in again.reason
    assert len(sprite.decisions()) == 1
