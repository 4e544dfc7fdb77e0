"""kill -9 of what runs the supervisor; apart from the others, because a dead worker is missed only after 30 s."""

from pathlib import Path

import pytest

from tests.chaos.crew import Victim
from tests.chaos.surviving import lives_of, survive_side_by_side


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", [Victim.WORKER, Victim.UP])
async def test_a_process_with_workers_killed_at_seeded_instants_loses_nothing(tmp_path: Path, victim: Victim) -> None:
    await survive_side_by_side(tmp_path, lives_of(victim))
