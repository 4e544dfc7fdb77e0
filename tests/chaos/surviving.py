"""Lives with kills in them, several side by side, each judged at its end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from contract.identifiers import workflow_id
from tests.chaos.crew import Victim, leaving_nothing_behind
from tests.chaos.house import House
from tests.chaos.instants import SEED, SEED_VARIABLE, Kill, at_line, in_approval, in_cancel, random_for, while_leaving
from tests.chaos.life import Life
from tests.chaos.verdict import judge
from tests.chaos.watching import Watcher
from tests.harness_sprite import LOOP, Sprite
from worker.connection import Target, connect
from worker.server_state import running_server

SPRITE = "acme"


async def survive(folder: Path, kills: Sequence[Kill]) -> None:
    """Live a life with these kills in a folder of its own, and judge it."""
    folder.mkdir()
    own_worker = any(kill.victim is Victim.WORKER for kill in kills)
    with leaving_nothing_behind(folder) as sessions:
        async with _life(folder, sessions, own_worker=own_worker) as life:
            try:
                await life.live(kills)
                await judge(life)
            except BaseException as error:
                error.add_note(f"{SEED_VARIABLE}={SEED} draws these again: {', '.join(map(str, kills))}")
                error.add_note(life.house.last_words())
                raise


@contextlib.asynccontextmanager
async def _life(folder: Path, sessions: list[int], *, own_worker: bool) -> AsyncIterator[Life]:
    with Sprite(folder / "sprite", SPRITE) as sprite:
        async with House.open(folder / "house", sprite, sessions, own_worker=own_worker) as house:
            server = running_server(house.data)
            assert server is not None
            async with connect(Target(server.address)) as client:
                yield Life(house, Watcher(client, workflow_id(SPRITE, LOOP)))


async def survive_side_by_side(folder: Path, lives: Mapping[str, Sequence[Kill]]) -> None:
    """Live several lives at once, because they wait more than they compute; each of them to its end."""
    ends = await asyncio.gather(
        *(survive(folder / name, kills) for name, kills in lives.items()), return_exceptions=True
    )
    failures = [end for end in ends if isinstance(end, BaseException)]
    if failures:
        raise BaseExceptionGroup(f"{len(failures)} of {len(lives)} lives", failures)


def lives_of(victim: Victim) -> dict[str, list[Kill]]:
    """Six kills of `victim`: at three lines, in a continue-as-new, in an approval, and in a cancel."""
    numbers = random_for(victim)
    return {
        "lines": [at_line(victim, numbers), at_line(victim, numbers)],
        "leaving": [at_line(victim, numbers), while_leaving(victim, numbers), in_approval(victim, numbers)],
        "cancel": [in_cancel(victim, numbers)],
    }
