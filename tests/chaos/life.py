"""One supervised loop from its first run to its completion, with a kill at every instant given.

endless run ─ kills ─ CANCEL_LOOP ─ run ─ asks ─ APPROVE_PENDING ─ run ─ complete
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime

from contract.intents import Intent
from contract.status import IntentRecord, IntentStage, Lifecycle, StatusReport
from sprite.standin import prepare_repo
from tests.chaos.crew import Victim
from tests.chaos.gate import Moment
from tests.chaos.house import CONTINUE_AS_NEW_EVENTS, House
from tests.chaos.instants import AtLine, InCommand, Kill, WhileLeaving
from tests.chaos.watching import Watcher, is_leaving_at
from tests.harness_sprite import LOOP, until
from tests.interop.independent import read_log

PACE_MS = {"validate": 50, "config": 50, "role": 300, "gate": 15, "summary": 30, "truncate": 0, "cancel_poll": 20}
"""About 15 lines a second. No file stays empty for a while: a kill just then leaves what only the next run can mend."""
HELD_AT_MOST_S = 10.0
"""The sprite gives a command 30 s; what was killed may take longer to come back."""
TRIES = 8
"""A continue-as-new lasts a tenth of a second: a stop may come too late, and the next one is then stopped sooner."""


class Life:
    """The life of the loop of `house`'s sprite."""

    def __init__(self, house: House, watcher: Watcher) -> None:
        self.house = house
        self.sprite = house.sprite
        self.watcher = watcher
        self.kills: list[str] = []
        """What was killed so far, and when."""
        self.lifecycles: list[tuple[str, str]] = []
        """What the loop went through, with the reasons."""
        self.sent: list[str] = []
        """Keys of the intents that were sent."""
        self.unknown: list[str] = []
        """Those of them of which nobody can know whether they took effect."""

    async def live(self, kills: Sequence[Kill]) -> None:
        """Play the whole life; see the module."""
        held = {kill.instant.intent: kill for kill in kills if isinstance(kill.instant, InCommand)}
        await self._work(endless=True)
        for kill in kills:
            if isinstance(kill.instant, AtLine):
                await self._strike_at_line(kill.victim, kill.instant)
            elif isinstance(kill.instant, WhileLeaving):
                await self._strike_while_leaving(kill.victim, kill.instant)
        await self._cancel(held.get(Intent.CANCEL_LOOP))
        await self._approve(held.get(Intent.APPROVE_PENDING))
        await self._begin_run(endless=False)
        await self._has_become(Lifecycle.COMPLETE, "loop_complete")

    async def _work(self, *, endless: bool) -> None:
        """A run that works for ever, or until it asks for approval."""
        await self._begin_run(endless=endless)
        self.lifecycles.append(("running", "iteration_start"))

    async def _begin_run(self, *, endless: bool) -> None:
        before = self._lines
        script = {
            "max_iterations": 100_000,
            "stuck_threshold": 0,
            "approval_required": True,
            "runs": [{"iterations": [{"outcome": "continue" if endless else "candidate"}]}],
        }
        prepare_repo(self.sprite.repo, {"pace_ms": PACE_MS, "loops": {LOOP: script}})
        self.house.begin_run()
        await until(lambda: self._lines > before, "the run has begun")
        self.lifecycles.append(("starting", "loop_start"))

    async def _has_become(self, lifecycle: Lifecycle, reason: str) -> None:
        self.lifecycles.append((lifecycle.value, reason))
        await self.watcher.until(
            lambda report: (report.lifecycle, report.reason) == (lifecycle, reason),
            f"{lifecycle} ({reason}) after {self.kills}",
        )

    @property
    def _lines(self) -> int:
        return self.sprite.log().count(b"\n")

    async def _strike_at_line(self, victim: Victim, instant: AtLine) -> None:
        wanted = self._lines + instant.lines
        await until(lambda: self._lines >= wanted, f"line {wanted}")
        await self._recover(victim, self._kill(victim, f"at line {wanted}"))

    def _kill(self, victim: Victim, when: str) -> int:
        pid = self.house.pid(victim)
        os.kill(pid, signal.SIGKILL)
        self.kills.append(f"{victim} {when}")
        return pid

    async def _strike_while_leaving(self, victim: Victim, instant: WhileLeaving) -> None:
        delay_s = instant.delay_s
        for _ in range(TRIES):
            await self.watcher.leaving(CONTINUE_AS_NEW_EVENTS)
            await asyncio.sleep(delay_s)
            # With its worker frozen the supervisor stays where it is; if that came too late, it goes on as if nothing
            # had been.
            worker = self.house.pid(self.house.supervising)
            os.kill(worker, signal.SIGSTOP)
            try:
                hit = is_leaving_at(datetime.now(UTC), await self.watcher.histories(), CONTINUE_AS_NEW_EVENTS)
                killed = self._kill(victim, "while leaving") if hit else None
            finally:
                os.kill(worker, signal.SIGCONT)
            if killed is not None:
                await self._recover(victim, killed)
                return
            delay_s /= 2
        raise AssertionError(f"no continue-as-new was hit in {TRIES} tries")

    async def _recover(self, victim: Victim, killed: int) -> None:
        """Bring it back, and wait until the supervisor has seen what has been written meanwhile, line by line."""
        await self.house.revive(victim, killed)
        if victim is Victim.RUNTIME:
            await self._has_become(Lifecycle.FAILED, "crashed")
            cleared = await self._send(Intent.CANCEL_LOOP, IntentStage.CONFIRMED)
            assert cleared.clears_crash, cleared
            await self._has_become(Lifecycle.STOPPED, "cancelled")
            await self._work(endless=True)
        await self._caught_up()

    async def _caught_up(self) -> None:
        lines = self._lines
        report = await self.watcher.until(
            lambda report: report.cursor.event_line_offset >= lines and report.transport.state == "sprite_service",
            f"line {lines} through the service, after {self.kills}",
        )
        self._check_cursor(report)

    def _check_cursor(self, report: StatusReport) -> None:
        seen = report.cursor
        consumed = self.sprite.log().split(b"\n")[: seen.event_line_offset]
        told = read_log(b"".join(line + b"\n" for line in consumed))
        assert (seen.event_line_offset, seen.chain) == (told.line_count, told.chain), self.kills
        assert (seen.epoch, seen.quarantined, seen.unverifiable_from) == (1, 0, None)
        assert not report.divergence

    async def _send(self, intent: Intent, stage: IntentStage) -> IntentRecord:
        key = await self._signal(intent)
        return await self._reached(key, stage)

    async def _signal(self, intent: Intent) -> str:
        key = f"{intent.wire}-{len(self.sent) + 1}"
        self.sent.append(key)
        await self.watcher.signal(intent.value, {"by": "ana", "idempotencyKey": key})
        return key

    async def _reached(self, key: str, *stages: IntentStage) -> IntentRecord:
        return await self.watcher.intent(key, lambda record: record.stage in stages, f"{stages} after {self.kills}")

    async def _cancel(self, kill: Kill | None) -> None:
        """End the endless run; a kill hits while the command for it is under way."""
        await self._command(Intent.CANCEL_LOOP, kill, IntentStage.CONFIRMED)
        await self._has_become(Lifecycle.STOPPED, "cancelled")

    async def _approve(self, kill: Kill | None) -> None:
        """A run that asks for approval, and the approval."""
        await self._work(endless=False)
        await self._has_become(Lifecycle.AWAITING_APPROVAL, "approval_requested")
        await self._command(Intent.APPROVE_PENDING, kill, IntentStage.RECORDED)
        await self._has_become(Lifecycle.DECIDED, "approved")

    async def _command(self, intent: Intent, kill: Kill | None, stage: IntentStage) -> None:
        if kill is None or not isinstance(kill.instant, InCommand):
            await self._send(intent, stage)
            return
        gate, instant = self.house.gate, kill.instant
        gate.hold(instant.moment)
        key = await self._signal(intent)
        command = await gate.reached()
        if instant.leaving:
            await self.watcher.past(CONTINUE_AS_NEW_EVENTS)
        when = f"in {intent.wire}, {instant.moment} its effect"
        if kill.victim is Victim.RUNTIME and intent is Intent.APPROVE_PENDING:
            # No run is alive while an approval is pending: the runtime is the command itself.
            await self._command_killed(command, instant.moment, key, when)
            return
        killed = self._kill(kill.victim, when)
        if kill.victim is Victim.RUNTIME:
            # The cancel will find nothing left to end; by then the crash is known.
            await self._has_become(Lifecycle.FAILED, "crashed")
        elif not instant.back_first:
            gate.release()
        at_the_latest = asyncio.get_running_loop().call_later(HELD_AT_MOST_S, gate.release)
        await self.house.revive(kill.victim, killed)
        at_the_latest.cancel()  # else it would let go what is held next
        gate.release()
        await self._reached(key, stage)
        await self._caught_up()

    async def _command_killed(self, command: int, moment: Moment, key: str, when: str) -> None:
        os.kill(command, signal.SIGKILL)
        self.kills.append(f"the command {when}")
        self.house.gate.release()
        if moment is Moment.AFTER_EFFECT:
            record = await self._reached(key, IntentStage.RECORDED)
            assert record.late, record
            return
        await self._reached(key, IntentStage.AMBIGUOUS)
        self.unknown.append(key)
        # The operator sees that the request still stands, and asks again.
        await self._send(Intent.APPROVE_PENDING, IntentStage.RECORDED)
