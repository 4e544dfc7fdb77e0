"""Every recording of the real runtime, folded step by step: the lifecycles that really were (D5, D6, D14)."""

from __future__ import annotations

import functools
import json
import tarfile
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import IO, NamedTuple

import pytest

from activities.digest import event_digest, snapshot_digest
from contract.chain import line_hash
from contract.envelopes import EventEnvelope, SnapshotEnvelope
from contract.observation import Contact, EventDigest, ProcessDigest, ProcessRun, SnapshotDigest
from tests.recordings.unpack import RECORDINGS_ARCHIVE, SCENARIOS
from tests.rules.world import RECHECK_S, World

STALE_AFTER_S = 300.0

SEQUENCES = {
    "01-happy": ["starting", "running", "complete"],
    "02-approve": [
        "starting",
        "running",
        "awaiting_approval",
        "starting",
        "awaiting_approval",
        "decided",
        "starting",
        "complete",
    ],
    "04-cancel": ["starting", "running", "stopped", "starting", "running", "complete"],
    "05-max-iterations": ["starting", "running", "stopped"],
    "06-role-timeout": ["starting", "running", "failed"],
    "08-no-progress": ["starting", "running", "stopped"],
    "10-rate-limit": ["starting", "running", "failed"],
    "11-kill9": ["starting", "running", "stopped"],
    "14-tests-fail": ["starting", "running", "stopped"],
}

ENDS = {
    "01-happy": ("complete", "loop_complete", 2),
    "02-approve": ("complete", "loop_complete", 1),
    "04-cancel": ("complete", "loop_complete", 1),
    "05-max-iterations": ("stopped", "max_iterations", 2),
    "06-role-timeout": ("failed", "role_timeout", 2),
    "08-no-progress": ("stopped", "no_progress", 2),
    "10-rate-limit": ("failed", "rate_limited", 1),
    "11-kill9": ("stopped", "state_removed", 1),
    "14-tests-fail": ("stopped", "max_iterations", 1),
}


class Step(NamedTuple):
    """One capture: when, and the snapshot that the reference printed, or none."""

    at: datetime
    snapshot: SnapshotDigest | None


@functools.cache
def _recorded() -> dict[str, str]:
    """What the reference printed, by path; straight from the archive, because two hundred folders take seconds."""
    with tarfile.open(RECORDINGS_ARCHIVE) as tar:
        wanted = [m for m in tar if m.isfile() and PurePosixPath(m.name).name.startswith(("expected", "steps."))]
        return {m.name.removeprefix("recordings/"): _text(tar.extractfile(m)) for m in wanted}


def _text(file: IO[bytes] | None) -> str:
    assert file is not None
    return file.read().decode("utf-8")


def _snapshot(text: str) -> SnapshotDigest:
    return snapshot_digest(SnapshotEnvelope.read(json.loads(text), loop_id="demo"), stale_after_s=STALE_AFTER_S)


@functools.cache
def _steps(scenario: str) -> list[Step]:
    steps = []
    for line in _recorded()[f"{scenario}/steps.ndjson"].splitlines():
        entry = json.loads(line)
        folder = f"{scenario}/step-{entry['step']:04d}"
        if f"{folder}/expected.json" not in _recorded():
            continue  # a capture that showed nothing new
        text = _recorded().get(f"{folder}/expected-snapshot.json")
        steps.append(Step(datetime.fromtimestamp(entry["capturedEpoch"], UTC), _snapshot(text) if text else None))
    return steps


@functools.cache
def _events(scenario: str) -> list[EventDigest]:
    [path] = (path for path in _recorded() if path.startswith(scenario) and "expected-events" in path)
    envelopes = [EventEnvelope.model_validate_json(line) for line in _recorded()[path].splitlines()]
    return [
        event_digest(envelope.cursor.event_line_offset, envelope.event.raw, line_hash(envelope.event.raw))
        for envelope in envelopes
    ]


def _look(world: World, snapshot: SnapshotDigest, *, scan: bool) -> None:
    """An observation of a step. `scan`: as a service that shows processes would have shown it."""
    if scan:
        alive = snapshot.active_run_present and snapshot.active_run_pid is not None
        runs = [ProcessRun(pid=snapshot.active_run_pid or 0, start_time="1.00", loop_id="demo")] if alive else []
        process = ProcessDigest(state="alive" if alive else "dead", source="scan", runs=runs)
        snapshot = snapshot.model_copy(update={"process": process})
    world.apply(world.observation(snapshot=snapshot, upto=snapshot.event_count, at_head=True))


def play(scenario: str, *, scan: bool, every: int = 1, twice: bool = False) -> World:
    """Fold every `every`-th capture, and the last; `twice`: each is read again after the recheck interval."""
    world = World()
    world.log = _events(scenario)
    steps = _steps(scenario)
    for number, step in enumerate(steps):
        if number % every and step is not steps[-1]:
            continue
        world.now = max(step.at, world.now)
        if step.snapshot is None:
            world.apply(world.observation(contact=Contact.RUNTIME_ERROR, snapshot=None, events=[], at_head=False))
            continue
        _look(world, step.snapshot, scan=scan)
        if twice:
            world.tick(RECHECK_S)
            _look(world, step.snapshot, scan=scan)
    # What ended without a word is seen for the second time after the last capture.
    world.tick(RECHECK_S)
    last = steps[-1].snapshot
    assert last is not None
    _look(world, last, scan=scan)
    return world


def told(world: World) -> list[str]:
    """The lifecycles after the loop has begun."""
    return [lifecycle for lifecycle in world.lifecycles if lifecycle != "not_started"]


@pytest.mark.parametrize("scan", [True, False], ids=["processes-shown", "base-contract"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_recording_folded_step_by_step_gives_the_true_sequence_and_end(scenario: str, scan: bool) -> None:
    world = play(scenario, scan=scan)
    projection = world.state.projection
    assert told(world) == SEQUENCES[scenario]
    assert (*world.now_is, projection.run and projection.run.iteration) == ENDS[scenario]
    assert (world.state.divergences, world.state.resolved_divergences) == ([], [])


@pytest.mark.parametrize("every", [3, 7, 1000])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_recording_seen_less_often_ends_the_same(scenario: str, every: int) -> None:
    world = play(scenario, scan=True, every=every)
    projection = world.state.projection
    assert (*world.now_is, projection.run and projection.run.iteration) == ENDS[scenario]
    assert set(told(world)) <= set(SEQUENCES[scenario])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_recording_with_every_step_seen_twice_raises_no_false_end(scenario: str) -> None:
    assert told(play(scenario, scan=True, twice=True)) == SEQUENCES[scenario]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_recording_read_at_once_at_its_end_tells_the_whole_sequence(scenario: str) -> None:
    world = play(scenario, scan=True, every=1000)
    # The captures in between show 04's cancel as well; here only the next loop_start proves it.
    assert told(world) == SEQUENCES[scenario]


def test_recorded_runs_are_bound_to_run_id_line_and_iteration() -> None:
    world = play("02-approve", scan=True)
    runs = [(t.lifecycle.value, t.run_id, t.line) for t in world.state.projection.transitions if t.line]
    first, waiter, consumer = (e for e in world.log if e.name == "loop_start")
    assert runs == [
        ("starting", first.run_id, first.line),
        ("running", first.run_id, 2),
        ("awaiting_approval", first.run_id, 27),
        ("starting", waiter.run_id, 28),
        ("awaiting_approval", first.run_id, 29),
        ("decided", first.run_id, 30),
        ("starting", consumer.run_id, 31),
        ("complete", first.run_id, 33),
    ]
    assert len({first.run_id, waiter.run_id, consumer.run_id}) == 3


def test_second_run_after_cancel_has_its_own_run_id_and_iteration() -> None:
    world = play("04-cancel", scan=True)
    second = [e for e in world.log if e.name == "loop_start"][1]
    projection = world.state.projection
    assert projection.run is not None
    assert (projection.run.run_id, projection.run.line, projection.run.iteration) == (second.run_id, second.line, 1)


def test_killed_run_seen_dead_twice_is_crashed_until_it_is_cleared() -> None:
    world = World()
    world.log = _events("11-kill9")
    *_, killed, cleared = (step.snapshot for step in _steps("11-kill9") if step.snapshot)
    dead = killed.model_copy(update={"process": ProcessDigest(state="dead", source="scan")})
    _look(world, killed, scan=True)
    for _ in range(2):
        world.tick(RECHECK_S)
        world.apply(world.observation(snapshot=dead, upto=dead.event_count))
    assert world.now_is == ("failed", "crashed")
    world.tick(RECHECK_S)
    _look(world, cleared, scan=True)
    assert told(world) == ["starting", "running", "failed", "stopped"]
    assert world.now_is == ("stopped", "state_removed")
