"""What tests of several folders share. Imports are inside: most tests need neither a server nor our workers."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from tests.harness import House, Supervisors


_LONGEST_FIRST = ("demo", "chaos", "worker", "workflow", "interop", "cli", "readme", "http", "standin", "activities")
"""Folders whose files mostly wait. Several workers share the run, and it ends when the last of them does."""


def pytest_configure() -> None:
    """Take signals as in a terminal: what a shell starts in the background ignores some, and so do its children."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""

    def rank(item: pytest.Item) -> int:
        folder = item.nodeid.split("/")[1]
        return _LONGEST_FIRST.index(folder) if folder in _LONGEST_FIRST else len(_LONGEST_FIRST)

    items.sort(key=rank)


@pytest_asyncio.fixture(scope="session")
async def house(tmp_path_factory: pytest.TempPathFactory) -> "AsyncIterator[House]":
    """The one Temporal server of the session, with the product's workers."""
    from tests.harness import House

    async with House.open(tmp_path_factory.mktemp("house")) as opened:
        yield opened


@pytest.fixture
def new_sprite(tmp_path: Path) -> Iterator[Any]:
    """Makes sprites; ends what they started after the test."""
    from tests.harness_sprite import sprites

    with sprites(tmp_path) as make:
        yield make


@pytest.fixture
async def supervise(house: "House", new_sprite: Any) -> "AsyncIterator[Supervisors]":
    """Starts supervisors; replays and ends them after the test, while their sprites are still there."""
    from tests.harness import Supervisors

    async with Supervisors(house) as supervisors:
        yield supervisors
