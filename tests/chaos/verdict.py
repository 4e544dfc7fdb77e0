"""What must be true of a finished life, whatever was killed in it."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory

from contract.intents import Intent
from contract.status import IntentStage, StatusReport
from incidents.replay import replay
from tests.chaos.life import Life
from tests.harness_history import failed_tasks
from tests.interop.independent import canonical, read_log
from workflows.plugin import data_converter


async def judge(life: Life) -> None:
    """Assert that nothing was lost, nothing was doubled, nothing is stuck, and what is told is what happened."""
    report, histories = await life.watcher.at_rest()
    assert [failed for history in histories for failed in failed_tasks(history)] == []
    _every_line_counts_once(life, report)
    await _every_line_was_delivered(life, histories)
    _lifecycles_are_true(life, report)
    _intents_are_true(life, report)
    _effects_happened_once(life)
    await _last_run_replays(histories, report)


def _every_line_counts_once(life: Life, report: StatusReport) -> None:
    told = read_log(life.sprite.log())
    seen = report.cursor
    assert (seen.event_line_offset, seen.chain, seen.epoch) == (told.line_count, told.chain, 1)
    assert (told.bad_lines, seen.quarantined, report.divergence) == ([], 0, [])


async def _every_line_was_delivered(life: Life, histories: Sequence[WorkflowHistory]) -> None:
    """The digests of the lines, as the results of `observe` in all histories hold them, are those of the log."""
    delivered: dict[int, str] = {}
    for history in histories:
        for result in await _results(history):
            for event in result.get("events", []):
                assert delivered.setdefault(event["line"], event["h"]) == event["h"], event
    lines = [json.loads(line) for line in life.sprite.log().split(b"\n")[:-1]]
    hashes = {number: hashlib.sha256(canonical(line).encode()).hexdigest() for number, line in enumerate(lines, 1)}
    assert delivered == {number: digest[:16] for number, digest in hashes.items()}


async def _results(history: WorkflowHistory) -> list[dict[str, Any]]:
    payloads = [
        payload
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
        for payload in event.activity_task_completed_event_attributes.result.payloads
    ]
    decoded = await data_converter().decode(payloads)
    return [result for result in decoded if isinstance(result, dict)]


def _lifecycles_are_true(life: Life, report: StatusReport) -> None:
    """Every change of lifecycle is told once, in the order in which it happened."""
    told = [(change.lifecycle.value, change.reason) for change in report.transitions]
    if told[0][0] == "not_started":
        del told[0]  # the supervisor was there before the first line was
    assert told == life.lifecycles, (told, life.lifecycles, life.kills)


def _intents_are_true(life: Life, report: StatusReport) -> None:
    """Every message that was sent has one record, and that says how it ended."""
    assert [record.key for record in report.intents] == life.sent
    for record in report.intents:
        assert record.received == 1
        if record.key not in life.unknown:
            assert record.stage is IntentStage.CONFIRMED, (record, life.kills)


def _effects_happened_once(life: Life) -> None:
    """One command for each intent, one decision, as the runtime's own files and the launcher's tell."""
    for intent, word in ((Intent.CANCEL_LOOP, "cancel"), (Intent.APPROVE_PENDING, "approve")):
        sent = [key for key in life.sent if key.startswith(intent.wire)]
        assert len(life.house.gate.started(word)) == len(sent), (sent, life.kills)
    assert [decision["by"] for decision in life.sprite.decisions()] == ["ana"]
    assert len(life.sprite.lines_of("approval_decision")) == 1


async def _last_run_replays(histories: Sequence[WorkflowHistory], report: StatusReport) -> None:
    """The code makes the recorded commands again; of the last run it comes to the state that was told."""
    for history in histories:
        again = await replay(history)
        assert again.failure is None, history.run_id
    assert again.status is not None
    left_out = {"as_of"}
    assert again.status.model_dump(exclude=left_out) == report.model_dump(exclude=left_out)
