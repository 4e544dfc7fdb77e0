"""Commands that find the session's Temporal server as an operator's shell would."""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.ops import Ops
from tests.harness_sprite import QUEUE

if TYPE_CHECKING:
    from tests.harness import House


@pytest.fixture
def name() -> str:
    """A sprite name that no other test has: what is known of a name includes who had it before."""
    return f"acme-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def ops(house: "House", tmp_path: Path, name: str) -> Ops:
    """Commands of somebody on the machine of the sprite `name` in `tmp_path`."""
    return Ops(
        {
            "TEMPORAL_ADDRESS": house.address,
            "OPS_MANAGER_TASK_QUEUE": QUEUE,
            "OPS_MANAGER_STATE_DIR": str(tmp_path / name / "state"),
            "OPS_MANAGER_DATA_FOLDER": str(tmp_path / "data"),
            "USER": "ana",
        }
    )
