"""The law of the ledger (D12): no effect twice under a key, none acknowledged that is missing, whatever is killed when.

Schedules are drawn by hypothesis, which prints the steps of the smallest one that breaks the law, and the blob that
draws it again.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from sprite.control import ledger, situation
from sprite.control.errors import Busy, InFlight, KeyReused
from sprite.control.records import ControlRecord, State
from sprite.errors import SpriteError
from sprite.processes import ScanResult
from tests.control.crashing import Process, World, acknowledges
from tests.control.support import request

KEYS = ("k1", "k2", "k3")
AT_ONCE = 4
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - every example has a folder of its own in there

keys = st.sampled_from(KEYS)
choices = st.integers(min_value=0, max_value=AT_ONCE * 2)


class Sprite(RuleBasedStateMachine):
    """Two processes, three keys, a runtime that is stopped after each effect."""

    def __init__(self) -> None:
        super().__init__()
        root = SHARED_MEMORY if SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-laws-", dir=root))
        self.world = World(self.folder)
        self.processes = [Process(self.world), Process(self.world)]
        self.given_up: dict[str, int] = {}

    @rule(process=st.integers(0, 1), key=keys, intent=st.sampled_from(["approve", "approve", "reject", "cancel"]))
    def post(self, process: int, key: str, intent: str) -> None:
        """A request under a key that others may have used, for the same or for something else."""
        chosen = self.processes[process]
        if len(chosen.tasks) < AT_ONCE:
            chosen.post(request(intent, idempotencyKey=key, by="ana"), lambda heard: self._heard(key, heard))

    @rule(process=st.integers(0, 1), which=choices, steps=st.integers(1, 6))
    def advance(self, process: int, which: int, steps: int) -> None:
        """A request goes on, by as many steps as the system lets it."""
        chosen = self.processes[process]
        for _ in range(steps):
            if chosen.tasks:
                chosen.advance(which % len(chosen.tasks))

    @precondition(lambda self: self._running())
    @rule(steps=st.integers(1, 5))
    def command_goes_on(self, steps: int) -> None:
        """The command at work has its next effects."""
        for _ in range(steps):
            if running := self._running():
                running[0].advance()

    @precondition(lambda self: self._running())
    @rule()
    def command_is_killed(self) -> None:
        """The command at work is killed between two effects."""
        child = self._running()[0]
        self.world.disturbed.add(child.key)
        child.kill()

    @rule(process=st.integers(0, 1))
    def process_is_killed(self, process: int) -> None:
        """kill -9, and a new process in its place."""
        self.processes[process].kill()
        self.processes[process] = Process(self.world)

    @rule()
    def decision_is_taken_up(self) -> None:
        """A run takes up the decision, at any time."""
        self.world.take_up()

    @rule()
    def run_crashes(self) -> None:
        """A run dies, and has to be cleared."""
        self.world.crash()

    @rule()
    def somebody_decides(self) -> None:
        """A person in the sprite is faster."""
        self.world.decide_by_hand()

    @rule(process=st.integers(0, 1), key=keys)
    def look_up(self, process: int, key: str) -> None:
        """Somebody asks what became of a key."""
        self._look_up(self.processes[process], key)

    @invariant()
    def law(self) -> None:
        """Nothing is done twice, however often it is asked for, and nothing after it was called ambiguous."""
        for key in KEYS:
            assert self.world.effects(key) <= 1, f"{key} had its effect more than once"
        for key, effects in self.given_up.items():
            assert self.world.effects(key) == effects, f"{key} was run after it had been called ambiguous"

    def teardown(self) -> None:
        """All goes on to its end; then every key is asked for once more, and answered truly."""
        try:
            self._drain()
            process = Process(self.world)
            self.processes.append(process)
            for key in KEYS:
                self._look_up(process, key)
                process.post(request("approve", idempotencyKey=key, by="ana"), lambda heard: None)
                self._drain()
                known = self._look_up(process, key)
                self.law()
                assert known is None or known.state in (State.EXECUTED, State.AMBIGUOUS)
        finally:
            for one in self.processes:
                one.kill()
            shutil.rmtree(self.folder)

    def _drain(self) -> None:
        for _ in range(10_000):
            if running := self._running():
                running[0].advance()
            busy = [one for one in self.processes if one.tasks]
            if not busy and not self._running():
                return
            for one in busy:
                for number in reversed(range(len(one.tasks))):
                    one.advance(number)
        raise AssertionError(f"still at work: {[task.at for one in self.processes for _, task in one.tasks]}")

    def _running(self) -> list:  # type: ignore[type-arg]
        return [child for child in self.world.children if child.exit_code is None]

    def _heard(self, key: str, heard: ControlRecord | SpriteError) -> None:
        if isinstance(heard, ControlRecord):
            self._told(key, heard)
        elif not isinstance(heard, InFlight | KeyReused | Busy):
            assert "no effect" in heard.message
            assert not self._had_effect(key), f"{key} was refused although it had been carried out: {heard.message}"

    def _look_up(self, process: Process, key: str) -> ControlRecord | None:
        try:
            known = process.look_up(key)
        except InFlight:
            assert self._at_work(key) or self._running(), f"{key} is called in flight, and nothing of it is left"
            return None
        if known is None:
            assert not self._had_effect(key), f"{key} is said to be unused, and was carried out"
        else:
            self._told(key, known)
        return known

    def _told(self, key: str, known: ControlRecord) -> None:
        if acknowledges(known):
            assert self._had_effect(key), f"{key} was acknowledged, and nothing was done"
        elif known.state is State.AMBIGUOUS:
            assert key in self.world.disturbed, f"{key} is called ambiguous, and nothing was killed"
            self.given_up.setdefault(key, self.world.effects(key))

    def _had_effect(self, key: str) -> bool:
        return self.world.effects(key) == 1

    def _at_work(self, key: str) -> bool:
        return any(one == key for process in self.processes for one, _ in process.tasks)


@pytest.fixture(autouse=True)
def _simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the simulation replaces: the scan of real processes, and a wait by the clock."""
    monkeypatch.setattr(situation, "scan_runs", lambda repo: ScanResult((), complete=True))
    monkeypatch.setattr(ledger, "check_local_disk", lambda folder: None)
    monkeypatch.setattr(ledger, "_LOCK_POLL_S", 0.0)
    # A killed process does not unlock: what its child holds stays locked.
    monkeypatch.setattr(ledger, "release", os.close)


def hold_for(schedules: int) -> None:
    run_state_machine_as_test(
        Sprite,
        settings=settings(
            max_examples=schedules,
            stateful_step_count=30,
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(400)
def test_d12_no_effect_is_doubled_and_none_acknowledged_is_missing_in_500_schedules() -> None:
    hold_for(500)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_d12_no_effect_is_doubled_and_none_acknowledged_is_missing_in_10_000_schedules() -> None:
    hold_for(10_000)


def test_d12_orphan_that_was_claimed_again_is_judged_before_the_traces_of_another_command(tmp_path: Path) -> None:
    world = World(tmp_path)
    heard: list[ControlRecord | SpriteError] = []
    killed, another = Process(world), Process(world)
    killed.post(request("approve", idempotencyKey="k1", by="ana"), heard.append)
    until_at(killed, "audited")
    killed.kill()
    again = Process(world)
    again.post(request("approve", idempotencyKey="k1", by="ana"), heard.append)
    until_at(again, "claimed")

    another.post(request("approve", idempotencyKey="k2", by="ana"), heard.append)
    to_the_end(world, another)
    with pytest.raises(InFlight):
        another.look_up("k1")  # it still waits for its turn
    to_the_end(world, again)

    first, second = heard
    assert isinstance(first, ControlRecord)
    assert isinstance(second, ControlRecord)
    assert (first.key, acknowledges(first), world.effects("k2")) == ("k2", True, 1)
    assert (second.key, acknowledges(second), world.effects("k1")) == ("k1", False, 0)


def until_at(process: Process, step: str) -> None:
    ((_, task),) = process.tasks
    while task.at != step:
        process.advance(0)


def to_the_end(world: World, process: Process) -> None:
    while process.tasks:
        process.advance(0)
        for child in world.children:
            if child.exit_code is None:
                child.advance()
