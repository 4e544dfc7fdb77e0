"""May this intent be executed? Every situation times every intent; each refusal says what, who and when (D17, D18)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from contract.intents import Intent
from contract.observation import Contact, ProcessDigest, ProcessRun
from contract.status import IntentStage
from tests.rules.world import Runtime, running, waiting

APPROVE, REJECT, CANCEL = Intent.APPROVE_PENDING, Intent.REJECT_PENDING, Intent.CANCEL_LOOP
OTHER = ProcessRun(pid=900, start_time="900.00", loop_id="other")
SHA = "a1b2c3d4" * 8
ACCEPTED = None


def complete() -> Runtime:
    world = running()
    world.complete()
    world.look()
    return world


def crashed() -> Runtime:
    world = running()
    world.killed()
    world.look_twice()
    return world


def cancelled() -> Runtime:
    world = running()
    world.cancelled()
    world.look()
    return world


def decided() -> Runtime:
    world = waiting()
    world.decide("rejected", by="bo", iteration=2)
    world.look()
    return world


def nothing_written() -> Runtime:
    world = Runtime()
    world.contact(Contact.LOOP_NOT_FOUND, "no loop 'demo' in /srv/sprite")
    return world


def empty_log() -> Runtime:
    world = Runtime()
    world.look()
    return world


def starting() -> Runtime:
    world = Runtime()
    world.start()
    world.look()
    return world


def max_iterations() -> Runtime:
    world = running()
    world.event("loop_stop", reason="max_iterations")
    world.finish_files()
    world.look()
    return world


def beside(world: Runtime, *runs: ProcessRun) -> Runtime:
    """Another loop runs in the repo and has taken active-run.json."""
    world.processes(*runs)
    world.fact(active_run_present=True, active_run_pid=900, active_run_loop_id="other")
    world.look()
    return world


def crashed_beside_a_neighbour() -> Runtime:
    return beside(crashed(), OTHER)


def complete_beside_a_neighbour() -> Runtime:
    return beside(complete(), OTHER)


def running_beside_a_neighbour_that_took_active_run() -> Runtime:
    world = running()
    return beside(world, ProcessRun(pid=world.pid, start_time=f"{world.pid}.00", loop_id="demo"), OTHER)


def crashed_beside_a_neighbour_without_active_run() -> Runtime:
    world = crashed()
    world.exit()
    world.processes(OTHER)
    world.look()
    return world


def running_beside_a_neighbour() -> Runtime:
    world = running()
    world.alive(OTHER)
    world.look()
    return world


def crashed_with_a_stale_neighbour_name() -> Runtime:
    world = crashed()
    world.fact(active_run_present=True, active_run_pid=900, active_run_loop_id="other")
    world.look()
    return world


def base(make: Callable[[], Runtime], **facts: object) -> Callable[[], Runtime]:
    """The same situation behind a service of the base contract."""

    def made() -> Runtime:
        world = make()
        world.base_service()
        world.fact(**facts)
        world.look()
        return world

    made.__name__ = f"base_{make.__name__}"
    return made


def unseen(make: Callable[[], Runtime]) -> Callable[[], Runtime]:
    """The same situation where the sprite cannot look at its processes."""

    def made() -> Runtime:
        world = make()
        world.no_processes("unknown")
        world.look()
        return world

    made.__name__ = f"unseen_{make.__name__}"
    return made


THE_NEIGHBOUR = "loop other runs there (pid 900), and a cancel acts on the whole repo: it would end that one."
ACTIVE_THERE = "loop other is active there, and a cancel acts on the whole repo: it would end that one."
# situation, intent -> the refusal (with {since} as the lifecycle's), or ACCEPTED.
CASES: list[tuple[Callable[[], Runtime], Intent, str | None]] = [
    (nothing_written, CANCEL, "the loop has written nothing that could be acted on (no loop 'demo' in /srv/sprite)."),
    (nothing_written, APPROVE, "the loop has written nothing that could be acted on (no loop 'demo' in /srv/sprite)."),
    (empty_log, CANCEL, "nothing to cancel: the loop is not started since {since}."),
    (empty_log, APPROVE, "no approval is pending; the loop is not started since {since}."),
    (starting, CANCEL, ACCEPTED),
    (starting, APPROVE, "no approval is pending; the loop is starting since {since}."),
    (running, CANCEL, ACCEPTED),
    (running, APPROVE, "no approval is pending; the loop is running since {since}."),
    (running, REJECT, "no approval is pending; the loop is running since {since}."),
    (waiting, CANCEL, "nothing to cancel: the loop is awaiting approval since {since}."),
    (waiting, APPROVE, ACCEPTED),
    (waiting, REJECT, ACCEPTED),
    (decided, CANCEL, "nothing to cancel: the loop is decided since {since}."),
    (decided, APPROVE, "bo already rejected this at {clock}."),
    (decided, REJECT, "bo already rejected this at {clock}."),
    (complete, CANCEL, "nothing to cancel: the loop is complete since {since}."),
    (complete, APPROVE, "no approval is pending; the loop is complete since {since}."),
    (complete, REJECT, "no approval is pending; the loop is complete since {since}."),
    (max_iterations, CANCEL, "nothing to cancel: the loop is stopped since {since}."),
    (cancelled, CANCEL, "nothing to cancel: the loop is stopped since {since}."),
    (crashed, CANCEL, ACCEPTED),
    (crashed, APPROVE, "no approval is pending; the loop is failed since {since}."),
    (crashed_beside_a_neighbour, CANCEL, THE_NEIGHBOUR),
    (crashed_beside_a_neighbour_without_active_run, CANCEL, THE_NEIGHBOUR),
    (complete_beside_a_neighbour, CANCEL, THE_NEIGHBOUR),
    (running_beside_a_neighbour_that_took_active_run, CANCEL, THE_NEIGHBOUR),
    (running_beside_a_neighbour, CANCEL, ACCEPTED),
    (crashed_with_a_stale_neighbour_name, CANCEL, ACCEPTED),
    (base(running), CANCEL, ACCEPTED),
    (base(waiting), CANCEL, "nothing to cancel: the loop is awaiting approval since {since}."),
    (base(waiting), APPROVE, ACCEPTED),
    (base(complete), CANCEL, "nothing to cancel: the loop is complete since {since}."),
    (base(crashed), CANCEL, ACCEPTED),
    (base(complete, active_run_present=True, active_run_loop_id="other"), CANCEL, ACTIVE_THERE),
    (base(complete, state_active=True, state_loop_id="other"), CANCEL, ACTIVE_THERE),
    (base(complete, active_run_present=True, active_run_loop_id=None), CANCEL, ACCEPTED),
    (unseen(running), CANCEL, ACCEPTED),
    (unseen(complete), CANCEL, "nothing to cancel: the loop is complete since {since}."),
]


@pytest.mark.parametrize(
    ("situation", "intent", "refusal"), CASES, ids=[f"{make.__name__}-{intent.wire}" for make, intent, _ in CASES]
)
def test_intent_is_judged_as_the_table_says(
    situation: Callable[[], Runtime], intent: Intent, refusal: str | None
) -> None:
    world = situation()
    record = world.send(intent.value)
    verdict = world.judge(record)
    if refusal is None:
        assert verdict.refusal is None
        assert record.stage is IntentStage.EXECUTING
        return
    since = world.state.projection.since
    assert since is not None
    expected = refusal.format(since=since.strftime("%Y-%m-%d %H:%M:%SZ"), clock=since.strftime("%H:%M:%S"))
    assert verdict.refusal == expected
    assert record.stage is IntentStage.REJECTED
    assert record.sentence == f"Nothing done: {expected}"
    assert record.argv == []


def test_cancel_is_bound_to_the_last_loop_start_and_to_the_process_that_active_run_names() -> None:
    world = waiting()
    world.decide("approved", iteration=2)
    world.start("R2")
    world.event("approval_consumed", "R1", 2)
    own = ProcessRun(pid=world.pid, start_time=f"{world.pid}.00", loop_id="demo")
    world.processes(ProcessRun(pid=55, start_time="55.00", loop_id="demo"), own)
    record = world.send("CANCEL_LOOP")
    verdict = world.judge(record)
    assert (verdict.run_id, verdict.process_pid, verdict.process_start_time) == ("R2", world.pid, f"{world.pid}.00")
    assert verdict.expect.model_dump(exclude_none=True) == {"sprite_id": "sprite-1", "run_id": "R2"}


def test_decision_is_bound_to_the_request_as_it_was_seen() -> None:
    world = waiting()
    verdict = world.judge(world.send("APPROVE_PENDING"))
    assert (verdict.run_id, verdict.iteration, verdict.run_line) == ("R1", 2, 1)
    assert verdict.expect.model_dump(exclude_none=True) == {
        "sprite_id": "sprite-1",
        "run_id": "R1",
        "iteration": 2,
        "approval_sha256": SHA[:16],
    }


def test_decision_while_another_run_is_about_to_look_is_about_the_waiting_run() -> None:
    world = waiting()
    world.start("R2")
    world.look()
    verdict = world.judge(world.send("APPROVE_PENDING"))
    assert (verdict.run_id, verdict.run_line) == ("R1", 1)


@pytest.mark.parametrize(
    ("expect", "difference"),
    [
        ({"spriteId": "sprite-1"}, None),
        ({"spriteId": "sprite-2"}, "spriteId is sprite-1, expected sprite-2"),
        ({"runId": "R1"}, None),
        ({"runId": "R2"}, "runId is R1, expected R2"),
        ({"iteration": 2}, None),
        ({"iteration": 3}, "iteration is 2, expected 3"),
        ({"approvalSha256": SHA[:8]}, None),
        ({"approvalSha256": SHA}, None),
        ({"approvalSha256": "0" * 8}, f"approvalSha256 is {SHA[:16]}, expected 00000000"),
        ({"runId": "R0", "iteration": 9}, "runId is R1, expected R0; iteration is 2, expected 9"),
        ({}, None),
    ],
)
def test_expectation_is_compared_with_what_was_just_observed(expect: dict[str, object], difference: str | None) -> None:
    world = waiting()
    verdict = world.judge(world.send("APPROVE_PENDING", json.dumps({"by": "ana", "expect": expect})))
    assert verdict.refusal == (f"what was expected is no longer so: {difference}." if difference else None)


def test_expectation_about_a_sprite_that_shows_no_id_is_not_met() -> None:
    world = waiting()
    world.state.target = world.state.target.model_copy(update={"sprite_id": None})
    verdict = world.judge(world.send("APPROVE_PENDING", '{"by":"ana","expect":{"spriteId":"sprite-1"}}'))
    assert verdict.refusal == "what was expected is no longer so: spriteId is unknown, expected sprite-1."


def test_what_the_operator_demands_is_demanded_of_the_sprite_as_well() -> None:
    world = waiting()
    body = json.dumps({"by": "ana", "expect": {"approvalSha256": SHA}})
    assert world.judge(world.send("APPROVE_PENDING", body)).expect.approval_sha256 == SHA
    world = running()
    verdict = world.judge(world.send("CANCEL_LOOP", '{"by":"ana","expect":{"iteration":1}}'))
    assert (verdict.expect.run_id, verdict.expect.iteration) == ("R1", 1)


def test_expected_run_of_a_cancel_is_the_last_loop_start_not_the_run_that_is_continued() -> None:
    world = waiting()
    world.decide("approved", iteration=2)
    world.start("R2")
    world.event("approval_consumed", "R1", 2)
    world.look()
    refused = world.judge(world.send("CANCEL_LOOP", '{"by":"ana","expect":{"runId":"R1"}}'))
    assert refused.refusal == "what was expected is no longer so: runId is R2, expected R1."
    assert world.judge(world.send("CANCEL_LOOP", '{"by":"ana","expect":{"runId":"R2"}}')).refusal is None


def test_second_intent_is_judged_on_what_the_first_left_behind() -> None:
    world = waiting()
    world.judge(world.send("APPROVE_PENDING"))
    world.decide("approved", iteration=2)
    verdict = world.judge(world.send("APPROVE_PENDING", '{"by":"bo"}'))
    assert verdict.refusal is not None
    assert verdict.refusal.startswith("ana already approved this at ")


def test_crash_with_processes_out_of_sight_is_not_promised_to_kill_nothing() -> None:
    world = running()
    world.exit()
    world.fact(process=ProcessDigest(state="unknown"))
    verdict = world.judge(world.send("CANCEL_LOOP"))
    assert (verdict.refusal, verdict.clears_crash) == (None, False)
