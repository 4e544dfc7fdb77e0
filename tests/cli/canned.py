"""A supervisor that answers what it was told to answer: for what the commands make of it, whatever the real one does.

It is started as the real one is (same type, id and search attributes), and takes every message to the stages that the
test wants. The real supervisor is in test_real_loop.py.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RawValue, SearchAttributePair, TypedSearchAttributes

from contract.intents import IntentMessage
from contract.status import (
    WORKFLOW_TYPE,
    Attention,
    IntentRecord,
    IntentStage,
    Lifecycle,
    StageRecord,
    StatusReport,
)
from workflows.search_attributes import LOOP_ATTENTION, LOOP_ID, LOOP_OBSERVED_AT, LOOP_STATUS, LOOP_TRANSPORT

OBSERVED_AT = datetime(2026, 11, 2, 3, 11, 47, tzinfo=UTC)
"""Long ago, so that times are shown with their date."""


@workflow.defn(name=WORKFLOW_TYPE)
class CannedSupervisor:
    """Answers `status` from its input; a message comes at once to the last of `stages`."""

    @workflow.init
    def __init__(self, script: dict[str, Any]) -> None:
        self._report = StatusReport.model_validate(script["report"])
        self._stages = [IntentStage(stage) for stage in script["stages"]]
        self._messages: list[dict[str, Any]] = []

    @workflow.run
    async def run(self, script: dict[str, Any]) -> None:
        """Stay until released."""
        await workflow.wait_condition(lambda: False)

    @workflow.signal(dynamic=True)
    def any_intent(self, name: str, args: Sequence[RawValue]) -> None:
        """Take a message to its stages."""
        body = json.loads(args[0].payload.data)
        self._messages.append({"name": name, **body})
        now, sent = workflow.now(), IntentMessage.read(body)
        record = IntentRecord(
            sequence=len(self._messages),
            intent=name,
            by=sent.by,
            key=sent.idempotency_key or "",
            received_at=now,
            stage=self._stages[-1],
            sentence=f"The sentence about {self._stages[-1].value}; see: ops-manager status acme/demo",
            stages=[StageRecord(stage=stage, at=now, evidence="as told") for stage in self._stages],
        )
        self._report.intents.append(record)

    @workflow.query(name="status")
    def status(self) -> StatusReport:
        """The canned report."""
        return self._report

    @workflow.query(name="intents")
    def intents(self) -> list[IntentRecord]:
        """The messages so far."""
        return self._report.intents

    @workflow.query(name="messages")
    def messages(self) -> list[dict[str, Any]]:
        """The messages as they came."""
        return self._messages


async def start_canned(
    client: Client,
    task_queue: str,
    report: StatusReport,
    *,
    stages: Sequence[IntentStage] = (IntentStage.RECEIVED,),
    attention: Attention | None = None,
    status: Lifecycle | None = None,
) -> WorkflowHandle[Any, Any]:
    """Start one for `report`'s loop; attention and status of the search attributes are the report's unless given."""
    pairs: list[SearchAttributePair[Any]] = [
        SearchAttributePair(LOOP_ID, report.loop_id),
        SearchAttributePair(LOOP_STATUS, (status or report.lifecycle).value),
        SearchAttributePair(LOOP_ATTENTION, (attention or report.attention.code).value),
        SearchAttributePair(LOOP_TRANSPORT, report.transport.state),
        SearchAttributePair(LOOP_OBSERVED_AT, OBSERVED_AT),
    ]
    return await client.start_workflow(
        WORKFLOW_TYPE,
        {"report": report.model_dump(mode="json", by_alias=True), "stages": list(stages)},
        id=f"loop:{report.sprite}:{report.loop_id}",
        task_queue=task_queue,
        search_attributes=TypedSearchAttributes(pairs),
    )
