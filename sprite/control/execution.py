"""One claimed request: settle what crashed, check, record the beginning, run the command, record its result.

Everything before the command may fail without effect and gives the key back. After it nothing may fail: whoever asked
learns how it ended, or that nobody knows.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from contract.clock import format_utc
from contract.control import CommandAnswer, ControlRequest, ControlStatus
from contract.intents import Expect, Intent
from sprite.control.answers import LOST, NO_RESULT, command_answer
from sprite.control.audit import Audit
from sprite.control.command import CommandRun, NotStarted, build_argv, child_environment, run_command
from sprite.control.database import told
from sprite.control.errors import BinaryUnusable, BrokenBefore
from sprite.control.evidence import Baseline, RunRef
from sprite.control.guard import check_cancel, check_expect
from sprite.control.ledger import Claim, Ledger
from sprite.control.records import ControlRecord, State
from sprite.control.recovery import Recovery
from sprite.control.situation import addressed_by_cancel, addressed_by_decision, read_situation
from sprite.control.steps import AtStep, Step
from sprite.control.traces import Traces
from sprite.errors import SpriteError
from sprite.reader import SpriteReader

_log = logging.getLogger(__name__)

RunCommand = Callable[..., CommandRun]


@dataclass(frozen=True)
class Runtime:
    """How commands are run: which program, how long at most, and without which secrets in its environment."""

    binary: Path
    timeout_s: float
    secrets: Sequence[str] = ()
    run: RunCommand = run_command


class Execution:
    """Runs claimed requests of one repo. Synchronous: for a thread that has nothing else to do."""

    def __init__(
        self,
        reader: SpriteReader,
        runtime: Runtime,
        ledger: Ledger,
        audit: Audit,
        *,
        transport: str,
        at_step: AtStep,
    ) -> None:
        self._reader = reader
        self._runtime = runtime
        self._ledger = ledger
        self._audit = audit
        self._traces = Traces(reader)
        self._transport = transport
        self._at_step = at_step
        self.recovery = Recovery(ledger, self._traces, audit)

    def run(
        self, request: ControlRequest, claim: Claim, *, until: float, check: Callable[[], None]
    ) -> tuple[ControlRecord, bool]:
        """Run the command of `request` once no other runs in this repo, and give the claim back.

        Args:
            until: How long to wait for other processes' commands, by the monotonic clock.
            check: Raises when nothing may be begun any more; asked up to the last moment before the command.

        Returns:
            What is known of it, and whether that was found to have been done before.

        Raises:
            SpriteError: Refused or failed before any effect.
        """
        try:
            with self._ledger.command_slot(until, check) as slot:
                known = self._settle(claim)
                if known is not None:
                    claim.settled()
                    return known, True
                self._at_step(Step.IN_TURN)
                return self._run_in_slot(request, claim, slot, check), False
        except SpriteError:
            claim.abandon()
            raise
        finally:
            claim.release()

    def _settle(self, claim: Claim) -> ControlRecord | None:
        """Settle what was begun before; what is known of the claimed request, None when it may be run."""
        with told("no effect: "), _broken_before():
            self.recovery.settle_others(claim)
            return self.recovery.settle_claimed(claim)

    def _run_in_slot(
        self, request: ControlRequest, claim: Claim, slot: int, check: Callable[[], None]
    ) -> ControlRecord:
        argv = build_argv(self._runtime.binary, self._reader.repo, request)
        with _broken_before():
            record = self._begin(request, claim, argv, check)
            ended = self._run(argv, [slot])
        self._at_step(Step.ENDED)
        answer = self._answer(request, claim, argv, ended)
        known = answer.result.status is not ControlStatus.AMBIGUOUS
        state = State.EXECUTED if known else State.AMBIGUOUS
        record = record.model_copy(update={"state": state, "answer": answer})
        self._keep(request, claim, record)
        return record

    def _keep(self, request: ControlRequest, claim: Claim, record: ControlRecord) -> None:
        """Record a result. The command ran: whatever fails here, the caller must learn it."""
        try:
            claim.finish(record)
        except Exception:  # noqa: BLE001  (logged with its traceback)
            _log.exception("the result of a control command could not be recorded yet")
        self._at_step(Step.RECORDED)
        try:
            found = self._traces.find(record)
            self._audit.ended(request, claim.key, record.answer, self._traces.facts(request.loop_id), found)
        except Exception:  # noqa: BLE001  (logged with its traceback)
            _log.exception("the end of a control command could not be written to the audit log")

    def _begin(
        self, request: ControlRequest, claim: Claim, argv: Sequence[str], check: Callable[[], None]
    ) -> ControlRecord:
        record = ControlRecord(
            loop_id=request.loop_id,
            key=claim.key,
            fingerprint=claim.fingerprint,
            state=State.BEGUN,
            answer=self._answer(request, claim, argv, NO_RESULT),
            baseline=self._baseline(request),
        )
        check()
        claim.begin(record)
        self._at_step(Step.BEGUN)
        self._audit.begun(request, claim.key, argv, self._traces.facts(request.loop_id))
        # Writing that to disk took time, in which the loop may have gone on.
        record.baseline = self._baseline(request)
        check()
        self._at_step(Step.AUDITED)
        return record

    def _run(self, argv: Sequence[str], inherited: Sequence[int]) -> CommandRun | str:
        """How the command ended, or why that is not known; raises only when it was not started."""
        environment = child_environment(os.environ, self._runtime.secrets)
        try:
            return self._runtime.run(
                argv,
                timeout_s=self._runtime.timeout_s,
                environment=environment,
                folder=self._reader.repo,
                inherited=inherited,
            )
        except NotStarted as error:
            raise BinaryUnusable(f"no effect: {self._runtime.binary} cannot be started: {error}") from None
        except Exception:  # noqa: BLE001  (logged with its traceback)
            _log.exception("a control command was started and then lost")
            return LOST

    def _baseline(self, request: ControlRequest) -> Baseline:
        """Refuse what must not run now; else what evidence is to be judged against."""
        expect, loop_id, repo = request.expect or Expect(), request.loop_id, self._reader.repo
        at = format_utc(datetime.now(UTC))
        if request.intent is not Intent.CANCEL_LOOP:
            addressed = addressed_by_decision(repo, loop_id)
            check_expect(expect, addressed, self._reader.sprite_id)
            line, chain = self._traces.head(loop_id)
            return Baseline(
                line=line,
                chain=chain,
                run_id=addressed.run_id,
                at=at,
                approval_sha256=addressed.approval_sha256,
                iteration=addressed.iteration,
                requested_at=addressed.requested_at,
                decisions_bytes=self._traces.decisions_bytes(loop_id),
            )
        addressed = addressed_by_cancel(repo, loop_id, expect)
        check_expect(expect, addressed, self._reader.sprite_id)
        situation = read_situation(repo)
        check_cancel(loop_id, situation, approval_pending=addressed.approval_status == "pending")
        runs = [RunRef(pid=run.pid, start_time=run.start_time) for run in situation.runs if run.in_active_run]
        run_id = addressed.run_id if not runs or situation.has_logged(addressed.started_at) else None
        line, chain = self._traces.head(loop_id)
        return Baseline(line=line, chain=chain, run_id=run_id, runs=runs, at=at, state_sha256=situation.state_sha256)

    def _answer(
        self, request: ControlRequest, claim: Claim, argv: Sequence[str], ended: CommandRun | str
    ) -> CommandAnswer:
        return command_answer(
            request, claim.key, argv, ended, transport=self._transport, sprite_id=self._reader.sprite_id
        )


@contextlib.contextmanager
def _broken_before() -> Iterator[None]:
    """Tell what nobody foresaw as BrokenBefore: all that is raised in here is raised before the command."""
    try:
        yield
    except SpriteError:
        raise
    except Exception as error:  # noqa: BLE001  (logged with its traceback)
        _log.exception("a control request failed before its command was started")
        raise BrokenBefore(f"no effect: {type(error).__name__} before the command was started") from None
