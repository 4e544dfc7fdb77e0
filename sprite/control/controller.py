"""Control in the sprite: claim the key, wait for a turn, run the runtime's command once, and confirm where asked.

The key is claimed as soon as a request arrives (a repetition gets the record, without waiting), so that whoever asks
for it meanwhile is told that it is in flight. Commands then have their turn in the order of arrival, one at a time.
A request whose turn does not come in time, or before the service is stopped, gives its key back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from contract.control import CommandAnswer, ControlRequest
from contract.identifiers import check_loop_id
from sprite.control.audit import Audit
from sprite.control.command import COMMAND_TIMEOUT_S
from sprite.control.confirming import CONFIRM_TIMEOUT_S, Confirmer
from sprite.control.errors import Busy, Stopping, StoreUnusable
from sprite.control.execution import Execution, Runtime
from sprite.control.ledger import Claim, Ledger
from sprite.control.records import ControlRecord, fingerprint
from sprite.control.steps import AtStep, Step, go_on
from sprite.errors import RETRY_AFTER_S, NotReady, SpriteError
from sprite.identity import state_folder
from sprite.reader import SpriteReader

_log = logging.getLogger(__name__)

TURN_TIMEOUT_S = 25.0
"""How long a request waits for its turn: a command should not begin for a client that has given up."""

_MAX_WAITING = 32
_DEFAULT_TRANSPORT = "sprite_service"
_T = TypeVar("_T")


class SpriteController:
    """Executes control requests for one repo; shared by the HTTP service, the local transport and the command line.

    Args:
        reader: The reader of the same repo.
        binary: The runtime's program, from `find_binary`; never from a request.
        state_dir: Where records are kept (default: the user's state folder); the same for every process of the sprite.
        command_timeout_s: After this the command's process group is ended and the outcome is unknown.
        confirm_timeout_s: How long after its arrival a request for confirmation is answered, at most 25 s.
        turn_timeout_s: How long after its arrival the command of a request may begin.
        transport: What `result.transport` says.
        secrets: Values that no variable of the command's environment may hold.
        at_step: Told of every step that a request reaches; tests let crashes happen there.

    Raises:
        StateFolderUnusable: The state folder cannot be used, or lies on a network file system.
        StoreUnusable: What was done before cannot be read.
    """

    def __init__(
        self,
        reader: SpriteReader,
        binary: Path,
        *,
        state_dir: Path | None = None,
        command_timeout_s: float = COMMAND_TIMEOUT_S,
        confirm_timeout_s: float = CONFIRM_TIMEOUT_S,
        turn_timeout_s: float = TURN_TIMEOUT_S,
        transport: str = _DEFAULT_TRANSPORT,
        secrets: Iterable[str] = (),
        at_step: AtStep = go_on,
    ) -> None:
        self._reader = reader
        self._binary = binary
        self._turn_timeout_s = turn_timeout_s
        self._at_step = at_step
        folder = state_folder(reader.repo, state_dir) / "control"
        self._ledger = Ledger(folder)
        self._audit = Audit(folder, transport=transport, sprite_id=reader.sprite_id)
        runtime = Runtime(binary, command_timeout_s, tuple(secrets))
        self._execution = Execution(reader, runtime, self._ledger, self._audit, transport=transport, at_step=at_step)
        self._confirmer = Confirmer(reader, timeout_s=min(confirm_timeout_s, CONFIRM_TIMEOUT_S))
        # One thread each: that keeps the order of arrival, and a short step never waits behind a command.
        self._records = ThreadPoolExecutor(1, thread_name_prefix="sprite-record")
        self._commands = ThreadPoolExecutor(1, thread_name_prefix="sprite-command")
        self._waiting = threading.BoundedSemaphore(_MAX_WAITING)
        self._closing = False

    @property
    def binary(self) -> Path:
        """The runtime's program."""
        return self._binary

    def close(self) -> None:
        """Wait for a running command to end and be recorded; begin none. The controller must not be used afterwards."""
        self._closing = True
        for pool in (self._records, self._commands):
            pool.shutdown(wait=True)
        self._confirmer.close()
        self._ledger.close()

    def check_ready(self) -> None:
        """Raise NotReady unless a command could be run and recorded now."""
        if not os.access(self._binary, os.X_OK):
            raise NotReady(f"the runtime's program {self._binary} cannot be executed")
        try:
            self._ledger.check_writable()
            self._audit.check_writable()
        except StoreUnusable as error:
            raise NotReady(error.message) from None

    async def execute(self, request: ControlRequest, *, give_up: asyncio.Event | None = None) -> CommandAnswer:
        """Do what `request` asks, once per idempotency key, and answer what is known about it.

        A command that has started is brought to its end and recorded even when the caller is cancelled.

        Args:
            give_up: When set, no command begins any more, and a wait for confirmation ends with what is known by then.

        Raises:
            SpriteError: Refused or failed before any effect; see `sprite.control.errors`.
            IdentifierInvalid: The loop id must not be used (D11).
        """
        arrived = time.monotonic()
        check_loop_id(request.loop_id)
        key = request.idempotency_key or f"{request.intent.wire}-{uuid.uuid4().hex}"
        try:
            record, replayed = await self._execute_once(request, key, arrived, give_up or asyncio.Event())
        except SpriteError as refusal:
            await self._note_refusal(request, key, refusal)
            raise
        self._at_step(Step.ANSWERED)
        return record.answer.model_copy(update={"replayed": replayed})

    async def _execute_once(
        self, request: ControlRequest, key: str, arrived: float, give_up: asyncio.Event
    ) -> tuple[ControlRecord, bool]:
        """What is known of the request, and whether it was known before."""
        self._at_step(Step.ARRIVED)
        claimed = await self._claim(request, key)
        if isinstance(claimed, ControlRecord):
            record, replayed = claimed, True
        else:
            self._at_step(Step.CLAIMED)
            record, replayed = await self._in_turn(request, claimed, arrived, give_up)
        if not request.no_confirm and record.awaits_confirmation:
            record = await self._confirmer.confirm(record, arrived, give_up)
            await self._keep_confirmation(record)
        return record, replayed

    def lookup(self, loop_id: str, key: str) -> CommandAnswer | None:
        """What was answered under a key, None when it may be sent: it was never used for this loop, what was
        begun under it provably had no effect, or it is a cancel that did a part and can be finished.

        Raises:
            InFlight: Its command waits for its turn, or may still run.
            StoreUnusable: It cannot be told.
            IdentifierInvalid: The loop id must not be used (D11).
        """
        check_loop_id(loop_id)
        record = self._execution.recovery.look_up(loop_id, key)
        return None if record is None else record.answer.model_copy(update={"replayed": True})

    async def _claim(self, request: ControlRequest, key: str) -> Claim | ControlRecord:
        what = fingerprint(self._reader.sprite_id, request)
        claiming = _submitted(self._records, self._ledger.claim, request, key, what)
        try:
            return await asyncio.wrap_future(claiming)
        except asyncio.CancelledError:
            claiming.add_done_callback(_give_back)
            raise

    async def _in_turn(
        self, request: ControlRequest, claim: Claim, arrived: float, give_up: asyncio.Event
    ) -> tuple[ControlRecord, bool]:
        """Run the claimed command when those before it have ended; else give the claim back and say why."""
        if not self._waiting.acquire(blocking=False):
            claim.abandon()
            raise _busy(f"{_MAX_WAITING} control requests are waiting in this sprite already")

        def check() -> None:
            if self._closing or give_up.is_set():
                raise _stopping()

        until = arrived + self._turn_timeout_s
        try:
            running = _submitted(self._commands, self._execution.run, request, claim, until=until, check=check)
        except Stopping:
            self._waiting.release()
            claim.abandon()
            raise
        running.add_done_callback(lambda _: self._waiting.release())
        answer = asyncio.wrap_future(running)
        try:
            await _first_of(answer, give_up, until - time.monotonic())
        except asyncio.CancelledError:
            answer.cancel()
            raise
        finally:
            if running.cancel():  # it has not begun
                claim.abandon()
        if running.cancelled():
            check()
            raise _busy(f"other control commands have been running for {self._turn_timeout_s:g} s")
        return await answer

    async def _keep_confirmation(self, record: ControlRecord) -> None:
        """Put what was confirmed on record. Anything less is only this request's answer: it may yet be confirmed."""
        if not record.answer.result.confirmed:
            return
        try:
            await asyncio.wrap_future(_submitted(self._records, self._ledger.update, record))
        except (StoreUnusable, Stopping):
            _log.exception("the confirmation of a control command could not be recorded")

    async def _note_refusal(self, request: ControlRequest, key: str, refusal: SpriteError) -> None:
        """Put a refusal in the audit log. It is one all the same where that fails."""
        try:
            await asyncio.wrap_future(_submitted(self._records, self._audit.refused, request, key, refusal))
        except (StoreUnusable, Stopping):
            _log.exception("a refused control request could not be written to the audit log")


async def _first_of(
    answer: asyncio.Future[tuple[ControlRecord, bool]], give_up: asyncio.Event, timeout_s: float
) -> None:
    """Return when the answer is there, `give_up` is set, or the time is over; cancels only what is its own."""
    stop = asyncio.ensure_future(give_up.wait())
    waits: list[asyncio.Future[Any]] = [answer, stop]
    try:
        await asyncio.wait(waits, timeout=max(0.0, timeout_s), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()


def _give_back(claiming: Future[Claim | ControlRecord]) -> None:
    """Abandon a claim that nobody waits for any more."""
    if not claiming.cancelled() and claiming.exception() is None and isinstance(claim := claiming.result(), Claim):
        claim.abandon()


def _submitted(pool: ThreadPoolExecutor, work: Callable[..., _T], *arguments: Any, **options: Any) -> Future[_T]:
    """`work` in the pool; raises Stopping when the controller has been closed meanwhile."""
    try:
        return pool.submit(work, *arguments, **options)
    except RuntimeError:
        raise _stopping() from None


def _stopping() -> Stopping:
    return Stopping("no effect: the service is being stopped; ask again when it is back")


def _busy(why: str) -> Busy:
    return Busy(f"no effect: {why}; try again", retryAfterSeconds=RETRY_AFTER_S)
