from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standin.support import Sandboxes


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandboxes]:
    """Makes repos with the stand-in; ends what was started in them."""
    sandboxes = Sandboxes(tmp_path)
    yield sandboxes
    sandboxes.end()
