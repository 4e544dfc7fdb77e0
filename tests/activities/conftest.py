import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from activities.bundles import ServiceActivities
from activities.client import SpriteServiceClient
from tests.activities.hands import PENDING, Hand
from tests.activities.support import lay_end, target, token_in
from tests.control.support import fake_runtime, loop_repo
from tests.peers import BasePeer, base_peer

logging.getLogger("httpx").setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    token_in(monkeypatch)


@pytest.fixture
async def client() -> AsyncIterator[SpriteServiceClient]:
    async with SpriteServiceClient(max_loops=20) as service_client:
        yield service_client


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repo as the recording 02-approve ended: complete, 33 events."""
    return lay_end("02-approve", tmp_path / "repo")


@pytest.fixture
def peer(repo: Path) -> Iterator[BasePeer]:
    """A service of the base contract over `repo`."""
    with base_peer(repo) as service:
        yield service


@pytest.fixture
def waiting_repo(tmp_path: Path) -> Path:
    """A repo whose loop waits for an approval."""
    return loop_repo((tmp_path / "repo").resolve(), approval=PENDING)


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return fake_runtime(tmp_path / "fake", "echo done")


@pytest.fixture
def base(client: SpriteServiceClient, waiting_repo: Path, runtime: Path) -> Iterator[Hand]:
    """A service of the base contract."""
    with base_peer(waiting_repo, runtime=runtime) as peer:
        yield Hand("base", ServiceActivities(client), target(peer), waiting_repo, runtime, peer=peer)
