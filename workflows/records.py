"""What the record of an intent says: the stage it has reached, and the one sentence that goes with it."""

from __future__ import annotations

from datetime import datetime

from contract.observation import Target
from contract.status import IntentRecord, IntentStage, StageRecord
from workflows.wording import confirmed, nothing_done, unknown

_FIRST_TRY = 3
"""Received, accepted, executing."""


def reach(record: IntentRecord, stage: IntentStage, now: datetime, evidence: str, line: int | None = None) -> None:
    """Enter `stage` on `evidence`; the sentence is left to the caller."""
    record.stage = stage
    record.stages.append(StageRecord(stage=stage, at=now, evidence=evidence, line=line))


def refuse(record: IntentRecord, now: datetime, reason: str, stage: IntentStage = IntentStage.REJECTED) -> None:
    """Close `record` as refused: nothing was done, and why."""
    record.reason, record.sentence = reason, nothing_done(reason, expired=stage is IntentStage.EXPIRED)
    record.deadline = None
    reach(record, stage, now, reason)


def put_back(record: IntentRecord, now: datetime, reason: str) -> None:
    """Back into the queue: nothing was done, and the key stays its own."""
    # Of what was tried again and again only the first time is kept: over months it would grow without bound.
    del record.stages[_FIRST_TRY:]
    reach(record, IntentStage.RECEIVED, now, reason)


def confirm(record: IntentRecord, now: datetime, evidence: str, line: int | None = None) -> None:
    """Close `record` as confirmed: its effect was seen."""
    before = [stage.stage for stage in record.stages]
    record.late = record.late or IntentStage.AMBIGUOUS in before
    reach(record, IntentStage.CONFIRMED, now, evidence, line)
    record.reason, record.deadline = evidence, None
    record.sentence = confirmed(record, evidence)


def cannot_know(record: IntentRecord, target: Target, now: datetime, reason: str) -> None:
    """Close the wait as ambiguous: it cannot be known whether it happened."""
    record.reason, record.deadline = reason, None
    reach(record, IntentStage.AMBIGUOUS, now, reason)
    record.sentence = unknown(record, target, reason)
