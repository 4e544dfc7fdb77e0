"""One intent at a time until its command has finished; a cancel goes before what is queued.

Each is judged on an observation made after it arrived, sent once, and after an answer that got lost the sprite is
asked before anything is sent again, under the same key. What cannot be sent is tried again, and holds nothing up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from workflows import automation, cancelling, confirmation, records, remote

with workflow.unsafe.imports_passed_through():
    from contract.intents import Intent
    from contract.observation import (
        ControlInput,
        ControlOutcome,
        ControlOutcomeKind,
        LookUpInput,
        LookUpKind,
        LookUpResult,
    )
    from contract.status import IntentRecord, IntentStage
    from contract.supervision import SupervisorStart

from workflows.judgement import Verdict, judge
from workflows.observing import Observing, told_to_end
from workflows.state import SupervisorState, is_intent
from workflows.wording import after_lost_try, clock, judged, moment

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
"""Between two tries of what could not be sent; doubled each time."""
LOOK_PAUSE_S = 3.0
LOOKS = 10
"""Looks after a lost answer, LOOK_PAUSE_S apart: long enough for the runtime's command (30 s at most) to end."""


class Executing:
    """Takes intents from the queue to the end of their command."""

    def __init__(
        self, start: SupervisorStart, state: SupervisorState, observing: Observing, publish: Callable[[], None]
    ) -> None:
        self._start = start
        self._state = state
        self._observing = observing
        self._publish = publish
        self.leaving = False

    @property
    def idle(self) -> bool:
        """No command is under way."""
        started = (IntentStage.ACCEPTED, IntentStage.EXECUTING)
        commands = (record for record in self._state.intents if is_intent(record))
        return not any(record.stage in started and record.exit_code is None for record in commands)

    async def run(self) -> None:
        """Work the queue until cancelled."""
        while not told_to_end():
            await workflow.wait_condition(lambda: bool(self._state.queue()) and not self.leaving)
            record = self._state.queue()[0]
            frozen = automation.refusal(self._state, record)
            if frozen is not None:
                # What a program decided on an old picture must not wait for a new one.
                records.refuse(record, workflow.now(), frozen)
            elif await self._observed_afresh(record):
                await self._decide(record)
            self._publish()

    async def _observed_afresh(self, record: IntentRecord) -> bool:
        """Wait for an observation made after now; False when `record` expired, or is no longer the next in turn."""
        number = self._observing.supersede()

        def ready() -> bool:
            state = self._state
            seen = state.seen >= number and (state.at_head if state.condition is None else state.condition.is_empty)
            return seen or self.leaving or state.queue()[:1] != [record]

        left = (record.not_after - workflow.now()) if record.not_after else None
        try:
            if left is not None and left <= timedelta(0):
                raise TimeoutError
            await workflow.wait_condition(ready, timeout=left, timeout_summary=f"a fresh look before {record.intent}")
            if self._state.queue()[:1] != [record] or self.leaving:
                return False
            if self._is_late(record):  # the observation that was waited for came first, and its timer is late
                raise TimeoutError
        except TimeoutError:
            self._expire(record)
            return False
        return True

    def _expire(self, record: IntentRecord) -> None:
        reason = f"it was to start by {moment(record.not_after)} and could not."
        if record.not_after and record.not_after <= record.received_at:
            reason = f"it was to start by {moment(record.not_after)} and came at {moment(record.received_at)}."
        elif self._state.observed_at:
            reason += f" The loop was last seen at {moment(self._state.observed_at)}."
        records.refuse(record, workflow.now(), reason, IntentStage.EXPIRED)

    async def _decide(self, record: IntentRecord) -> None:
        now = workflow.now()
        verdict = judge(record, self._state)
        if verdict.refusal is not None:
            records.refuse(record, now, verdict.refusal)
            return
        self._bind(record, verdict)
        records.reach(record, IntentStage.ACCEPTED, now, judged(self._state.cursor.line, verdict.expect))
        records.reach(record, IntentStage.EXECUTING, now, f"through {self._state.transport.active.value}")
        self._publish()
        outcome = await self._send(record, verdict)
        if outcome is not None:
            self._conclude(record, outcome)

    def _bind(self, record: IntentRecord, verdict: Verdict) -> None:
        record.run_id, record.run_line, record.iteration = verdict.run_id, verdict.run_line, verdict.iteration
        record.process_pid, record.process_start_time = verdict.process_pid, verdict.process_start_time
        record.clears_crash = verdict.clears_crash
        record.baseline_line = self._state.cursor.line
        record.baseline_at = self._state.snapshot.emitted_at if self._state.snapshot else None

    def _conclude(self, record: IntentRecord, outcome: ControlOutcome) -> None:
        options, state, now = self._start.options, self._state, workflow.now()
        confirmation.take_outcome(
            record,
            outcome,
            state.target,
            now,
            recorded_wait_s=options.recorded_wait_s,
            cancel_confirm_wait_s=options.cancel_confirm_wait_s,
        )
        confirmation.refute(record, state.snapshot, now)
        confirmation.settle_decision(record, state.snapshot, state.target, now)
        if state.snapshot is not None and state.at_head:
            # The effect may have been seen while the command still ran; then no news comes after its answer.
            cancelling.take_snapshot(record, state.snapshot, state.projection, state.target.loop_id, now)
        self._observing.supersede()

    async def _send(self, record: IntentRecord, verdict: Verdict) -> ControlOutcome | None:
        """Send until something is known; None when `record` expired, or is back in the queue, without being sent."""
        pause_s = FIRST_PAUSE_S
        while True:
            outcome = await self._try_once(record, verdict)
            if outcome.kind in (ControlOutcomeKind.MAYBE_SENT, ControlOutcomeKind.IN_FLIGHT):
                known = await self._look(record, outcome)
                if known is not None:
                    return known
            elif outcome.kind is not ControlOutcomeKind.NOT_SENT:
                return outcome
            if not await self._may_try_again(record, pause_s):
                return self._give_up(record, outcome)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _may_try_again(self, record: IntentRecord, pause_s: float) -> bool:
        """Pause before the next try; False as soon as there must be none."""
        left_s = (record.not_after - workflow.now()).total_seconds() if record.not_after else pause_s
        if left_s > 0:
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: self._has_to_yield(record),
                    timeout=min(pause_s, left_s),
                    timeout_summary=f"{record.intent} was not sent: before the next try",
                )
        return not (self._has_to_yield(record) or self._is_late(record))

    def _has_to_yield(self, record: IntentRecord) -> bool:
        # What cannot be sent must hold up neither a cancel nor the supervisor's leaving; and what a program decided
        # while nothing was in doubt must not be sent when something is.
        settled = record.stage is not IntentStage.EXECUTING  # evidence overtook the answer
        frozen = automation.refusal(self._state, record) is not None
        return settled or self.leaving or frozen or self._state.overtaken(record)

    def _is_late(self, record: IntentRecord) -> bool:
        return record.not_after is not None and workflow.now() >= record.not_after

    def _give_up(self, record: IntentRecord, last: ControlOutcome) -> ControlOutcome | None:
        """No further try now: what was never sent expires, or is queued again; of what may have been, nobody knows."""
        late = self._is_late(record)
        if record.lost_at is not None:
            by = f"by {clock(record.not_after)}" if late else "before something else had to be done"
            message = after_lost_try(record, f"It could not be sent again {by}.")
            return last.model_copy(update={"kind": ControlOutcomeKind.AMBIGUOUS, "message": message})
        if record.stage is IntentStage.EXECUTING and late:
            self._expire(record)
        elif record.stage is IntentStage.EXECUTING:
            records.put_back(record, workflow.now(), f"not sent: {last.message}")
        return None

    async def _try_once(self, record: IntentRecord, verdict: Verdict) -> ControlOutcome:
        transport, sent_at = self._state.transport.active, workflow.now()
        request = ControlInput(
            target=self._state.target,
            transport=transport,
            intent=Intent(record.intent),
            by=record.by,
            note=record.note,
            key=record.key,
            trace_id=record.trace_id,
            expect=verdict.expect,
        )
        try:
            outcome = await remote.execute_control(request, self._start.task_queue)
        except ActivityError as error:
            lost = ControlOutcomeKind.NOT_SENT if remote.never_started(error) else ControlOutcomeKind.MAYBE_SENT
            outcome = ControlOutcome(kind=lost, transport=transport, sent_at=sent_at, message=remote.why(error))
        if outcome.kind is ControlOutcomeKind.MAYBE_SENT:
            record.lost_at = record.lost_at or outcome.sent_at
        return outcome

    async def _look(self, record: IntentRecord, lost: ControlOutcome) -> ControlOutcome | None:
        """After a lost answer: what the sprite knows. None only when the key may be sent: unused, or to no effect."""
        unknown = 0
        for _ in range(LOOKS):
            await workflow.sleep(LOOK_PAUSE_S, summary=f"{record.intent}: before asking what became of it")
            found = await self._look_once(record)
            if found.kind is LookUpKind.KNOWN and found.outcome:
                return found.outcome
            unknown = unknown + 1 if found.kind is LookUpKind.UNKNOWN_KEY else 0
            if unknown >= 2:
                return None
            if found.kind is LookUpKind.NOT_OFFERED:
                break
        looked = f"looked through {self._state.transport.active.value} at {clock(workflow.now())}, not decidable."
        message = f"sent {clock(lost.sent_at)}, no answer; {looked}"
        return lost.model_copy(update={"kind": ControlOutcomeKind.AMBIGUOUS, "message": message})

    async def _look_once(self, record: IntentRecord) -> LookUpResult:
        request = LookUpInput(target=self._state.target, transport=self._state.transport.active, key=record.key)
        try:
            return await remote.look_up_control(request, self._start.task_queue)
        except ActivityError as error:
            return LookUpResult(kind=LookUpKind.UNREACHABLE, message=remote.why(error))


class Awaiting:
    """Ends the wait for evidence when its time is over."""

    def __init__(self, state: SupervisorState, observing: Observing, publish: Callable[[], None]) -> None:
        self._state = state
        self._observing = observing
        self._publish = publish

    async def run(self) -> None:
        """Watch the deadlines of open confirmations until cancelled."""
        while not told_to_end():
            await workflow.wait_condition(lambda: self._next() is not None)
            if not await self._changed_before(self._next()):
                self._end_waits()

    async def _changed_before(self, deadline: datetime | None) -> bool:
        left = max(timedelta(0), deadline - workflow.now()) if deadline else timedelta(0)
        try:
            await workflow.wait_condition(
                lambda: self._next() != deadline, timeout=left, timeout_summary="wait for confirming evidence"
            )
        except TimeoutError:
            return False
        return True

    def _next(self) -> datetime | None:
        return min((record.deadline for record in self._state.intents if record.deadline), default=None)

    def _end_waits(self) -> None:
        now = workflow.now()
        for record in self._state.intents:
            confirmation.overdue(record, self._state.snapshot, self._state.target, now)
        self._observing.supersede()
        self._publish()
