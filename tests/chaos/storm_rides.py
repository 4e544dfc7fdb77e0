"""One supervised loop through one seed's storm, and what must be true of it in the end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from contract.identifiers import workflow_id
from contract.status import WORKFLOW_TYPE
from contract.supervision import SupervisorStart
from sprite.drill import ChaosProxy, Setting
from sprite.standin.player import Player
from sprite.standin.replay_plan import plan
from tests.chaos.robot import NO_SUCH_RUN, Robot
from tests.chaos.storm_plans import PLAYED_IN_S, Blow, Plan, Play, Reach
from tests.chaos.storm_verdict import PATIENCE_S, Verdict
from tests.chaos.watching import Watcher
from tests.harness import FAST
from tests.harness_sprite import HANGING, QUEUE, WAITING, Sprite
from tests.interop.independent import read_log
from tests.recordings.unpack import recording

WORKS_ON = (Play.CANCEL, Play.ROBOT)
ANA = {"by": "ana"}
_AWHILE_S = 2.0


class Ride:
    """The loop of one plan."""

    def __init__(self, client: Client, plan: Plan, sprite: Sprite, proxy: ChaosProxy) -> None:
        self.plan = plan
        self.watcher = Watcher(client, workflow_id(sprite.name, "demo"))
        self._client = client
        self._sprite = sprite
        self._proxy = proxy
        # In most storms nothing may come of it, so that they end as if nothing had been; in its own, one cancel.
        self._robot = Robot(self.watcher, None if plan.play is Play.ROBOT else NO_SUCH_RUN)

    @classmethod
    @contextlib.asynccontextmanager
    async def begun(cls, client: Client, plan: Plan, folder: Path) -> AsyncIterator["Ride"]:
        """The ride with everything in place and the supervisor started; ended with the block."""
        name = f"seed-{plan.seed}"
        scenario = (HANGING if plan.play in WORKS_ON else WAITING) if isinstance(plan.play, Play) else None
        async with contextlib.AsyncExitStack() as stack:
            sprite = stack.enter_context(Sprite(folder / name, name, scenario))
            proxy = await stack.enter_async_context(ChaosProxy.before(sprite.url))
            if plan.reach is not Reach.LOCAL:
                await sprite.serve_as_process()
            if plan.reach is not Reach.SERVICE:
                await stack.enter_async_context(sprite.local_worker(client))
            ride = cls(client, plan, sprite, proxy)
            handle = await ride._supervise()
            try:
                yield ride
            finally:
                with contextlib.suppress(RPCError):
                    await handle.terminate("the storm is over")

    async def _supervise(self) -> WorkflowHandle[object, object]:
        local_only = self.plan.reach is Reach.LOCAL
        sprite = self._sprite
        target = sprite.local_target() if local_only else sprite.target(service_url=self._proxy.url)
        return await self._client.start_workflow(
            WORKFLOW_TYPE,
            SupervisorStart(target=target, task_queue=QUEUE, local_only=local_only, options=FAST),
            id=workflow_id(target.sprite, target.loop_id),
            task_queue=QUEUE,
        )

    async def run(self) -> None:
        """Play the loop while the storm goes on; then judge."""
        async with self._robot.off_in_the_end():
            if self.plan.play is Play.ROBOT:
                await self._play()
                await self._storm()
            else:
                self._robot.switch_on()
                async with asyncio.TaskGroup() as together:
                    together.create_task(self._play())
                    together.create_task(self._storm())
            await Verdict(self.plan, self._sprite, self.watcher, self._robot, self._key).judge()

    async def _storm(self) -> None:
        for blow in self.plan.blows:
            await self._strike(blow)
        if self.plan.alteration is not None:
            await self._lie(self.plan.alteration)

    async def _strike(self, blow: Blow) -> None:
        await asyncio.sleep(blow.calm_s)
        if blow.kills_service:
            await asyncio.to_thread(self._sprite.kill_service)
        await self._proxy.set(blow.setting)
        if blow.until_seen:
            await self._robot_meets_darkness()
        await asyncio.sleep(blow.seconds)
        await self._proxy.set(Setting())
        if blow.kills_service:
            await self._sprite.serve_as_process()

    async def _robot_meets_darkness(self) -> None:
        await self.watcher.until(lambda seen: seen.transport.state != "sprite_service", "missed", PATIENCE_S)
        self._robot.switch_on()
        dark = "blind" if self.plan.reach is Reach.SERVICE else "local"
        await self.watcher.until(lambda seen: seen.transport.state == dark, dark, PATIENCE_S)
        await self._robot.has_sent(2)

    async def _lie(self, alteration: Setting) -> None:
        await self.watcher.until(
            lambda seen: seen.cursor.event_line_offset > alteration.line and seen.transport.state == "sprite_service",
            "more was read through the service than will be altered",
            PATIENCE_S,
        )
        await self._proxy.set(alteration)
        await self.watcher.until(lambda seen: bool(seen.divergence), "a divergence", PATIENCE_S)
        if self.plan.play is Play.ROBOT:
            self._robot.switch_on()
            await self._robot.has_sent(2)
        await self._proxy.set(Setting())
        if self.plan.play is Play.ROBOT:
            await self._robot.has_sent(2)
            await self._clear_up()

    async def _clear_up(self) -> None:
        """What an operator does about a divergence: look, compare again, and close what does not close by itself."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                seen = await self.watcher.until(lambda seen: seen.cursor.at_head, "the head of the log", PATIENCE_S)
                true = seen.cursor.chain == read_log(self._sprite.log()).chain
                if true and not seen.divergence and seen.transport.state == "sprite_service":
                    return
                for found in seen.divergence:
                    if found.type == "events_rewritten":
                        await self._ask("RESOLVE_DIVERGENCE", {"id": found.id, "accept": "current"})
                if seen.transport.state == "local":
                    await self._ask("RECONCILE", {})
                await asyncio.sleep(_AWHILE_S)

    async def _ask(self, name: str, message: dict[str, object]) -> None:
        with contextlib.suppress(RPCError):  # the server may be gone just now
            await self.watcher.signal(name, {**ANA, **message})

    async def _play(self) -> None:
        if isinstance(self.plan.play, Play):
            await self._play_script(self.plan.play)
            return
        played = recording(self.plan.play)
        actions = plan(played)
        recorded_s = actions[-1].at_s - actions[0].at_s
        with Player(played, self._sprite.repo, speed=recorded_s / PLAYED_IN_S) as player:
            await asyncio.to_thread(player.play)

    async def _play_script(self, play: Play) -> None:
        sprite = self._sprite
        run = sprite.run()
        if play in WORKS_ON:
            await sprite.until_role_works()
            await self.watcher.until(lambda seen: seen.lifecycle == "running", "running", PATIENCE_S)
        else:
            await asyncio.to_thread(run.wait)
            await self.watcher.until(lambda seen: seen.lifecycle == "awaiting_approval", "waiting", PATIENCE_S)
        if play is Play.ROBOT:
            return
        await self._send({Play.APPROVE: "APPROVE_PENDING", Play.REJECT: "REJECT_PENDING"}.get(play, "CANCEL_LOOP"))
        if play is Play.CANCEL:
            return
        await sprite.until(sprite.decisions, "the decision is in the sprite", PATIENCE_S)
        await asyncio.to_thread(sprite.run().wait)

    async def _send(self, intent: str) -> None:
        """Send until it is taken, always under one key, as a script does that must not fail."""
        while True:
            with contextlib.suppress(RPCError):
                await self.watcher.signal(intent, {**ANA, "idempotencyKey": self._key})
                return
            await asyncio.sleep(0.2)

    @property
    def _key(self) -> str:
        return f"the intent of seed {self.plan.seed}"
