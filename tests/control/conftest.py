from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from sprite.control import SpriteController
from tests.control.support import controller
from tests.standin.support import Sandboxes


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandboxes]:
    """Makes repos with the stand-in; ends what was started in them."""
    sandboxes = Sandboxes(tmp_path)
    yield sandboxes
    sandboxes.end()


class MakeController(Protocol):
    def __call__(self, repo: Path, binary: Path, **options: Any) -> SpriteController: ...


@pytest.fixture
def control(tmp_path: Path) -> Iterator[MakeController]:
    """Makes controllers that share a state folder; closes them."""
    made: list[SpriteController] = []

    def make(repo: Path, binary: Path, **options: Any) -> SpriteController:
        made.append(controller(repo, binary, tmp_path / "state", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
