"""Reports of supervisors as tests need them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from cli.supervisors import Row
from contract.status import (
    AsOf,
    Attention,
    AttentionReport,
    IntentRecord,
    IntentStage,
    Lifecycle,
    PendingApproval,
    StageRecord,
    StatusReport,
    TransportReport,
)

NOW = datetime(2026, 11, 22, 3, 12, 7, tzinfo=UTC)
RUN = "2026-11-22T03:00:00Z"
SHA = "ab" * 32


def report(lifecycle: Lifecycle = Lifecycle.RUNNING, **changes: Any) -> StatusReport:
    """A loop that works; `changes` are fields of the report."""
    given: dict[str, Any] = {
        "sprite": "acme",
        "loop_id": "demo",
        "sprite_id": "sprite-1",
        "lifecycle": lifecycle,
        "reason": "iteration_start",
        "since": NOW - timedelta(minutes=4),
        "observed_at": NOW - timedelta(seconds=20),
        "last_contact_at": NOW - timedelta(seconds=10),
        "run_id": RUN,
        "run_line": 1,
        "iteration": 2,
        "transport": TransportReport(state="sprite_service", since=NOW - timedelta(hours=1)),
        "as_of": AsOf(run_id="workflow-run", history_length=42),
        **changes,
    }
    return StatusReport(**given)


def waiting(**changes: Any) -> StatusReport:
    """A loop that waits for an approval."""
    gates = {"tests": "ok", "lifecycle": "ok"}
    pending = PendingApproval(
        run_id=RUN, iteration=2, requested_at="2026-11-22T03:08:07Z", sha256=SHA, promise=True, gates=gates
    )
    return report(
        Lifecycle.AWAITING_APPROVAL,
        **{
            "reason": "approval_requested",
            "pending_approval": pending,
            "last_event_name": "approval_requested",
            "last_event_age_s": 220.0,
            "attention": AttentionReport(
                code=Attention.APPROVAL_WAITING,
                sentence="Waiting for approval.",
                since=NOW,
                next_command="temporal workflow signal --workflow-id loop:acme:demo --name APPROVE_PENDING",
            ),
            **changes,
        },
    )


def record(stage: IntentStage, *, sequence: int = 1, key: str = "key-1", **changes: Any) -> IntentRecord:
    """An approval that has come to `stage`."""
    given: dict[str, Any] = {
        "sequence": sequence,
        "intent": "APPROVE_PENDING",
        "by": "ana",
        "key": key,
        "received_at": NOW,
        "stage": stage,
        "stages": [StageRecord(stage=IntentStage.RECEIVED, at=NOW), StageRecord(stage=stage, at=NOW, evidence="seen")],
        **changes,
    }
    return IntentRecord(**given)


def row(sprite: str = "acme", loop_id: str = "demo", attention: Attention = Attention.NONE) -> Row:
    """A loop as search attributes tell it."""
    return Row(
        workflow_id=f"loop:{sprite}:{loop_id}",
        run_id="workflow-run",
        task_queue="ops-manager",
        sprite=sprite,
        loop_id=loop_id,
        status=Lifecycle.RUNNING,
        attention=attention,
        transport="sprite_service",
        observed_at=NOW - timedelta(minutes=3),
    )
