"""kill -9 of every process of a supervised loop, at seeded instants: nothing is lost, nothing is doubled.

Real processes throughout: `ops-manager up` with its Temporal server, `ops-manager worker`, `ops-manager sprite serve`,
and the stand-in for `superloop.sh`. A failure names the seed that draws the same instants again.
"""

from pathlib import Path

import pytest

from contract.intents import Intent
from tests.chaos.crew import Victim
from tests.chaos.gate import Moment
from tests.chaos.instants import InCommand, Kill, at_line, in_approval, in_cancel, random_for, while_leaving
from tests.chaos.surviving import lives_of, survive, survive_side_by_side


@pytest.mark.timeout(240)
async def test_a_kill_of_each_process_one_in_a_command_and_one_in_a_continue_as_new_loses_nothing(
    tmp_path: Path,
) -> None:
    numbers = random_for("sample")
    sample = {
        "own-worker": [at_line(Victim.WORKER, numbers)],
        "up": [
            at_line(Victim.RUNTIME, numbers),
            while_leaving(Victim.TEMPORAL, numbers),
            in_cancel(Victim.SERVICE, numbers),
            in_approval(Victim.RUNTIME, numbers),
        ],
    }
    await survive_side_by_side(tmp_path, sample)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", [Victim.TEMPORAL, Victim.SERVICE, Victim.RUNTIME])
async def test_a_process_killed_at_seeded_instants_loses_nothing(tmp_path: Path, victim: Victim) -> None:
    await survive_side_by_side(tmp_path, lives_of(victim))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", Moment)
async def test_a_service_killed_in_a_command_tells_in_the_end_what_came_of_it(tmp_path: Path, moment: Moment) -> None:
    commands = [InCommand(intent, moment) for intent in (Intent.CANCEL_LOOP, Intent.APPROVE_PENDING)]
    await survive(tmp_path / "life", [Kill(Victim.SERVICE, command) for command in commands])
