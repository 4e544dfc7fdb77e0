"""One plugin for client, worker and replayer alike, so that a replay uses exactly the production configuration.

Three surfaces of the SDK meet here: the payload converter, the guard around signals, and the sandbox.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    HandleSignalInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from contract.intents import EXAMPLE, Intent
from workflows.supervisor import LoopSupervisor


class ForgivingPayloadConverter(PydanticPayloadConverter):
    """Pydantic's converter, which hands undecodable arguments on as raw values where nobody says what they should be.

    The SDK ignores type hints when the number of arguments is wrong, and silently drops a signal that does not decode;
    this way such a signal still reaches the guard and is recorded.
    """

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """See base class; without type hints, what cannot be decoded becomes a RawValue."""
        if type_hints is not None:
            return super().from_payloads(payloads, type_hints)
        return [self._forgiving(payload) for payload in payloads]

    def _forgiving(self, payload: Payload) -> Any:
        try:
            return super().from_payloads([payload])[0]
        except Exception:  # noqa: BLE001 - whatever a stranger's bytes raise, the message must not be lost
            return RawValue(payload)


class _SignalGuard(WorkflowInboundInterceptor):
    """Whatever is wrong with a signal ends as a recorded rejection: an exception here would wedge the workflow."""

    async def handle_signal(self, input: HandleSignalInput) -> None:
        # The sandbox has a class of its own, so the supervisor is known by what it can do.
        supervisor: Any = workflow.instance()
        if not hasattr(supervisor, "reject_unreadable"):
            await super().handle_signal(input)
            return
        if input.signal in Intent.__members__ and len(input.args) != 1:
            count = len(input.args) or "no"
            supervisor.reject_unreadable(
                input.signal, f"{count} arguments were sent: send one JSON object such as {EXAMPLE}"
            )
            return
        try:
            await super().handle_signal(input)
        except Exception as error:  # noqa: BLE001 - see the class
            supervisor.reject_unreadable(input.signal, f"the message could not be handled: {error}")


class GuardInterceptor(Interceptor):
    """Puts the guard before every signal handler."""

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """See base class."""
        return _SignalGuard


def _runner(existing: WorkflowRunner | None) -> WorkflowRunner:
    if existing is not None and not isinstance(existing, SandboxedWorkflowRunner):
        return existing
    # The contract's models are pure: sharing them with the sandbox saves memory per loop and keeps classes identical.
    restrictions = SandboxRestrictions.default.with_passthrough_modules("contract", "rfc8785")
    return SandboxedWorkflowRunner(restrictions=restrictions)


def data_converter() -> DataConverter:
    """The data converter of everything that talks to our workflows."""
    return dataclasses.replace(DataConverter.default, payload_converter_class=ForgivingPayloadConverter)


def ops_manager_plugin() -> SimplePlugin:
    """The plugin: data converter, guard, sandbox and the workflow itself. Clients hand it down to their workers."""
    return SimplePlugin(
        "superloop-ops-manager",
        data_converter=data_converter(),
        interceptors=[GuardInterceptor()],
        workflows=[LoopSupervisor],
        workflow_runner=_runner,
    )
