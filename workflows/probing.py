"""While the service is away: finds out when it answers again, and has it compared."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from workflows import remote, transport

with workflow.unsafe.imports_passed_through():
    from contract.observation import ProbeInput, ProbeResult
    from contract.supervision import SupervisorStart

from workflows.observing import told_to_end
from workflows.reconciling import Reconciling
from workflows.state import SupervisorState


class Probing:
    """One probe at a time, while another transport than the service has to be used."""

    def __init__(self, start: SupervisorStart, state: SupervisorState, reconciling: Reconciling) -> None:
        self._start = start
        self._state = state
        self._reconciling = reconciling

    async def run(self) -> None:
        """Probe whenever needed, until cancelled."""
        while not told_to_end():
            await workflow.wait_condition(lambda: self._needed() or self._state.transport.reconciling)
            # A comparison that a fresh run of the supervisor has cut off is begun anew.
            if not self._state.transport.reconciling:
                if not await self._paused():
                    continue
                result = await self._probe()
                if result is None or not self._needed():
                    continue
                if result.other_sprite:
                    self._reconciling.another_sprite(result.detail)
                if not result.recovered:
                    continue
            await self._reconciling.after_probe()

    async def _paused(self) -> bool:
        """Wait until the next probe is due; False when it is not any more, or sooner than was thought."""
        transports = self._state.transport
        due = transport.probe_due(transports)
        pause_s = (due - workflow.now()).total_seconds() if due else 0.0
        if pause_s <= 0:
            return True
        try:
            await workflow.wait_condition(
                lambda: not self._needed() or transport.probe_due(transports) != due,
                timeout=pause_s,
                timeout_summary="the service did not stand what the probe found well",
            )
        except TimeoutError:
            return True
        return False

    async def _probe(self) -> ProbeResult | None:
        options = self._start.options
        request = ProbeInput(
            target=self._state.target,
            cursor=self._state.cursor,
            interval_s=options.probe_interval_s,
            max_interval_s=options.probe_max_interval_s,
        )
        try:
            return await remote.probe(request, self._start.task_queue)
        except ActivityError as error:
            if is_cancelled_exception(error):
                return None
            workflow.logger.warning("the probe of the sprite service failed: %s", remote.why(error))
            await workflow.sleep(options.probe_max_interval_s, summary="before the next probe")
            return None

    def _needed(self) -> bool:
        return transport.needs_probe(self._state.transport, self._state.target, self._start.local_only)
