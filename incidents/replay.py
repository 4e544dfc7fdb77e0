"""Re-run the real workflow code over a recorded history, without a server, and look at every state it goes through.

A replay does not compare what activities were given or returned, so determinism alone proves little: the states have
to be looked at as well. A query of a live supervisor is answered from the state after its last completed workflow
task, so that is what is shown here for any instant. (One that was rebuilt for the query, or whose task the server then
refuses, is ahead of that until the next task is completed; whatever is done, completed tasks decide on.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from temporalio import workflow
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import WorkflowHistory
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    Replayer,
    UnsandboxedWorkflowRunner,
    WorkflowInboundInterceptor,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowInterceptorClassInput,
    WorkflowRunner,
)

from contract.status import StatusReport
from workflows.plugin import ops_manager_plugin
from workflows.supervisor import LoopSupervisor

Look = Callable[[LoopSupervisor, int], None]
"""Called with the supervisor after each workflow task, and the id of the event in which that task was started."""


@dataclass
class Replayed:
    """What a replay found: `failure` is None when the code made exactly the commands of the history."""

    status: StatusReport | None = None
    failure: BaseException | None = None


class _Keeper(Interceptor):
    """Keeps the workflow instance of a replay, so that its state can be read."""

    def __init__(self) -> None:
        self.kept: LoopSupervisor | None = None

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """See base class."""
        keeper = self

        class _KeepInstance(WorkflowInboundInterceptor):
            async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
                keeper.kept = workflow.instance()
                return await super().execute_workflow(input)

        return _KeepInstance


class _Watched(WorkflowInstance):
    """A workflow instance that is looked at after each of its activations."""

    def __init__(self, inner: WorkflowInstance, after: Callable[[WorkflowActivation], None]) -> None:
        self._inner = inner
        self._after = after

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        """See base class."""
        completion = self._inner.activate(act)
        if not any(job.HasField("remove_from_cache") for job in act.jobs):
            self._after(act)
        return completion

    def get_serialization_context(self, *arguments: Any) -> Any:
        """See base class."""
        return self._inner.get_serialization_context(*arguments)

    def get_external_store_context(self, *arguments: Any) -> Any:
        """See base class."""
        return self._inner.get_external_store_context(*arguments)

    def get_info(self) -> workflow.Info:
        """See base class."""
        return self._inner.get_info()


class _Runner(WorkflowRunner):
    def __init__(self, after: Callable[[WorkflowActivation], None]) -> None:
        self._inner = UnsandboxedWorkflowRunner()
        self._after = after

    def prepare_workflow(self, defn: Any) -> None:
        """See base class."""
        self._inner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See base class."""
        return _Watched(self._inner.create_instance(det), self._after)


async def replay(history: WorkflowHistory, look: Look | None = None) -> Replayed:
    """Replay one run's history with the production plugin; the state is the one after its last workflow task."""
    keeper = _Keeper()

    def after(act: WorkflowActivation) -> None:
        if look is not None and keeper.kept is not None:
            look(keeper.kept, act.history_length)

    replayer = Replayer(
        workflows=[],
        plugins=[ops_manager_plugin()],
        interceptors=[keeper],
        workflow_runner=_Runner(after),
    )
    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    found = Replayed(failure=result.replay_failure)
    if keeper.kept is not None:
        found.status = keeper.kept.report(run_id=history.run_id, history_length=len(history.events))
    return found
