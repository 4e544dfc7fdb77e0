"""Waiting for the evidence that confirms a command, when a request asks the sprite for it.

Nobody who waits holds a thread: a look at the artifacts takes one of two, briefly.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from contract.clock import format_utc
from contract.control import RECOVERED_FROM, ControlStatus
from contract.intents import Intent
from sprite.control.evidence import Verdict, judge_cancel, judge_decision
from sprite.control.records import ControlRecord
from sprite.control.situation import read_situation
from sprite.control.traces import events_after
from sprite.errors import SpriteError
from sprite.reader import SpriteReader

_log = logging.getLogger(__name__)

CONFIRM_TIMEOUT_S = 25.0
"""Below the usual limits of HTTP clients (contract.md, "HTTP service")."""

_UNCONFIRMED_EXIT_CODE = 1
_CANCEL_POLL_S = 0.5
_READ_ERROR_POLL_S = 1.0
_LOOKING_THREADS = 2


class Confirmer:
    """Looks for evidence until it is there or `timeout_s` have passed."""

    def __init__(self, reader: SpriteReader, *, timeout_s: float = CONFIRM_TIMEOUT_S) -> None:
        self._reader = reader
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(_LOOKING_THREADS, thread_name_prefix="sprite-confirm")

    def close(self) -> None:
        """Release the threads."""
        self._pool.shutdown(wait=True)

    async def confirm(self, record: ControlRecord, arrived: float, give_up: asyncio.Event) -> ControlRecord:
        """`record` as confirmed, or as ambiguous in stage `recorded` when time is up or `give_up` is set.

        The time counts from `arrived`, by the monotonic clock, because it is the client's patience that ends; there is
        always one look.
        """
        intent = record.intent
        try:
            verdict, seen = await self._look_until(arrived + self._timeout_s, intent, record, give_up)
        except Exception:  # noqa: BLE001  (logged with its traceback)
            # The command ran, and whoever asked has to learn that.
            _log.exception("looking for the effect of a control command failed")
            verdict, seen = Verdict(confirmed=False, reason="look_failed"), {}
        return _settled(record, intent, verdict, {**seen, "timeoutSeconds": self._timeout_s})

    async def _look_until(
        self, deadline: float, intent: Intent, record: ControlRecord, give_up: asyncio.Event
    ) -> tuple[Verdict, dict[str, Any]]:
        """The last verdict, and what was seen with it."""
        attempts = 0
        while True:
            attempts += 1
            verdict, head = await self._in_thread(self._look, intent, record)
            left = deadline - time.monotonic()
            if verdict.confirmed or left <= 0 or give_up.is_set():
                break
            await _until(self._news(intent, record.loop_id, head, left), give_up)
        return verdict, {"attempts": attempts, **await self._in_thread(self._observed, record.loop_id)}

    async def _in_thread(self, look: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, look, *arguments)

    def _look(self, intent: Intent, record: ControlRecord) -> tuple[Verdict, int | None]:
        """The verdict on what is there now, and the head of the log (None when it cannot be read)."""
        head = None
        try:
            events, head = events_after(self._reader, record.loop_id, record.baseline)
        except SpriteError as error:
            if intent is not Intent.CANCEL_LOOP:
                return Verdict(confirmed=False, reason=error.code.value), None
            events = []
        if intent is not Intent.CANCEL_LOOP:
            return judge_decision(intent, record.baseline, events), head
        try:
            return judge_cancel(record.baseline, read_situation(self._reader.repo), events), head
        except SpriteError as error:
            return Verdict(confirmed=False, reason=error.code.value), head

    async def _news(self, intent: Intent, loop_id: str, head: int | None, left_s: float) -> None:
        """Return when another look may see more."""
        if intent is Intent.CANCEL_LOOP or head is None:
            await asyncio.sleep(min(left_s, _CANCEL_POLL_S if head is not None else _READ_ERROR_POLL_S))
            return
        try:
            await self._reader.wait_for_news(loop_id, cursor=head, snapshot_etag=None, timeout_s=left_s)
        except SpriteError:
            await asyncio.sleep(min(left_s, _READ_ERROR_POLL_S))

    def _observed(self, loop_id: str) -> dict[str, Any]:
        now = {"observedAt": format_utc(datetime.now(UTC))}
        try:
            snapshot = self._reader.snapshot(loop_id)
        except SpriteError:
            return now
        runtime = snapshot["runtime"]
        return {
            "observedStatus": snapshot["run"]["status"],
            "observedLastEvent": snapshot["health"]["lastEventName"],
            "observedApprovalStatus": _field(runtime["approval"], "status"),
            "observedActive": _field(runtime["superloopState"], "active") is True,
            **now,
        }


def _settled(record: ControlRecord, intent: Intent, verdict: Verdict, seen: dict[str, Any]) -> ControlRecord:
    """The record with the verdict in it; `confirm` has the fields of the recorded exchanges, and `stage`."""
    stage = "confirmed" if verdict.confirmed else "recorded"
    confirm = {"intent": intent.wire, "stage": stage, "confirmed": verdict.confirmed, "reason": verdict.reason, **seen}
    if verdict.line is not None:
        confirm["evidenceLine"] = verdict.line
    if (recovered := (record.answer.result.confirm or {}).get(RECOVERED_FROM)) is not None:
        confirm[RECOVERED_FROM] = recovered
    result = record.answer.result.model_copy(
        update={
            "status": ControlStatus.CONFIRMED if verdict.confirmed else ControlStatus.AMBIGUOUS,
            "confirmed": verdict.confirmed,
            "confirm_exit_code": 0 if verdict.confirmed else _UNCONFIRMED_EXIT_CODE,
            "confirm": confirm,
        }
    )
    answer = record.answer.model_copy(update={"ok": verdict.confirmed, "result": result})
    return record.model_copy(update={"answer": answer})


async def _until(waiting: Awaitable[None], give_up: asyncio.Event) -> None:
    """Wait for `waiting`, or for `give_up`, whichever comes first."""
    task = asyncio.ensure_future(waiting)
    stop = asyncio.ensure_future(give_up.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()
        stop.cancel()


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
