"""A loop that waits for approval behind a service of the base contract."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness_sprite import TOKEN, WAITING, Sprite
from tests.peers import BasePeer, base_peer


@pytest.fixture
def waiting(new_sprite: Any) -> Sprite:
    """A sprite whose loop waits for approval."""
    sprite: Sprite = new_sprite("foreign", WAITING)
    sprite.run().wait()
    return sprite


@pytest.fixture
def peer(waiting: Sprite) -> Iterator[BasePeer]:
    """The base service over it."""
    with base_peer(waiting.repo, token=TOKEN, runtime=waiting.control_binary) as service:
        yield service
