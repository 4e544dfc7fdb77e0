"""Starting the supervisor of a loop, once: a second start finds the first and says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError

from contract.identifiers import workflow_id
from contract.notices import WebhookTarget
from contract.observation import Target, Transport
from contract.status import WORKFLOW_TYPE, Attention, Lifecycle
from contract.supervision import SupervisorStart
from worker.connection import RPC_TIMEOUT
from worker.settings import Settings
from workflows.search_attributes import LOOP_ATTENTION, LOOP_ID, LOOP_STATUS, LOOP_TRANSPORT, SPRITE_ID

_COMPARED = ("service_url", "token", "edge_auth", "repo_path")


@dataclass(frozen=True)
class Started:
    """The supervisor of a loop. `already`: it was there before; `differs`: how its target is another than asked."""

    workflow_id: str
    already: bool = False
    differs: tuple[str, ...] = ()


async def start_supervisor(
    client: Client, target: Target, settings: Settings, *, local_only: bool, webhook: WebhookTarget | None = None
) -> Started:
    """Start the one supervisor of `target`'s loop, or find it. Safe to repeat and to race."""
    name = workflow_id(target.sprite, target.loop_id)
    start = SupervisorStart(
        target=target,
        task_queue=settings.task_queue,
        local_only=local_only,
        options=settings.supervision.options(),
        webhook=webhook,
    )
    try:
        # FAIL tells in one step, without a race, whether it was there; the effect is that of USE_EXISTING.
        await client.start_workflow(
            WORKFLOW_TYPE,
            start,
            id=name,
            task_queue=settings.task_queue,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            search_attributes=initial_search_attributes(target, local_only=local_only),
            static_summary=f"Supervises loop {target.loop_id} of sprite {target.sprite}",
            static_details=_details(target),
            rpc_timeout=RPC_TIMEOUT,
        )
    except WorkflowAlreadyStartedError:
        known = await known_start(client, name)
        return Started(name, already=True, differs=_differences(known, start) if known else ())
    return Started(name)


def initial_search_attributes(target: Target, *, local_only: bool) -> TypedSearchAttributes:
    """What is shown until the first observation."""
    transport = Transport.LOCAL if local_only or not target.service_url else Transport.SPRITE_SERVICE
    pairs: list[SearchAttributePair[Any]] = [
        SearchAttributePair(LOOP_ID, target.loop_id),
        SearchAttributePair(LOOP_STATUS, Lifecycle.UNKNOWN.value),
        SearchAttributePair(LOOP_ATTENTION, Attention.NONE.value),
        SearchAttributePair(LOOP_TRANSPORT, transport.value),
    ]
    if target.sprite_id:
        pairs.append(SearchAttributePair(SPRITE_ID, target.sprite_id))
    return TypedSearchAttributes(pairs)


def _details(target: Target) -> str:
    where = [f"through `{target.service_url}`"] if target.service_url else []
    where += [f"repo `{target.repo_path}`"] if target.repo_path else []
    return (
        f"Supervises loop `{target.loop_id}` of sprite `{target.sprite}` {', '.join(where)}.\n\n"
        "- Signals `APPROVE_PENDING`, `REJECT_PENDING`, `CANCEL_LOOP` take one JSON object, such as "
        '`{"by":"ana","note":"looks good"}`.\n'
        "- Queries `status` and `intents` take none.\n"
        "- Cancelling this workflow releases the loop; it never touches it."
    )


def differences(known: Target, wanted: Target) -> tuple[str, ...]:
    """In which ways a supervisor's target is another than the one that is wanted; an unlearnt spriteId is none."""
    found = [
        f"{name.replace('_', ' ')} is {getattr(known, name) or 'none'}, not {getattr(wanted, name) or 'none'}"
        for name in _COMPARED
        if getattr(known, name) != getattr(wanted, name)
    ]
    if known.sprite_id and wanted.sprite_id and known.sprite_id != wanted.sprite_id:
        found.append(f"spriteId is {known.sprite_id}, not {wanted.sprite_id}")
    return tuple(found)


def _differences(known: SupervisorStart, wanted: SupervisorStart) -> tuple[str, ...]:
    found = differences(known.target, wanted.target)
    if known.webhook == wanted.webhook:
        return found
    return (*found, f"notices go to {_named(known.webhook)}, not to {_named(wanted.webhook)}")


def _named(webhook: WebhookTarget | None) -> str:
    if webhook is None:
        return "nobody"
    return webhook.url + (f" signed with {webhook.secret}" if webhook.secret else "")


async def known_start(client: Client, workflow: str) -> SupervisorStart | None:
    """What the running supervisor was started with, from its history; None when that cannot be read."""
    handle = client.get_workflow_handle(workflow)
    async for event in handle.fetch_history_events(page_size=1, rpc_timeout=RPC_TIMEOUT):
        return await _start_of(client, event)
    return None


async def _start_of(client: Client, event: HistoryEvent) -> SupervisorStart | None:
    payloads = event.workflow_execution_started_event_attributes.input.payloads
    if not payloads:
        return None
    try:
        decoded = await client.data_converter.decode(payloads[:1], [SupervisorStart])
    except Exception:  # noqa: BLE001 - started by hand or by another version: its target is unknown then
        return None
    start: SupervisorStart = decoded[0]
    return start
