"""One notice at a time, oldest first, for as long as it takes: a receiver that is down delays, and loses nothing (D13).

Temporal tries each one again and again, in rounds: a round that ends in vain is when the supervisor learns, and can
show, that nobody takes its notices.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from workflows import remote

with workflow.unsafe.imports_passed_through():
    from contract.notices import DeliverInput, PendingNotice, WebhookTarget
    from contract.status import NoticesReport, Undelivered
    from contract.supervision import SupervisorStart

from workflows.observing import told_to_end
from workflows.state import SupervisorState

FIRST_ROUND = timedelta(minutes=1)
"""Short, so that an address that never worked is soon seen in `status`."""
ROUND = timedelta(hours=1)
PAUSE_S = 300.0
"""Between two rounds; also the longest pause between two tries within one."""
GIVE_UP_AFTER = timedelta(days=7)
"""Old news of a loop helps nobody; that it was not delivered stays in `status`."""
FAREWELL_S = 10.0
"""For what is still to be told when supervision is released: a person waits for that, perhaps for a command as well."""
MAX_UNDELIVERED = 20


class Notifying:
    """Empties the outbox."""

    def __init__(self, start: SupervisorStart, state: SupervisorState) -> None:
        self._start = start
        self._state = state

    async def run(self) -> None:
        """Deliver until cancelled."""
        webhook = self._start.webhook
        while webhook is not None and not told_to_end():
            await workflow.wait_condition(lambda: bool(self._state.outbox))
            try:
                delivered = await self._round(webhook)
            except ActivityError:
                return  # cancelled: whoever goes on from here delivers it, under the same id
            if not delivered:
                await workflow.sleep(PAUSE_S, summary="nobody takes the notices: before the next round of tries")

    async def farewell(self) -> None:
        """Deliver what is left, within FAREWELL_S; the rest is written down as undelivered."""
        webhook, until = self._start.webhook, workflow.now() + timedelta(seconds=FAREWELL_S)
        while webhook is not None and self._state.outbox:
            left = until - workflow.now()
            with contextlib.suppress(ActivityError):
                if left > timedelta(seconds=1) and await self._round(webhook, left):
                    continue
            for message in list(self._state.outbox):
                self._give_up(message, "supervision was released before anybody took it")

    async def _round(self, webhook: WebhookTarget, within: timedelta | None = None) -> bool:
        """Try to deliver the oldest notice; False after a round in vain. Raises ActivityError when cancelled."""
        message, shown = self._state.outbox[0], self._shown
        limit = within or (ROUND if shown.failing_since else FIRST_ROUND)
        try:
            request = DeliverInput(webhook=webhook, message=message)
            await remote.deliver(request, self._start.task_queue, limit)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            shown.last_error = remote.why_undelivered(error)
            shown.failing_since = shown.failing_since or workflow.now()
            if workflow.now() - (message.notice.closed_at or message.notice.opened_at) >= GIVE_UP_AFTER:
                self._give_up(message, shown.last_error)
            return False
        self._drop(message)
        shown.delivered += 1
        shown.last_delivered_at = workflow.now()
        shown.last_error = shown.failing_since = None
        return True

    @property
    def _shown(self) -> NoticesReport:
        assert self._state.notices is not None, "there is a webhook"  # noqa: S101 - for the type checker
        return self._state.notices

    def _give_up(self, message: PendingNotice, reason: str) -> None:
        shown = self._shown
        self._drop(message)
        shown.undelivered_count += 1
        shown.undelivered.append(
            Undelivered(
                message_id=message.message_id, kind=message.notice.kind, given_up_at=workflow.now(), reason=reason
            )
        )
        del shown.undelivered[:-MAX_UNDELIVERED]

    def _drop(self, message: PendingNotice) -> None:
        self._state.outbox = [other for other in self._state.outbox if other.message_id != message.message_id]
