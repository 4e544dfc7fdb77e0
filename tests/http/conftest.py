from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from sprite.http import ServiceSettings
from tests.control.support import fake_runtime, loop_repo
from tests.http.support import Service, running
from tests.standin.support import Sandboxes

QUICK = ServiceSettings(
    body_timeout_s=0.5, head_timeout_s=0.5, linger_s=0.3, keep_alive_s=1.0, write_window_s=0.5, max_connections=20
)
"""Limits that a test need not wait for."""


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandboxes]:
    """Makes repos with the stand-in; ends what was started in them."""
    sandboxes = Sandboxes(tmp_path)
    yield sandboxes
    sandboxes.end()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repo whose loop asks for approval, by hand."""
    return loop_repo(tmp_path / "repo", approval={"status": "pending", "run_id": "R1", "iteration": 3})


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A fake runtime that counts what it was made to do."""
    return fake_runtime(tmp_path / "fake", "echo done")


@pytest.fixture
async def service(repo: Path, runtime: Path, tmp_path: Path) -> AsyncIterator[Service]:
    """The service as production configures it."""
    async with running(repo, runtime, tmp_path / "state") as one:
        yield one


@pytest.fixture
async def quick(repo: Path, runtime: Path, tmp_path: Path) -> AsyncIterator[Service]:
    """The service with short limits."""
    async with running(repo, runtime, tmp_path / "state", settings=QUICK) as one:
        yield one


def running_in(folder: Path, settings: ServiceSettings | None = None) -> AbstractAsyncContextManager[Service]:
    pending = {"status": "pending", "run_id": "R1", "iteration": 3}
    repo = loop_repo(folder / "repo", approval=pending)
    return running(repo, fake_runtime(folder / "fake", "echo done"), folder / "state", settings=settings)


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """One service for the tests of a module that leave no trace in it."""
    async with running_in(tmp_path_factory.mktemp("shared")) as one:
        yield one


@pytest.fixture(scope="module")
async def shared_quick(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """The same with short limits, for tests that leave no connection busy."""
    async with running_in(tmp_path_factory.mktemp("quick"), QUICK) as one:
        yield one
