from pathlib import Path

import pytest

from tests.sprite.repos import Repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repo with the folder of a loop, and nothing in it."""
    return Repo(tmp_path)
