"""What a namespace needs before a supervisor can run in it: search attributes and retention."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode

from worker.connection import RPC_TIMEOUT
from worker.errors import SearchAttributesMissing, TemporalUnreachable
from workflows.search_attributes import ALL

RETENTION = timedelta(days=30)
"""How long closed runs stay readable: an incident is investigated weeks after it happened."""
USABLE_WITHIN_S = 60.0
"""Servers cache a namespace's search attributes for up to this long."""
_RETRY_PAUSE_S = 0.25

Keys = Sequence[SearchAttributeKey[Any]]


async def missing_search_attributes(client: Client, keys: Keys = ALL) -> list[SearchAttributeKey[Any]]:
    """Those of `keys` that the namespace does not have; none where the server does not let us look.

    Raises SearchAttributesMissing if one exists with another type: no supervisor could ever set it.
    """
    request = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        answer = await client.operator_service.list_search_attributes(request, timeout=RPC_TIMEOUT, retry=True)
    except RPCError as error:
        if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED):
            return []
        raise _unreachable(client, error) from None
    known = dict(answer.custom_attributes)
    for key in keys:
        if key.name in known and int(known[key.name]) != int(key.indexed_value_type):
            raise SearchAttributesMissing(
                f"namespace {client.namespace!r} has a search attribute {key.name} of type "
                f"{_type_name(known[key.name])}, but supervisors set it as {_type_name(key.indexed_value_type)}: use "
                "another namespace, or remove it there (temporal operator search-attribute remove) if nothing uses it"
            )
    return [key for key in keys if key.name not in known]


async def ensure_search_attributes(
    client: Client, keys: Keys = ALL, *, usable_within_s: float = USABLE_WITHIN_S
) -> list[str]:
    """Register what is missing of `keys` and wait until all are usable; returns the names registered now.

    May be called by any number of workers at any time. Where nothing is missing, no right to register is needed.
    Raises SearchAttributesMissing with the way out.
    """
    missing = await missing_search_attributes(client, keys)
    if missing:
        await _register(client, missing)
    await _wait_until_usable(client, keys, usable_within_s)
    return [key.name for key in missing]


async def _register(client: Client, keys: Keys) -> None:
    wanted = {key.name: IndexedValueType.ValueType(key.indexed_value_type) for key in keys}
    request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=wanted)
    try:
        await client.operator_service.add_search_attributes(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        # Another worker may have been faster: what counts is whether they are there.
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise SearchAttributesMissing(_refusal(client.namespace, keys, error)) from None


def _refusal(namespace: str, keys: Keys, error: RPCError) -> str:
    names = ", ".join(key.name for key in keys)
    if "cannot have more than" in str(error):
        keywords = sum(_type_name(key.indexed_value_type) == "Keyword" for key in keys)
        return (
            f"search attributes {names} cannot be registered in namespace {namespace!r}: {error}. Namespaces on SQL "
            f"stores have room for 10 of type Keyword and {keywords} more are needed. Use a namespace of its own, or "
            "remove unused ones there: temporal operator search-attribute list"
        )
    return (
        f"search attributes {names} are missing in namespace {namespace!r} and could not be registered: {error}. "
        f"Somebody who may do so has to: {_command(namespace, keys)}"
    )


def _command(namespace: str, keys: Keys) -> str:
    wanted = " ".join(f"--name {key.name} --type {_type_name(key.indexed_value_type)}" for key in keys)
    return f"temporal operator search-attribute create --namespace {namespace} {wanted}"


def _unreachable(client: Client, error: RPCError) -> TemporalUnreachable:
    return TemporalUnreachable(
        f"Temporal at {client.service_client.config.target_host} did not answer about namespace "
        f"{client.namespace!r}: {error}. Try again once it does; see: ops-manager doctor"
    )


def _type_name(value_type: int) -> str:
    name = IndexedValueType.Name(IndexedValueType.ValueType(value_type))
    return "".join(part.capitalize() for part in name.removeprefix("INDEXED_VALUE_TYPE_").split("_"))


async def _wait_until_usable(client: Client, keys: Keys, within_s: float) -> None:
    # A query that names all of them is refused until visibility knows each; it is about a workflow that never exists.
    query = " AND ".join(["WorkflowId = 'ops-manager-probe'", *(f"{key.name} IS NULL" for key in keys)])
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + within_s
    while True:
        try:
            await client.count_workflows(query, rpc_timeout=RPC_TIMEOUT)
            return
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise _unreachable(client, error) from None
            if loop.time() >= give_up_at:
                raise SearchAttributesMissing(
                    f"a query in namespace {client.namespace!r} cannot use the search attributes after {within_s:g} s: "
                    f"{error}. If they are missing, {_command(client.namespace, keys)}; if they are there, look at "
                    "the server's visibility store"
                ) from None
        await asyncio.sleep(_RETRY_PAUSE_S)


async def read_retention(client: Client) -> timedelta:
    """How long the namespace keeps closed runs; zero where the server does not say."""
    answer = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=client.namespace), timeout=RPC_TIMEOUT, retry=True
    )
    return answer.config.workflow_execution_retention_ttl.ToTimedelta()


async def ensure_retention(client: Client, at_least: timedelta = RETENTION) -> timedelta:
    """Lengthen the namespace's retention to `at_least`, never shorten it; returns the one in force.

    For a server of our own only: on somebody else's, retention costs somebody else's storage.
    """
    retention = await read_retention(client)
    if retention >= at_least:
        return retention
    wanted = Duration()
    wanted.FromTimedelta(at_least)
    config = NamespaceConfig(workflow_execution_retention_ttl=wanted)
    request = UpdateNamespaceRequest(namespace=client.namespace, config=config)
    await client.workflow_service.update_namespace(request, timeout=RPC_TIMEOUT)
    return await read_retention(client)
