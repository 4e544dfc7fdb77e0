"""One loop under supervision whose service is killed in the middle of one control request after another.

What really happened is read from the runtime's own files, as plain JSON.
"""

import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from contract.identifiers import workflow_id
from contract.intents import Intent
from contract.status import IntentRecord, IntentStage, Lifecycle
from sprite.standin import FAST_PACE_MS, prepare_repo
from tests.chaos.crew import Victim, leaving_nothing_behind
from tests.chaos.house import House
from tests.chaos.mortal_service import KILL_AT_VARIABLE
from tests.chaos.points import CANCEL, Point
from tests.chaos.watching import Watcher
from tests.harness_sprite import LOOP, Sprite, until
from worker.connection import Target, connect
from worker.server_state import running_server

SPRITE = "acme"
DONE = (IntentStage.RECORDED, IntentStage.CONFIRMED)
NOT_DONE = (IntentStage.REJECTED, IntentStage.EXPIRED, IntentStage.FAILED_COMMAND)
_SETTINGS = """\
[supervision]
idle_poll_interval = "1s"
probe_interval = "1s"
probe_max_interval = "2s"
"""

STATUS = {Intent.APPROVE_PENDING: "approved", Intent.REJECT_PENDING: "rejected"}


class MortalHouse(House):
    """A house whose service can be told to die at a step."""

    # Without the low bound of the history: a supervisor that leaves gives up what it has sent and nobody knows of.
    SETTINGS = _SETTINGS
    SERVICE = "tests.chaos.mortal_service"

    def _clean_environment(self, folder: Path) -> dict[str, str]:
        return {**super()._clean_environment(folder), KILL_AT_VARIABLE: str(self.kill_at)}

    @property
    def kill_at(self) -> Path:
        """The file that names the step."""
        return self.data.with_name("kill-at")


class Ordeal:
    """Kills the service at points, and judges what is said afterwards against what is there."""

    def __init__(self, house: MortalHouse, watcher: Watcher) -> None:
        self.house = house
        self.sprite = house.sprite
        self.watcher = watcher
        self.hits: Counter[str] = Counter()
        """How often each point was hit."""
        self.stages: Counter[str] = Counter()
        """How the intents ended, by point."""
        self._number = 0
        self._run: subprocess.Popen[bytes] | None = None

    async def strike(self, point: Point, intent: Intent) -> None:
        """Send an intent, kill the service at the point, bring it back, and judge how the intent ended."""
        self._number += 1
        by = f"{intent.wire}-{self._number}"
        await self._make_ready(intent, self._stop(point, intent))
        if point.step is not None:
            self.house.kill_at.write_text(point.step)
        await self.watcher.signal(intent.value, {"by": by, "idempotencyKey": by})
        killed = await self._kill(point)
        self.hits[point.name] += 1
        await self.house.revive(Victim.SERVICE, killed)
        record = await self.watcher.intent(by, _has_ended, f"{point} in {intent.wire} of {by}")
        self.stages[f"{point}: {record.stage.value}"] += 1
        self._judge(record, intent, by, str(point))

    def _stop(self, point: Point, intent: Intent) -> str | None:
        return f"{intent.wire}:{point.effects[intent]}:hold" if point.effects else None

    async def _kill(self, point: Point) -> int:
        pid = self.house.pid(Victim.SERVICE)
        if point.step is not None:
            await until(lambda: not self.house.kill_at.exists() and _is_dead(pid), f"the service dies {point}")
            return pid
        held = self._beside("standin-held")
        await until(held.exists, f"the command is held {point}")
        os.kill(pid, signal.SIGKILL)
        if point.orphan_goes_on:
            self._beside("standin-go").touch()
        else:
            self._prepare(None)
            os.kill(int(held.read_text()), signal.SIGKILL)
        return pid

    def _beside(self, name: str) -> Path:
        return self.sprite.repo / ".superloop" / name

    def _prepare(self, stop: str | None, *, endless: bool = False) -> None:
        iterations = [{"outcome": "hang"}] if endless else [{"outcome": "candidate"}]
        script = {"approval_required": True, "stuck_threshold": 0, "runs": [{"iterations": iterations}]}
        scenario: dict[str, Any] = {"pace_ms": {**FAST_PACE_MS, "truncate": 0}, "loops": {LOOP: script}}
        prepare_repo(self.sprite.repo, {**scenario, "stop": stop} if stop else scenario)

    async def _make_ready(self, intent: Intent, stop: str | None) -> None:
        """Bring the loop to where the intent makes sense, and have the supervisor see it through the service."""
        for name in ("standin-held", "standin-go"):
            self._beside(name).unlink(missing_ok=True)
        if intent is CANCEL:
            await self._have_a_run(stop)
            wanted = Lifecycle.RUNNING
        else:
            await self._have_a_request()
            self._prepare(stop)
            wanted = Lifecycle.AWAITING_APPROVAL
        lines = self.sprite.log().count(b"\n")
        await self.watcher.until(
            lambda report: (
                report.cursor.event_line_offset >= lines
                and report.lifecycle is wanted
                and report.transport.state == "sprite_service"
            ),
            f"{wanted} through the service",
        )

    async def _have_a_run(self, stop: str | None) -> None:
        self._prepare(None, endless=True)
        if self._run is None or self._run.poll() is not None:
            # What a run has left that was ended without its state would be in the way of the next.
            self.sprite.superloop("cancel")
            self._run = self.house.begin_run()
        await self.sprite.until_role_works()
        self._prepare(stop, endless=True)
        assert self._run.poll() is None, "the run was ended before anybody cancelled it"

    async def _have_a_request(self) -> None:
        self._prepare(None)
        while self._approval().get("status") != "pending":
            run = self.sprite.run()
            await until(lambda run=run: run.poll() is not None, "the run is over")

    def _judge(self, record: IntentRecord, intent: Intent, by: str, what: str) -> None:
        told = f"{what}: {by} ended as {record.stage}: {record.sentence}"
        assert record.stage is not IntentStage.AMBIGUOUS, told
        if intent is CANCEL:
            assert self._run is not None
            ended = self._run.poll() is not None
            assert not (record.stage is IntentStage.CONFIRMED and not ended), told
            assert not (record.stage in NOT_DONE and ended), told
            return
        traces = self._decisions_of(by)
        assert all(len(found) <= 1 for found in traces.values()), f"doubled: {told}; {traces}"
        statuses = {status for found in traces.values() for status in found}
        assert statuses <= {STATUS[intent]}, f"{told}; {traces}"
        assert not (record.stage in DONE and not statuses), f"acknowledged, and absent: {told}"
        assert not (record.stage in NOT_DONE and statuses), f"denied, and there: {told}; {traces}"

    def _decisions_of(self, by: str) -> dict[str, list[str]]:
        """What each of the runtime's files tells of a person's decisions."""
        events = [event.get("data") or {} for event in self.sprite.events() if event["event"] == "approval_decision"]
        return {
            "approval.json": _statuses([self._approval().get("decision") or {}], by),
            "decisions.jsonl": [one["decision"] for one in self.sprite.decisions() if one["by"] == by],
            "events.jsonl": _statuses(events, by),
        }

    def _approval(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.sprite.loop_folder / "approval.json").read_text())
        except FileNotFoundError:
            return {}
        return content


@contextlib.asynccontextmanager
async def ordeal(folder: Path) -> AsyncIterator[Ordeal]:
    """A supervised loop in a folder of its own; nothing is left of it afterwards."""
    folder.mkdir()
    with leaving_nothing_behind(folder) as sessions, Sprite(folder / "sprite", SPRITE) as sprite:
        async with MortalHouse.open(folder / "house", sprite, sessions, own_worker=False) as house:
            server = running_server(house.data)
            assert server is not None
            async with connect(Target(server.address)) as client:
                found = Ordeal(house, Watcher(client, workflow_id(SPRITE, LOOP)))
                try:
                    yield found
                except BaseException as error:
                    error.add_note(house.last_words())
                    raise


async def endure(folder: Path, strikes: Iterable[tuple[Point, Intent]]) -> Counter[str]:
    """Strike again and again; how often each point was hit. Prints how the intents ended."""
    async with ordeal(folder) as suffering:
        for point, intent in strikes:
            await suffering.strike(point, intent)
        print(folder.name, *(f"\n  {times:3} {stage}" for stage, times in sorted(suffering.stages.items())))
        return suffering.hits


def _has_ended(record: IntentRecord) -> bool:
    if record.stage is IntentStage.RECORDED:
        return record.intent != CANCEL
    return record.stage in (*DONE, *NOT_DONE, IntentStage.EXECUTED_UNCONFIRMED, IntentStage.AMBIGUOUS)


def _statuses(decisions: Iterable[dict[str, Any]], by: str) -> list[str]:
    return [one["status"] for one in decisions if one.get("by") == by]


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
