"""One observer per loop, ever: exactly one `observe` is outstanding, and it returns only upon news."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from workflows import remote, transport

with workflow.unsafe.imports_passed_through():
    from contract.observation import Observation, ObserveInput
    from contract.supervision import SupervisorStart

from workflows.ingest import apply_observation, recheck_due
from workflows.state import OPEN_STAGES, SupervisorState


def told_to_end() -> bool:
    """Whether the running part of the supervisor was cancelled.

    A part that awaits an activity it has just cancelled, or with a timeout a condition that came true meanwhile, never
    sees its own cancellation: the await takes it. Going on, it would be waited for for ever.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Observing:
    """Keeps the observer going and applies what it brings. `publish` is called after every change."""

    def __init__(self, start: SupervisorStart, state: SupervisorState, publish: Callable[[], None]) -> None:
        self._start = start
        self._state = state
        self._publish = publish
        self._superseded = False
        self._wanted = 0

    def supersede(self) -> int:
        """Replace the outstanding observer by one that reads at once; returns the number its result will carry."""
        self._superseded = True
        self._wanted = self._state.observer + 1
        return self._wanted

    async def run(self) -> None:
        """Observe until cancelled."""
        while not told_to_end():
            delay_s = transport.retry_delay_s(self._state.transport)
            if delay_s > 0:
                await self._pause(delay_s)
                if told_to_end():
                    return
            await self._observe_once()
            self._publish()

    async def _pause(self, delay_s: float) -> None:
        try:
            await workflow.wait_condition(
                lambda: self._superseded or not self._state.transport.blind,
                timeout=delay_s,
                timeout_summary="blind: before the next try",
            )
        except TimeoutError:
            return

    async def _observe_once(self) -> None:
        self._superseded = False
        self._state.observer += 1
        self._state.observer_since = workflow.now()
        request = self._request()
        handle = remote.start_observe(request, self._start.task_queue)
        # Nobody waits for an observer that is given up on leaving; its end is not a lost error.
        handle.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await workflow.wait_condition(lambda: handle.done() or self._superseded)
            if not handle.done():
                handle.cancel()
            self._apply(await handle)
        except ActivityError as error:
            if not is_cancelled_exception(error):
                transport.failed(self._state.transport, request.transport, remote.why(error), workflow.now())
        finally:
            handle.cancel()

    def _apply(self, seen: Observation) -> None:
        options = self._start.options
        apply_observation(
            self._state,
            seen,
            workflow.now(),
            crash_recheck_s=options.crash_recheck_s,
            cancel_effect_s=remote.CONTROL_TIMEOUT.total_seconds() + options.cancel_confirm_wait_s,
        )

    def _request(self) -> ObserveInput:
        state, options = self._state, self._start.options
        # Only until the reading that was asked for is there: while a command runs, each reading would be one too many.
        asked = state.seen < self._wanted
        prompt = any(record.stage in OPEN_STAGES or record.deadline for record in state.intents)
        recheck = recheck_due(state) and not asked
        return ObserveInput(
            target=state.target,
            transport=state.transport.active,
            observer=state.observer,
            cursor=state.cursor,
            known=state.known,
            return_first=asked or recheck or state.transport.blind or state.transport.unproven,
            first_read_delay_s=options.crash_recheck_s if recheck else 0.0,
            interval_s=options.prompt_interval_s if prompt else None,
            observe_max_s=options.observe_max_s,
            idle_poll_interval_s=options.idle_poll_interval_s,
            running_poll_interval_s=options.running_poll_interval_s,
            long_poll_wait_s=options.long_poll_wait_s,
            stale_after_s=options.stale_after_s,
            transport_failure_limit=options.transport_failure_limit,
            image=state.image,
            scrub_after_s=self._scrub_after_s(),
            scrub_interval_s=options.scrub_interval_s,
        )

    def _scrub_after_s(self) -> float:
        interval_s, last = self._start.options.scrub_interval_s, self._state.scrubbed_at
        if last is None:
            return interval_s  # the first reading reads everything anyway
        return max(0.0, interval_s - (workflow.now() - last).total_seconds())
