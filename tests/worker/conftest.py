"""A Temporal server for the tests of this folder, started once by the code under test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio.client import Client

from worker.connection import connect
from worker.embedded import EmbeddedTemporal


@pytest_asyncio.fixture(scope="session")
async def temporal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedTemporal]:
    async with EmbeddedTemporal(tmp_path_factory.mktemp("temporal")) as server:
        yield server


@pytest_asyncio.fixture(scope="session")
async def client(temporal: EmbeddedTemporal) -> AsyncIterator[Client]:
    async with connect(temporal.target, plugins=[]) as connected:
        yield connected
