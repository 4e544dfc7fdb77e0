"""What must be true of a loop that went through a storm."""

import asyncio
from collections.abc import Sequence

from temporalio.client import WorkflowHistory
from temporalio.service import RPCError

from contract.status import IntentStage, StatusReport
from tests.chaos.robot import ROBOT, Robot, judge_done_once, judge_nothing_done
from tests.chaos.storm_plans import Plan, Play
from tests.chaos.watching import Watcher
from tests.harness_history import failed_tasks
from tests.harness_sprite import Sprite
from tests.interop.independent import read_log
from tests.interop.test_recordings_supervised import TRUTHS

PATIENCE_S = 150.0
"""A killed worker is missed after 30 s and its command after 75 s; then the loop has to be caught up with."""
_ENDS = {
    Play.APPROVE: ("complete", "loop_complete"),
    Play.REJECT: ("awaiting_approval", "approval_requested"),
    Play.CANCEL: ("stopped", "cancelled"),
    Play.ROBOT: ("stopped", "cancelled"),
}
_WORDS = {Play.APPROVE: "approve", Play.REJECT: "approve", Play.CANCEL: "cancel", Play.ROBOT: "cancel"}
_OPEN = {
    IntentStage.RECEIVED,
    IntentStage.ACCEPTED,
    IntentStage.EXECUTING,
    IntentStage.RECORDED,
    IntentStage.AMBIGUOUS,  # late evidence settles it
}
_ABOUT_CONTENT = {"events_rewritten", "transport_disagreement"}


class Verdict:
    """Judges the loop of one plan."""

    def __init__(self, plan: Plan, sprite: Sprite, watcher: Watcher, robot: Robot, key: str) -> None:
        self._plan = plan
        self._sprite = sprite
        self._watcher = watcher
        self._robot = robot
        self._key = key

    async def judge(self) -> None:
        """What is believed is what an undisturbed run comes to; what was done was done once; nothing was silent."""
        report = await self._arrived()
        if self._plan.play is Play.ROBOT:
            # What it asks for once it has it is asked for in vain.
            await self._robot.has_sent(1)
        await self._robot.switch_off()
        self._judge_divergence(report)
        await self._judge_intent()
        report = await self._watcher.until(_all_ended, "nothing is under way", PATIENCE_S)
        histories = await self._histories()
        assert [failed for history in histories for failed in failed_tasks(history)] == []
        if self._plan.play is Play.ROBOT:
            await judge_done_once(self._sprite, report, histories)
        else:
            await judge_nothing_done(self._robot, self._sprite, report, histories)

    async def _arrived(self) -> StatusReport:
        told = read_log(self._sprite.log())
        truth = self._truth()
        # Whoever was shown another log may have to leave open what came of an intent.
        open_stages = _OPEN if self._plan.alteration is None else set()

        def arrived(seen: StatusReport) -> bool:
            # In a log that was read again later nothing tells who has removed the state of the run.
            untold = self._plan.alteration is not None and truth[1] == "cancelled" and seen.reason == "state_removed"
            reason = truth[1] if untold else seen.reason
            believed = (seen.lifecycle, reason, seen.run_id, seen.iteration)
            read = (seen.cursor.event_line_offset, seen.cursor.chain)
            decided = all(record.stage not in open_stages for record in seen.intents if record.by != ROBOT)
            return (*believed, *read) == (*truth, told.line_count, told.chain) and decided

        return await self._watcher.until(arrived, f"{truth}, line {told.line_count}, {told.chain}", PATIENCE_S)

    def _truth(self) -> tuple[str, str, str, int]:
        if not isinstance(self._plan.play, Play):
            truth = TRUTHS[self._plan.play]
            return truth.lifecycles.split()[-1], truth.reason, truth.run_id, truth.iteration
        last = self._sprite.events()[-1]
        return (*_ENDS[self._plan.play], last["run_id"], last["iteration"])

    def _judge_divergence(self, report: StatusReport) -> None:
        kinds = {divergence.type for divergence in (*report.divergence, *report.resolved_divergence)}
        assert (report.cursor.quarantined, report.cursor.unverifiable_from) == (0, None)
        if self._plan.alteration is None:
            assert (report.cursor.epoch, kinds) == (1, set())
        else:
            assert kinds
            assert kinds <= _ABOUT_CONTENT

    async def _judge_intent(self) -> None:
        """One record of the message, which says that it took effect; one effect, which the sprite's own files tell."""
        if not isinstance(self._plan.play, Play):
            assert self._sprite.commands() == []
            return
        word = _WORDS[self._plan.play]
        assert len(self._sprite.commands(word)) == 1
        assert self._sprite.commands() == self._sprite.commands(word)
        if self._plan.play is Play.ROBOT:
            return
        # Whoever was shown another log must not deny what was done, either.
        leaves_open = {IntentStage.RECORDED, IntentStage.AMBIGUOUS} if self._plan.alteration else set()
        under_way = _OPEN - leaves_open
        record = await self._watcher.intent(self._key, lambda record: record.stage not in under_way, "has an end")
        assert record.stage in {IntentStage.CONFIRMED, *leaves_open}, record
        if self._plan.play is not Play.CANCEL:
            (decision,) = self._sprite.decisions()
            wanted = "approved" if self._plan.play is Play.APPROVE else "rejected"
            assert (decision["decision"], decision["by"]) == (wanted, "ana")
            assert len(self._sprite.lines_of("approval_decision")) == 1

    async def _histories(self) -> Sequence[WorkflowHistory]:
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            try:
                return await self._watcher.histories()
            except RPCError:  # the server may be gone just now
                assert asyncio.get_running_loop().time() < deadline, "Temporal does not come back"
            await asyncio.sleep(0.2)


def _all_ended(report: StatusReport) -> bool:
    under_way = {IntentStage.RECEIVED, IntentStage.ACCEPTED, IntentStage.EXECUTING}
    return all(record.stage not in under_way and record.deadline is None for record in report.intents)
