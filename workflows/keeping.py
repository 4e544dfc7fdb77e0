"""Evidence survives: the history of a run is kept when the run is over, in the background of the next one.

The successor keeps its predecessor, whose history is complete by then. What could not be kept is handed on, so that it
is tried for as long as the loop is supervised; supervision never waits for it.
"""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from workflows import remote

with workflow.unsafe.imports_passed_through():
    from contract.archives import ArchiveInput

from workflows.state import SupervisorState

MAX_UNKEPT = 20
"""Runs that wait to be kept; beyond that the oldest is given up on, long after the trouble began."""
_PREDECESSORS = "archive-predecessors"
_OWN = "archive-at-release"
_UNKEPT = "archive-unkept-at-release"


class Keeping:
    """Keeps predecessors, and at a release the run itself and whatever of them is not kept yet."""

    def __init__(self, state: SupervisorState, queue: str) -> None:
        self._state = state
        self._queue = queue
        predecessor = workflow.info().continued_run_id
        if predecessor and predecessor not in state.unkept_runs:
            state.unkept_runs = [*state.unkept_runs, predecessor][-MAX_UNKEPT:]

    async def predecessors(self) -> None:
        """Keep every run that still has to be, the oldest first."""
        if not self._state.unkept_runs or not workflow.patched(_PREDECESSORS):
            return
        for run_id in list(self._state.unkept_runs):
            try:
                await remote.archive(self._input(run_id), self._queue)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise asyncio.CancelledError from error
                workflow.logger.warning("the history of run %s is lost: %s", run_id, remote.why(error))
            self._state.unkept_runs.remove(run_id)

    async def own(self) -> None:
        """Keep this run as far as it goes, if that can be done at once: a release is not held up.

        Nobody comes after this run, so it is the last chance of those before it, too.
        """
        if not workflow.patched(_OWN):
            return
        last = self._at_once(workflow.info().run_id)
        unkept = self._state.unkept_runs
        before = unkept if unkept and workflow.patched(_UNKEPT) else []
        await asyncio.gather(last, *(self._at_once(run_id) for run_id in before))

    async def _at_once(self, run_id: str) -> None:
        try:
            await remote.archive_at_once(self._input(run_id), self._queue)
        except ActivityError as error:
            workflow.logger.warning("the history of run %s is not kept: %s", run_id, remote.why(error))

    def _input(self, run_id: str) -> ArchiveInput:
        return ArchiveInput(workflow_id=workflow.info().workflow_id, run_id=run_id)
