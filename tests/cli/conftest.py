"""A namespace of its own for canned supervisors, so that `list` shows nobody else's."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from cli.session import PydanticConverter
from tests.cli.canned import CannedSupervisor
from tests.cli.ops import Ops
from worker.bootstrap import ensure_search_attributes
from worker.connection import Target, connect
from worker.pollers import wait_for_pollers

if TYPE_CHECKING:
    from tests.harness import House

QUEUE = "canned"


@dataclass(frozen=True)
class Place:
    """A namespace: a client for it, and commands that find it as an operator's shell would."""

    client: Client
    ops: Ops

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """A worker that runs canned supervisors for the block."""
        async with Worker(
            self.client,
            task_queue=QUEUE,
            workflows=[CannedSupervisor],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            await wait_for_pollers(self.client, QUEUE, self.client.identity)
            yield


@pytest_asyncio.fixture(scope="session")
async def server(house: "House") -> Target:
    """The Temporal server of the session."""
    return Target(house.address)


@pytest_asyncio.fixture
async def place(server: Target) -> AsyncIterator[Place]:
    """A fresh namespace with the search attributes."""
    namespace = f"cli-{uuid.uuid4().hex[:8]}"
    retention = Duration()
    retention.FromTimedelta(timedelta(days=30))
    async with connect(server, plugins=[]) as client:
        await client.workflow_service.register_namespace(
            RegisterNamespaceRequest(namespace=namespace, workflow_execution_retention_period=retention)
        )
    target = Target(server.address, namespace)
    # Without the product's plugin, which would bring the real supervisor along.
    async with connect(target, plugins=[PydanticConverter()], keep_trying_s=30.0) as client:
        await _until_usable(client)
        environment = {
            "TEMPORAL_ADDRESS": server.address,
            "TEMPORAL_NAMESPACE": namespace,
            "OPS_MANAGER_TASK_QUEUE": QUEUE,
            "USER": "ana",
        }
        yield Place(client, Ops(environment))


async def _until_usable(client: Client) -> None:
    for _ in range(100):
        try:
            await ensure_search_attributes(client)
            return
        except RPCError as error:
            # The frontend's cache learns of a new namespace a moment later.
            if "not found" not in str(error).lower():
                raise
    raise AssertionError(f"namespace {client.namespace} never became usable")
