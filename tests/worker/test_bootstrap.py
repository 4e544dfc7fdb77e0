"""What a namespace is given before a supervisor runs in it."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey

from worker.bootstrap import ensure_retention, ensure_search_attributes, missing_search_attributes, read_retention
from worker.connection import Target, connect
from worker.errors import SearchAttributesMissing
from workflows.search_attributes import ALL


async def new_namespace(client: Client, *, retention: timedelta = timedelta(days=2)) -> Target:
    """A namespace with nothing in it, and a target that reaches it once the server has spread the news."""
    name = f"test-{uuid.uuid4()}"
    kept = Duration()
    kept.FromTimedelta(retention)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=kept)
    )
    return Target(client.service_client.config.target_host, name)


async def add(client: Client, **types: str) -> None:
    wanted = {name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind}") for name, kind in types.items()}
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=client.namespace, search_attributes=wanted)
    )


async def test_search_attributes_are_registered_once_and_usable_at_once(client: Client) -> None:
    async with connect(await new_namespace(client), plugins=[]) as fresh:
        assert [key.name for key in await missing_search_attributes(fresh)] == [key.name for key in ALL]
        assert await ensure_search_attributes(fresh) == [key.name for key in ALL]
        for key in ALL:
            await fresh.count_workflows(f"{key.name} IS NOT NULL")
        assert await ensure_search_attributes(fresh) == []
        assert await missing_search_attributes(fresh) == []


async def test_workers_that_start_together_all_succeed(client: Client) -> None:
    async with connect(await new_namespace(client), plugins=[]) as fresh:
        await asyncio.gather(*(ensure_search_attributes(fresh) for _ in range(5)))
        assert await missing_search_attributes(fresh) == []


async def test_namespace_without_room_for_keywords_says_how_many_are_needed(client: Client) -> None:
    async with connect(await new_namespace(client), plugins=[]) as crowded:
        await add(crowded, **{f"Other{number}": "KEYWORD" for number in range(8)})
        with pytest.raises(SearchAttributesMissing, match=r"room for 10 of type Keyword and 5 more are needed"):
            await ensure_search_attributes(crowded)


async def test_attribute_of_another_type_is_refused_with_both_types(client: Client) -> None:
    async with connect(await new_namespace(client), plugins=[]) as taken:
        await add(taken, LoopStatus="INT")
        with pytest.raises(SearchAttributesMissing, match="LoopStatus of type Int, but supervisors set it as Keyword"):
            await ensure_search_attributes(taken)


async def test_retention_is_lengthened_and_never_shortened(client: Client) -> None:
    async with connect(await new_namespace(client, retention=timedelta(days=2)), plugins=[]) as short:
        assert await ensure_retention(short) == timedelta(days=30)
        assert await read_retention(short) == timedelta(days=30)
    async with connect(await new_namespace(client, retention=timedelta(days=90)), plugins=[]) as long:
        assert await ensure_retention(long) == timedelta(days=90)


async def test_attribute_that_never_becomes_usable_is_reported(client: Client) -> None:
    async with connect(await new_namespace(client), plugins=[]) as fresh:
        await ensure_search_attributes(fresh)
        # A name that this server's query language refuses stands for one that visibility never learns.
        unusable = SearchAttributeKey.for_keyword("Not A Name")
        with pytest.raises(SearchAttributesMissing):
            await ensure_search_attributes(fresh, [*ALL, unusable], usable_within_s=0.3)
