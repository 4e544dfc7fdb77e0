"""kill -9 of worker, server and receiver while conditions are open: each is told once, and closed once (D10, D13)."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.identifiers import workflow_id
from contract.status import Lifecycle
from sprite.standin import FAST_PACE_MS, prepare_repo
from tests.chaos.crew import Victim, leaving_nothing_behind
from tests.chaos.house import House
from tests.chaos.surviving import SPRITE
from tests.chaos.watching import PATIENCE_S, Watcher
from tests.harness_history import failed_tasks
from tests.harness_sprite import LOOP, Sprite
from tests.receiver import SECRETS, Receiver, assert_each_told_once, receiving
from worker.connection import Target, connect
from worker.server_state import running_server

OPENED, CLOSED = "opened", "closed"
SCRIPT = {"approval_required": True, "runs": [{"iterations": [{"outcome": "candidate"}]}]}


class _Life:
    """A loop that asks for an approval, is approved and completes, with kills in between."""

    def __init__(self, house: House, watcher: Watcher, receiver: Receiver, victim: Victim) -> None:
        self._house = house
        self._watcher = watcher
        self._receiver = receiver
        self._victim = victim

    async def live(self) -> None:
        prepare_repo(self._house.sprite.repo, {"pace_ms": FAST_PACE_MS, "loops": {LOOP: SCRIPT}})
        self._house.begin_run()
        await self._becomes(Lifecycle.AWAITING_APPROVAL)
        await self._told(("approval_waiting", OPENED))
        await self._strike()
        # Nobody takes what happens now, and what runs the supervisor dies once more meanwhile.
        self._receiver.stop()
        await self._watcher.signal("APPROVE_PENDING", {"by": "ana"})
        await self._becomes(Lifecycle.DECIDED)
        await self._watcher.until(lambda report: bool(report.notices and report.notices.pending), "something waits")
        await self._strike()
        self._house.begin_run()
        await self._becomes(Lifecycle.COMPLETE)
        self._receiver.start()
        await self._told(
            ("approval_waiting", OPENED),
            ("approval_waiting", CLOSED),
            ("approved_not_resumed", OPENED),
            ("approved_not_resumed", CLOSED),
        )
        await self._strike()
        await self._watcher.until(lambda report: bool(report.notices and not report.notices.pending), "all delivered")

    async def _strike(self) -> None:
        pid = self._house.pid(self._victim)
        os.kill(pid, signal.SIGKILL)
        await self._house.revive(self._victim, pid)

    async def _becomes(self, lifecycle: Lifecycle) -> None:
        await self._watcher.until(lambda report: report.lifecycle is lifecycle, lifecycle.value)

    async def _told(self, *told: tuple[str, str]) -> None:
        # A round that was begun by a worker that died is missed after a minute, and the next one begins five later.
        await self._receiver.until_told(*told, timeout_s=4 * PATIENCE_S)


@contextlib.asynccontextmanager
async def _house(folder: Path, victim: Victim, receiver: Receiver) -> AsyncIterator[tuple[House, Watcher]]:
    settings = {
        "OPS_MANAGER_WEBHOOK__URL": receiver.webhook.url,
        "OPS_MANAGER_WEBHOOK__SECRET": receiver.webhook.secret or "",
    }
    with leaving_nothing_behind(folder) as sessions, Sprite(folder / "sprite", SPRITE) as sprite:
        own_worker = victim is Victim.WORKER
        async with House.open(folder / "house", sprite, sessions, own_worker=own_worker, settings=settings) as house:
            server = running_server(house.data)
            assert server is not None
            async with connect(Target(server.address)) as client:
                yield house, Watcher(client, workflow_id(SPRITE, LOOP))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", [Victim.WORKER, Victim.TEMPORAL, Victim.UP])
async def test_every_condition_is_told_once_whatever_is_killed_while_it_is_open(tmp_path: Path, victim: Victim) -> None:
    folder = tmp_path / "life"
    folder.mkdir()
    with receiving(tmp_path / "receiver") as receiver:
        async with _house(folder, victim, receiver) as (house, watcher):
            try:
                await _Life(house, watcher, receiver, victim).live()
                report, histories = await watcher.at_rest()
                logs = house.last_words()
            except BaseException as error:
                error.add_note(house.last_words())
                raise
        await asyncio.to_thread(receiver.stop)
    assert_each_told_once(receiver)
    assert [failed for history in histories for failed in failed_tasks(history)] == []
    assert report.conditions == []
    everything = report.model_dump_json() + logs + "".join(history.to_json() for history in histories)
    assert not [secret for secret in SECRETS if secret in everything]
