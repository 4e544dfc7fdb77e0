"""The activities as workers register them: the same names through both transports.

`ServiceActivities` reach any sprite by the URL in their input; `LocalActivities` serve exactly one sprite, on the
machine that has it, and refuse to act on any other, so that a wrong queue, host or path never touches another loop.
"""

from __future__ import annotations

import uuid

from temporalio import activity

from activities import control, local_control
from activities.client import SpriteServiceClient
from activities.control_answers import Command
from activities.failures import Condition
from activities.heartbeats import now
from activities.observe import observe
from activities.probe import is_alive, probe
from activities.reconcile import chains, reconcile
from activities.sources import LocalSource, ServiceSource
from activities.targets import check_identity
from contract.observation import (
    ActivityName,
    Contact,
    ControlInput,
    ControlOutcome,
    LookUpInput,
    LookUpKind,
    LookUpResult,
    Observation,
    ObserveInput,
    ProbeInput,
    ProbeResult,
    Target,
    Transport,
)
from contract.reconciliation import ChainsInput, ChainsResult, ReconcileInput, ReconcileResult
from sprite.control import SpriteController
from sprite.reader import SpriteReader


class ServiceActivities:
    """The activities of the transport `sprite_service`; `client` is shared and outlives them."""

    def __init__(self, client: SpriteServiceClient) -> None:
        self._client = client

    @activity.defn(name=ActivityName.OBSERVE.value)
    async def observe(self, asked: ObserveInput) -> Observation:
        """See activities.observe."""
        trace_id = _new_trace_id()
        return await observe(asked, ServiceSource(self._client, asked.target, trace_id=trace_id), trace_id=trace_id)

    @activity.defn(name=ActivityName.EXECUTE_CONTROL.value)
    async def execute_control(self, asked: ControlInput) -> ControlOutcome:
        """See activities.control."""
        return await control.execute_through_service(self._client, asked)

    @activity.defn(name=ActivityName.LOOK_UP_CONTROL.value)
    async def look_up_control(self, asked: LookUpInput) -> LookUpResult:
        """See activities.control."""
        return await control.look_up_through_service(self._client, asked)

    @activity.defn(name=ActivityName.PROBE.value)
    async def probe(self, asked: ProbeInput) -> ProbeResult:
        """See activities.probe."""
        return await probe(self._client, asked, trace_id=_new_trace_id())

    @activity.defn(name=ActivityName.RECONCILE.value)
    async def reconcile(self, asked: ReconcileInput) -> ReconcileResult:
        """See activities.reconcile."""
        return await reconcile(self._source(asked.target), asked)

    @activity.defn(name=ActivityName.CHAINS.value)
    async def chains(self, asked: ChainsInput) -> ChainsResult:
        """See activities.reconcile."""
        return await chains(self._source(asked.target), asked)

    def _source(self, target: Target) -> ServiceSource:
        return ServiceSource(self._client, target, trace_id=_new_trace_id())


class LocalActivities:
    """The activities of the transport `local`, for the sprite named `sprite` whose files `reader` reads."""

    def __init__(self, reader: SpriteReader, controller: SpriteController, sprite: str) -> None:
        self._reader = reader
        self._controller = controller
        self._sprite = sprite

    @activity.defn(name=ActivityName.OBSERVE.value)
    async def observe(self, asked: ObserveInput) -> Observation:
        """See activities.observe."""
        trace_id = _new_trace_id()
        return await observe(asked, self._source(asked.target, trace_id), trace_id=trace_id)

    @activity.defn(name=ActivityName.EXECUTE_CONTROL.value)
    async def execute_control(self, asked: ControlInput) -> ControlOutcome:
        """See activities.local_control."""
        try:
            self._check(asked.target)
        except Condition as condition:
            command = Command(asked.target.loop_id, asked.intent, Transport.LOCAL, now())
            return control.refused_outcome(command, condition)
        return await local_control.execute_locally(self._controller, asked, self._reader.sprite_id)

    @activity.defn(name=ActivityName.LOOK_UP_CONTROL.value)
    async def look_up_control(self, asked: LookUpInput) -> LookUpResult:
        """See activities.local_control."""
        try:
            self._check(asked.target)
        except Condition as condition:
            return LookUpResult(kind=LookUpKind.UNREACHABLE, message=str(condition))
        return await local_control.look_up_locally(self._controller, asked)

    @activity.defn(name=ActivityName.PROBE.value)
    async def probe(self, asked: ProbeInput) -> ProbeResult:
        """One reading: the local transport has nothing that would have to come back."""
        try:
            await self._source(asked.target).snapshot()
        except Condition as condition:
            return ProbeResult(recovered=is_alive(condition), attempts=1, detail=str(condition))
        return ProbeResult(recovered=True, attempts=1, detail="the local transport reads the loop")

    @activity.defn(name=ActivityName.RECONCILE.value)
    async def reconcile(self, asked: ReconcileInput) -> ReconcileResult:
        """See activities.reconcile."""
        return await reconcile(self._source(asked.target), asked)

    @activity.defn(name=ActivityName.CHAINS.value)
    async def chains(self, asked: ChainsInput) -> ChainsResult:
        """See activities.reconcile."""
        return await chains(self._source(asked.target), asked)

    def _source(self, target: Target, trace_id: str | None = None) -> LocalSource:
        return LocalSource(
            self._reader, target.loop_id, trace_id=trace_id or _new_trace_id(), check=lambda: self._check(target)
        )

    def _check(self, target: Target) -> None:
        if target.sprite != self._sprite:
            raise Condition(
                Contact.WRONG_SPRITE,
                f"this worker serves sprite {self._sprite!r}, the task is for {target.sprite!r}: wrong queue. "
                "Nothing was done",
                sprite_id=self._reader.sprite_id,
            )
        check_identity(target, self._reader.sprite_id, str(self._reader.repo))


def _new_trace_id() -> str:
    return uuid.uuid4().hex
