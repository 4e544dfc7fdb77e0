"""LoopSupervisor: one durable workflow per loop, for weeks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime

from temporalio import workflow
from temporalio.common import RawValue

from workflows import conditions, directives, messages, search_attributes, transport
from workflows.confirmation import settle_decision
from workflows.executing import Awaiting, Executing
from workflows.keeping import Keeping
from workflows.notifying import Notifying
from workflows.observing import Observing, told_to_end
from workflows.probing import Probing
from workflows.reconciling import Reconciling
from workflows.records import refuse
from workflows.report import card, status_report
from workflows.state import RULES_VERSION, SupervisorState

with workflow.unsafe.imports_passed_through():
    from contract.directives import EXAMPLES, Directive
    from contract.status import WORKFLOW_TYPE, IntentRecord, NoticesReport, StatusReport, UpdateName
    from contract.supervision import SupervisorStart

LOOK_LIMIT_S = 10.0
ANSWER_LIMIT_S = 30.0
"""An update that is waited for keeps the supervisor from leaving for a fresh run."""
_EXAMPLE = (
    'One JSON object, for example {"by":"ana","note":"looks good"}. `by` is required; optional: idempotencyKey, '
    "noConfirm, expect {spriteId, runId, iteration, approvalSha256}, notAfter (UTC), automated."
)
_PIN = f"Use only this transport, or (auto) whichever works. Example: {EXAMPLES[Directive.SET_TRANSPORT]}"
_RESOLVE = f"Say what is to be believed of a divergence. Example: {EXAMPLES[Directive.RESOLVE_DIVERGENCE]}"
_RECONCILE = f"Read the log again and compare it; fromStart: all of it. Example: {EXAMPLES[Directive.RECONCILE]}"


@workflow.defn(name=WORKFLOW_TYPE)
class LoopSupervisor:
    """Observes one loop, projects its lifecycle, executes what operators ask and says honestly what happened."""

    @workflow.init
    def __init__(self, start: SupervisorStart) -> None:
        self._start = start
        self._state = _restore(start)
        self._observing = Observing(start, self._state, self._publish)
        self._executing = Executing(start, self._state, self._observing, self._publish)
        self._notifying = Notifying(start, self._state)
        self._keeping = Keeping(self._state, start.task_queue)
        self._reconciling = Reconciling(start, self._state, self._observing, self._publish)
        self._written: dict[str, str] = {}
        self._observed_written: datetime | None = None
        self._unshown = False

    @workflow.run
    async def run(self, start: SupervisorStart) -> None:
        """Supervise until released (workflow cancel, which never touches the loop)."""
        self._publish()
        parts = [
            asyncio.create_task(self._observing.run()),
            asyncio.create_task(self._executing.run()),
            asyncio.create_task(Awaiting(self._state, self._observing, self._publish).run()),
            asyncio.create_task(self._reconciling.run()),
            asyncio.create_task(Probing(start, self._state, self._reconciling).run()),
            asyncio.create_task(self._show_messages()),
        ]
        if start.webhook is not None:
            parts.append(asyncio.create_task(self._notifying.run()))
        keeping = asyncio.create_task(self._keeping.predecessors())
        leaving = asyncio.create_task(workflow.wait_condition(self._should_leave))
        try:
            done, _ = await workflow.wait([*parts, leaving], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                # A part never ends by itself: this raises its bug, which stalls the workflow until it is mended.
                task.result()
            await self._settle([*parts, keeping])
        except asyncio.CancelledError:
            await self._settle([*parts, keeping])
            self._reject_queued()
            conditions.release(self._state, workflow.now())
            await asyncio.gather(self._notifying.farewell(), self._keeping.own())
            raise
        workflow.continue_as_new(start.model_copy(update={"carried": self._state.model_dump(mode="json")}))

    def _should_leave(self) -> bool:
        info = workflow.info()
        long = info.get_current_history_length() >= self._start.options.continue_as_new_events
        return long or info.is_continue_as_new_suggested()

    async def _settle(self, parts: list[asyncio.Task[None]]) -> None:
        """Start nothing new, let a running command finish, then stop observing."""
        self._executing.leaving = True
        await workflow.wait_condition(lambda: self._executing.idle and workflow.all_handlers_finished())
        for task in parts:
            task.cancel("leaving")
        await asyncio.gather(*parts, return_exceptions=True)

    def _reject_queued(self) -> None:
        comparison = directives.open_comparison(self._state)
        for record in [*self._state.queue(), *([comparison] if comparison else [])]:
            refuse(record, workflow.now(), "supervision of this loop was released.")
        self._publish()

    def _publish(self) -> None:
        """Show the state: intents and conditions first brought up to date, then the card and what else has changed."""
        self._unshown = False
        now = workflow.now()
        for record in self._state.confirming():
            settle_decision(record, self._state.snapshot, self._state.target, now)
        conditions.settle(self._state, now, workflow.info().first_execution_run_id)
        workflow.set_current_details(card(self._state))
        updates = search_attributes.updates(self._state, self._written, self._observed_written)
        if updates:
            workflow.upsert_search_attributes(updates)
            self._written.update(search_attributes.values(self._state))
            self._observed_written = self._state.observed_at

    async def _show_messages(self) -> None:
        """Show what messages have changed once, however many came.

        Thousands may wait for one workflow task, and one that takes the SDK more than two seconds fails, for ever.
        """
        while not told_to_end():
            await workflow.wait_condition(lambda: self._unshown)
            self._publish()

    def _receive(self, name: str, payloads: Sequence[RawValue], default_key: str | None = None) -> IntentRecord:
        record = messages.receive(
            self._state,
            name,
            [raw.payload for raw in payloads],
            now=workflow.now(),
            first_run_id=workflow.info().first_execution_run_id,
            trace_id=str(workflow.uuid4()),
            default_not_after_s=self._start.options.default_not_after_s,
            default_key=default_key,
        )
        self._unshown = True
        return record

    def _direct(self, directive: Directive, payloads: Sequence[RawValue]) -> IntentRecord:
        before = (self._state.transport.active, self._state.cursor.epoch)
        record = directives.receive(
            self._state,
            directive,
            [raw.payload for raw in payloads],
            now=workflow.now(),
            first_run_id=workflow.info().first_execution_run_id,
            trace_id=str(workflow.uuid4()),
            local_only=self._start.local_only,
        )
        if before != (self._state.transport.active, self._state.cursor.epoch) or self._state.transport.blind:
            self._observing.supersede()
        self._unshown = True
        return record

    async def _ask(self, name: str, message: RawValue) -> IntentRecord:
        """Queue an intent, and answer its record when there is something to tell, or with the stage it has reached."""
        update = workflow.current_update_info()
        return await self._answer(name, self._receive(name, [message], default_key=update.id if update else None))

    async def _answer(self, name: str, record: IntentRecord) -> IntentRecord:
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: messages.is_answered(record) or self._executing.leaving,
                timeout=ANSWER_LIMIT_S,
                timeout_summary=f"somebody waits for what becomes of {name}",
            )
        return record

    def reject_unreadable(self, name: str, reason: str) -> None:
        """Record a message that could not be handed to its handler (called by the guard interceptor)."""
        messages.reject_unreadable(
            self._state, name, reason, now=workflow.now(), first_run_id=workflow.info().first_execution_run_id
        )
        self._unshown = True

    @workflow.signal(name="CANCEL_LOOP", description=f"Stop the loop's run, or clear a crashed one. {_EXAMPLE}")
    def cancel_loop(self, message: RawValue) -> None:
        """Validate and queue a cancel."""
        self._receive("CANCEL_LOOP", [message])

    @workflow.signal(name="APPROVE_PENDING", description=f"Approve the pending approval request. {_EXAMPLE}")
    def approve_pending(self, message: RawValue) -> None:
        """Validate and queue an approval."""
        self._receive("APPROVE_PENDING", [message])

    @workflow.signal(name="REJECT_PENDING", description=f"Reject the pending approval request. {_EXAMPLE}")
    def reject_pending(self, message: RawValue) -> None:
        """Validate and queue a rejection."""
        self._receive("REJECT_PENDING", [message])

    @workflow.signal(name=Directive.SET_TRANSPORT.value, description=_PIN)
    def set_transport(self, message: RawValue) -> None:
        """Pin the loop to a transport, or end that."""
        self._direct(Directive.SET_TRANSPORT, [message])

    @workflow.signal(name=Directive.RESOLVE_DIVERGENCE.value, description=_RESOLVE)
    def resolve_divergence(self, message: RawValue) -> None:
        """Close a divergence as an operator says."""
        self._direct(Directive.RESOLVE_DIVERGENCE, [message])

    @workflow.signal(name=Directive.RECONCILE.value, description=_RECONCILE)
    def reconcile(self, message: RawValue) -> None:
        """Have the log compared."""
        self._direct(Directive.RECONCILE, [message])

    @workflow.signal(dynamic=True, description="Any other name: recorded as a rejection, so that a typo is seen.")
    def any_other(self, name: str, args: Sequence[RawValue]) -> None:
        """Record a signal of an unknown name as a rejection."""
        self._receive(name, args)

    @workflow.update(name="CANCEL_LOOP", description=f"The signal, answered with its record. {_EXAMPLE}")
    async def cancel_and_tell(self, message: RawValue) -> IntentRecord:
        """Queue a cancel and answer what became of it."""
        return await self._ask("CANCEL_LOOP", message)

    @workflow.update(name="APPROVE_PENDING", description=f"The signal, answered with its record. {_EXAMPLE}")
    async def approve_and_tell(self, message: RawValue) -> IntentRecord:
        """Queue an approval and answer what became of it."""
        return await self._ask("APPROVE_PENDING", message)

    @workflow.update(name="REJECT_PENDING", description=f"The signal, answered with its record. {_EXAMPLE}")
    async def reject_and_tell(self, message: RawValue) -> IntentRecord:
        """Queue a rejection and answer what became of it."""
        return await self._ask("REJECT_PENDING", message)

    @cancel_and_tell.validator
    @approve_and_tell.validator
    @reject_and_tell.validator
    def check_message(self, message: RawValue) -> None:
        """Refuse what is no message, before it leaves a trace in history; its shape only, for nothing is looked at."""
        messages.decode([message.payload])

    @workflow.update(name=Directive.SET_TRANSPORT.value, description=f"The signal, answered with its record. {_PIN}")
    async def set_transport_and_tell(self, message: RawValue) -> IntentRecord:
        """Pin the loop to a transport, or end that, and answer what became of it."""
        return self._direct(Directive.SET_TRANSPORT, [message])

    @workflow.update(
        name=Directive.RESOLVE_DIVERGENCE.value, description=f"The signal, answered with its record. {_RESOLVE}"
    )
    async def resolve_and_tell(self, message: RawValue) -> IntentRecord:
        """Close a divergence and answer what became of it."""
        return self._direct(Directive.RESOLVE_DIVERGENCE, [message])

    @workflow.update(name=Directive.RECONCILE.value, description=f"The signal, answered with its record. {_RECONCILE}")
    async def reconcile_and_tell(self, message: RawValue) -> IntentRecord:
        """Have the log compared and answer what was found."""
        return await self._answer(Directive.RECONCILE, self._direct(Directive.RECONCILE, [message]))

    @set_transport_and_tell.validator
    def check_transport(self, message: RawValue) -> None:
        """Refuse what is no message, before it leaves a trace in history."""
        directives.decode(Directive.SET_TRANSPORT, [message.payload])

    @resolve_and_tell.validator
    def check_resolution(self, message: RawValue) -> None:
        """Refuse what is no message, before it leaves a trace in history."""
        directives.decode(Directive.RESOLVE_DIVERGENCE, [message.payload])

    @reconcile_and_tell.validator
    def check_reconcile(self, message: RawValue) -> None:
        """Refuse what is no message, before it leaves a trace in history."""
        directives.decode(Directive.RECONCILE, [message.payload])

    @workflow.update(
        name=UpdateName.OBSERVE_NOW,
        description=f"Look at the loop now, then answer the status report; within {LOOK_LIMIT_S:.0f} s. No input.",
    )
    async def observe_now(self) -> StatusReport:
        """Look at the loop before answering; where that takes too long, `observedAt` says how old the answer is."""
        number = self._observing.supersede()
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._state.seen >= number, timeout=LOOK_LIMIT_S, timeout_summary="a look that was asked for"
            )
        return self.status()

    @workflow.query(name="status", description="Everything believed about the loop, as one JSON object. No input.")
    def status(self) -> StatusReport:
        """The status report."""
        info = workflow.info()
        return self.report(run_id=info.run_id, history_length=info.get_current_history_length())

    def report(self, *, run_id: str, history_length: int) -> StatusReport:
        """The status report as of a point in history; needs no running workflow, so a replay can ask too."""
        return status_report(
            self._state, local_only=self._start.local_only, run_id=run_id, history_length=history_length
        )

    @workflow.query(name="intents", description="The messages received, newest last, with every stage. No input.")
    def intents(self) -> list[IntentRecord]:
        """The recent intents, accepted or not."""
        return list(self._state.intents)


def _restore(start: SupervisorStart) -> SupervisorState:
    if start.carried is None:
        state = SupervisorState(target=start.target, transport=transport.initial(start.target, start.local_only))
    else:
        state = SupervisorState.model_validate(start.carried)
        state.rules_version = RULES_VERSION
    if start.webhook is not None:
        state.notices = state.notices or NoticesReport()
    return state
