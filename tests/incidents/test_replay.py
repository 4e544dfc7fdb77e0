"""`incident replay`: what is said of an instant is what `status` answered then, field by field."""

import json
import random
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowHistory

from contract.clock import parse_utc
from contract.status import IntentStage, StatusReport
from incidents.archive import Incident, manifest_of, write
from incidents.collect import Span, collect, newest_chain
from incidents.history import Run
from incidents.knowledge import RESOLUTION
from incidents.replay import replay
from incidents.states import Replay, replay_runs
from incidents.timeline import Told, timeline
from incidents.verify import verify
from tests.cli.ops import Ops
from tests.harness import Supervised, Supervisors, comparable
from tests.harness_sprite import WAITING, Sprite
from tests.incidents.kept import CHAIN, kept_incident, kept_runs
from tests.incidents.scenes import ANA
from tests.incidents.stories import SAMPLES, STORY, Answer, play

EVERY_RUN = [1, 2]
SLOW_ONES = range(3, 11)


@pytest.mark.parametrize("seed", [*EVERY_RUN, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SLOW_ONES)])
async def test_replay_of_an_instant_is_what_status_answered_then(
    supervise: Supervisors, new_sprite: Any, name: str, seed: int
) -> None:
    loop, answers = await play(supervise, new_sprite(name, STORY), seed)
    runs = await loop.runs()
    collected = await collect(loop.house.client, loop.id, None)
    # It may have begun another one meanwhile.
    assert [run.run_id for run in collected.runs][: len(runs)] == runs
    replayed = await replay_runs(collected.runs)
    assert replayed.failures == {}
    chosen = random.Random(seed).sample(answers, SAMPLES)
    undoubted = 0
    for answer in chosen:
        run = next(run for run in collected.runs if run.run_id == answer.report.as_of.run_id)
        if _was_decided(run, answer):
            undoubted += _compare(replayed, answer)
        else:
            await _compare_undecided(run, answer)
    assert undoubted > SAMPLES // 2


def _was_decided(run: Run, answer: Answer) -> bool:
    """Whether it was given out of a workflow task that was completed.

    One may be given out of a task whose completion the server then refuses, because more had happened meanwhile; and a
    supervisor that has to be rebuilt for a query takes in all events that are there.
    """
    return any(started == answer.report.as_of.history_length for started, _ in run.tasks)


async def _compare_undecided(run: Run, answer: Answer) -> None:
    """Compare with what the events that were there then make of it."""
    live = answer.report
    events = run.events[: live.as_of.history_length]
    rebuilt = await replay(WorkflowHistory(run.workflow_id, list(events)))
    assert rebuilt.status is not None
    _assert_same(rebuilt.status, live)


def _assert_same(replayed: StatusReport, live: StatusReport) -> None:
    ours, theirs = comparable(replayed), comparable(live)
    differing = {name: (ours.get(name), theirs[name]) for name in theirs if ours.get(name) != theirs[name]}
    assert ours == theirs, f"{live.as_of}: {json.dumps(differing)}"


def _compare(replayed: Replay, answer: Answer) -> bool:
    """Compare one live answer; whether the instant alone said which state it was, however late it was asked."""
    live = answer.report
    state = replayed.at_event(live.as_of.history_length, live.as_of.run_id)
    assert state is not None
    assert state.report.as_of == live.as_of
    _assert_same(state.report, live)
    # Asked for by time, it is that state, or one between the states of when it was asked and when it was answered.
    before, after = replayed.at(answer.asked), replayed.at(answer.there)
    assert after is not None
    if before is after:
        _assert_same(after.report, live)
        return True
    order = [(found.run_id, found.event_id) for found in replayed.states]
    asked, there = (order.index((found.run_id, found.event_id)) if found else 0 for found in (before, after))
    assert asked <= order.index((state.run_id, state.event_id)) <= there
    return False


async def test_every_instant_of_a_kept_chain_has_the_state_of_the_task_before_it() -> None:
    runs = kept_runs(*CHAIN)
    replayed = await replay_runs(runs)
    assert replayed.failures == {}
    assert len(replayed.states) == sum(len(run.tasks) for run in runs)
    assert replayed.at(runs[0].started_at) is None
    for state in replayed.states:
        assert replayed.at(state.at) is state
        assert replayed.at_event(state.event_id, state.run_id) is state
    ever_after = replayed.at(runs[-1].last_at + timedelta(days=1))
    assert ever_after is not None
    assert comparable(ever_after.report) == comparable(replayed.states[-1].report)
    # Nobody but the last event of a run that is over is answered for it.
    assert ever_after.report.as_of.history_length == (
        len(runs[-1].events) if runs[-1].ending else runs[-1].tasks[-1][0]
    )


@pytest.mark.parametrize(
    ("names", "terminated", "said"),
    [
        (("approve-consume",), True, "Supervision had ended at"),
        (("continue-as-new-1",), False, "in a run that is not at hand"),
        (CHAIN, False, "The record ends at"),
    ],
)
async def test_instant_after_the_record_is_said_to_be_after_it(
    tmp_path: Path, names: tuple[str, ...], terminated: bool, said: str
) -> None:
    incident = kept_incident(names=names)
    last = incident.runs[-1]
    if terminated:
        end = HistoryEvent(event_id=len(last.events) + 1, event_time=last.events[-1].event_time)
        end.event_type = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED
        end.workflow_execution_terminated_event_attributes.reason = "moved"
        incident.runs[-1] = last = Run(last.workflow_id, WorkflowHistory(last.workflow_id, [*last.events, end]))
    path = tmp_path / "kept.zip"
    write(incident, path)
    later = (last.last_at + timedelta(hours=1)).isoformat()
    done = await Ops({})("incident", "replay", str(path), "--at", later)
    assert done.code == 0, done
    assert said in done.err
    assert "every event that had happened was known" not in done.out
    as_json = json.loads((await Ops({})("incident", "replay", str(path), "--at", later, "-o", "json")).out)
    assert said in as_json["beyondTheRecord"]
    then = await Ops({})("incident", "replay", str(path), "--at", last.last_at.isoformat())
    assert said not in then.err


async def test_code_that_makes_other_commands_is_named_with_the_run() -> None:
    (run,) = kept_runs("cancel")
    changed = Run.from_json(run.workflow_id, run.to_json().replace('"name": "execute_control"', '"name": "execute"'))
    replayed = await replay_runs([*kept_runs(*CHAIN), changed])
    assert list(replayed.failures) == [changed.run_id]


async def test_events_that_happened_unnoticed_are_told_with_how_late_they_were_seen(
    ops: Ops, supervise: Supervisors, new_sprite: Any, name: str, tmp_path: Path
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    sprite.serve()
    loop = await supervise(sprite)
    await loop.until(lambda seen: seen.observed_at, "looked at")
    sprite.stop_service()
    sprite.run().wait()
    await loop.until(lambda seen: seen.transport.state != "sprite_service", "the outage is noticed")
    asked_for = len(sprite.events())
    last = parse_utc(sprite.events()[-1]["timestamp"])
    assert last is not None
    await sprite.until(lambda: datetime.now(UTC) - last > RESOLUTION, "the second of the last event is over")
    unnoticed = datetime.now(UTC).isoformat()
    sprite.serve()
    await loop.until_lifecycle("awaiting_approval")
    await loop.handle.signal("APPROVE_PENDING", {**ANA, "idempotencyKey": "key-of-ana"})
    await loop.until_intent(IntentStage.RECORDED)
    path = tmp_path / "incident.zip"
    assert (await ops("incident", "export", f"{name}/demo", "-o", str(path))).code == 0

    offline = Ops({"TEMPORAL_ADDRESS": "127.0.0.1:1", "OPS_MANAGER_DATA_FOLDER": str(tmp_path / "nothing")})
    then = json.loads((await offline("incident", "replay", str(path), "--at", unnoticed, "-o", "json")).out)
    assert then["status"]["lifecycle"] in ("not_started", "unknown")
    assert [event["line"] for event in then["knowledge"]["unknown"]] == list(range(1, asked_for + 1))
    assert all(event["lateS"] > 0 for event in then["knowledge"]["unknown"])
    assert then["doNotReplay"] == {}

    decided = json.loads((await offline("incident", "replay", str(path), "--until", "key-of-ana", "-o", "json")).out)
    (record,) = decided["status"]["intents"]
    assert record["stage"] in ("accepted", "executing")
    assert decided["status"]["lifecycle"] == "awaiting_approval"
    # The decision had not been made then, so nothing of it was unknown.
    assert decided["knowledge"]["unknown"] == []

    told = await offline("incident", "replay", str(path))
    assert told.code == 0, told
    assert "unknown     nothing" in told.out


async def _reset(loop: Supervised, task_finished: int) -> str:
    """Reset the loop's supervisor to a workflow task of its history, as `temporal workflow reset` does."""
    request = ResetWorkflowExecutionRequest(
        namespace=loop.house.client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=loop.id, run_id=loop.first_run_id),
        reason="to see it again",
        workflow_task_finish_event_id=task_finished,
        request_id=str(uuid.uuid4()),
    )
    return (await loop.house.client.workflow_service.reset_workflow_execution(request)).run_id


async def test_instants_before_and_after_a_reset_have_the_states_of_the_run_that_was_there_then(
    supervise: Supervisors, new_sprite: Any, name: str
) -> None:
    sprite: Sprite = new_sprite(name, WAITING)
    sprite.serve()
    loop = await supervise(sprite)
    await loop.until(lambda seen: seen.observed_at, "looked at")
    sprite.run().wait()
    await loop.until_lifecycle("awaiting_approval")
    await loop.handle.signal("TYPO", {"by": "ana"})
    before = await loop.until(lambda seen: seen.intents, "told")
    asked = datetime.now(UTC)
    (first_task, _), (second_task, _), *_ = Run(loop.id, await loop.history()).tasks
    reset_at = second_task + 1
    reset_to = await _reset(loop, reset_at)
    after = await loop.until(
        lambda seen: seen.as_of.run_id == reset_to and seen.intents and seen.lifecycle == "awaiting_approval", "again"
    )
    answered = datetime.now(UTC)

    collected = await collect(loop.house.client, loop.id, None)
    assert [run.run_id for run in collected.runs] == [loop.first_run_id, reset_to]
    assert newest_chain(collected.runs) == [collected.runs[-1]]
    replayed = await replay_runs(collected.runs)
    assert replayed.failures == {}
    then = replayed.at(asked)
    assert then is not None
    assert (then.run_id, comparable(then.report)) == (loop.first_run_id, comparable(before))
    now = replayed.at(answered)
    assert now is not None
    assert (now.run_id, comparable(now.report)) == (reset_to, comparable(after))
    assert [state.at for state in replayed.states] == sorted(state.at for state in replayed.states)
    copied = replayed.at_event(first_task, reset_to)
    assert copied is not None
    assert copied.run_id == reset_to

    incident = Incident(
        manifest_of(collected, span=Span(), made_at=answered, versions={}, log=None, no_log="not read"), collected.runs
    )
    entries = timeline(await Told.of(incident)).entries
    places = [(entry.run_id, entry.event_id) for entry in entries if entry.kind == "observation"]
    assert min(event or 0 for run, event in places if run == reset_to) > reset_at
    assert [entry.what for entry in entries if entry.kind == "supervision"] == [
        "supervision began",
        f"the supervisor was reset to event {reset_at}, and runs again from there",
    ]
    (told,) = [entry for entry in entries if entry.what.startswith("the supervisor was reset")]
    assert (told.why, told.run_id) == ("to see it again", reset_to)
    report = verify(newest_chain(collected.runs), log=None, belief=now.report.cursor)
    assert report.differences == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--at", "2001-01-01T00:00:00Z"], 3, "the first state is of"),
        (["--at", "yesterday"], 2, "no time such as"),
        (["--event", "5", "--until", "k"], 2, "exclude each other"),
        (["--run", "x"], 2, "of which run --event is"),
        (["--until", "nobody-has-it"], 3, "a key 'nobody-has-it'"),
    ],
)
async def test_instant_that_there_is_not_is_refused(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    path = tmp_path / "kept.zip"
    write(kept_incident(), path)
    done = await Ops({})("incident", "replay", str(path), *arguments)
    assert done.code == code, done
    assert said in done.err
