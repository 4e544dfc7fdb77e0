"""Watching one message from its arrival to the stage that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from cli.session import Session
from cli.supervisors import NoAnswer, Row, query
from contract.status import IntentRecord, IntentStage, QueryName

POLL_S = 0.3
"""Between two questions; each costs the worker a task and history nothing."""
SLOW_POLL_S = 1.5
SLOW_AFTER_S = 20.0
SILENCE_S = 8.0
"""A worker that is being restarted is back by then; later, nobody seems to be there."""
_QUERY_S = 2.0

ENDED = frozenset(
    {
        IntentStage.REJECTED,
        IntentStage.EXPIRED,
        IntentStage.FAILED_COMMAND,
        IntentStage.CONFIRMED,
        IntentStage.EXECUTED_UNCONFIRMED,
        IntentStage.AMBIGUOUS,
    }
)
"""Stages after which waiting brings nothing (late evidence aside)."""


@dataclass(frozen=True)
class Followed:
    """How far the message got while it was watched. `silent`: no worker answered at the end."""

    record: IntentRecord | None
    silent: str | None = None


def reached(stage: IntentStage, wanted: IntentStage) -> bool:
    """Whether `stage` ends the wait for `wanted` (recorded or confirmed)."""
    return stage in ENDED or stage is wanted


def record_of(records: list[IntentRecord], key: str, after_sequence: int) -> IntentRecord | None:
    """The record of the message sent with `key`, given the last sequence number seen before it was sent.

    A message that reuses another's key for something else is recorded under `KEY#N`.
    """
    refused = [
        record for record in records if record.sequence > after_sequence and record.key == f"{key}#{record.sequence}"
    ]
    if refused:
        return refused[-1]
    return next((record for record in records if record.key == key), None)


async def follow(
    session: Session,
    row: Row,
    key: str,
    *,
    wanted: IntentStage,
    timeout_s: float | None,
    after_sequence: int,
    on_record: Callable[[IntentRecord], None],
    on_waiting: Callable[[float], None],
) -> Followed:
    """Ask for the record until it has reached `wanted`, ended, or `timeout_s` or the worker's silence ends the wait.

    One answer is waited for in any case: without it, nothing true could be said. `on_record` is called at every look
    that found the record, `on_waiting` with the seconds waited.
    """
    loop = asyncio.get_running_loop()
    started = answered = loop.time()
    found: IntentRecord | None = None
    looked = False
    while True:
        silent: str | None = None
        try:
            records = await query(session.client, row.workflow_id, QueryName.INTENTS, list[IntentRecord], _QUERY_S)
            found, answered, looked = record_of(records, key, after_sequence) or found, loop.time(), True
        except NoAnswer as error:
            silent = str(error)
        if found:
            on_record(found)
            if reached(found.stage, wanted):
                return Followed(found)
        waited = loop.time() - started
        if silent and loop.time() - answered >= SILENCE_S:
            return Followed(found, silent)
        if timeout_s is not None and waited >= timeout_s and looked:
            return Followed(found, silent)
        on_waiting(waited)
        await asyncio.sleep(POLL_S if waited < SLOW_AFTER_S else SLOW_POLL_S)
