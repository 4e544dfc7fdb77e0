"""Requests wait for their turn under a claim: seen by whoever asks, in order, and without effect until it comes."""

import asyncio
import signal
from pathlib import Path

import pytest

from contract.control import CommandAnswer
from sprite.control import Busy, InFlight, SpriteController, Stopping
from sprite.control.steps import Step
from tests.control.conftest import MakeController
from tests.control.support import (
    GATED,
    another_process,
    command_slot_taken,
    effects,
    eventually,
    fake_runtime,
    is_in_flight,
    loop_repo,
    open_gate,
    request,
    requesters,
)
from tests.standin.support import until

PATIENT_S = 100.0


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return loop_repo(tmp_path / "repo", approval={"status": "pending", "run_id": "R1", "iteration": 3})


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return fake_runtime(tmp_path / "fake", GATED)


def ask(manager: SpriteController, key: str, **options: asyncio.Event) -> "asyncio.Task[CommandAnswer]":
    return asyncio.create_task(manager.execute(request("approve", idempotencyKey=key, by=key), **options))


async def waiting(manager: SpriteController, runtime: Path, *keys: str) -> "list[asyncio.Task[CommandAnswer]]":
    """Requests of these keys, of which the first runs and the others wait."""
    tasks = []
    for key in keys:
        tasks.append(ask(manager, key))
        await eventually(lambda key=key: is_in_flight(manager, key), f"{key} is claimed")  # type: ignore[misc]
    await eventually(lambda: effects(runtime), "the first command runs")
    return tasks


async def test_request_that_waits_for_its_turn_is_in_flight_for_everybody(
    repo: Path, runtime: Path, control: MakeController
) -> None:
    manager, another = control(repo, runtime, turn_timeout_s=PATIENT_S), control(repo, runtime)
    tasks = await waiting(manager, runtime, *(f"k{n}" for n in range(10)))

    for one in (manager, another):
        with pytest.raises(InFlight, match="waits or is being executed"):
            one.lookup("demo", "k9")
        with pytest.raises(InFlight):
            await one.execute(request("approve", idempotencyKey="k9"))

    open_gate(runtime)
    answers = await asyncio.gather(*tasks)
    assert not any(answer.replayed for answer in answers)
    assert manager.lookup("demo", "k9") is not None


async def test_commands_have_their_turn_in_the_order_of_arrival(
    repo: Path, runtime: Path, control: MakeController
) -> None:
    keys = [f"k{n}" for n in range(20)]
    manager = control(repo, runtime, turn_timeout_s=PATIENT_S)
    tasks = [ask(manager, key) for key in keys]
    await eventually(lambda: effects(runtime), "the first command runs")

    open_gate(runtime)
    await asyncio.gather(*tasks)

    assert requesters(runtime) == keys


async def test_finished_key_is_answered_while_commands_run(repo: Path, runtime: Path, control: MakeController) -> None:
    manager = control(repo, runtime)
    open_gate(runtime)
    await ask(manager, "done")
    (runtime.parent / "go").unlink()
    tasks = [ask(manager, f"k{n}") for n in range(6)]
    await eventually(lambda: "k0" in requesters(runtime), "another command runs")

    again = await asyncio.wait_for(ask(manager, "done"), 10)

    assert again.replayed
    assert not any(task.done() for task in tasks)
    open_gate(runtime)
    await asyncio.gather(*tasks)


async def test_turn_that_does_not_come_in_time_gives_the_key_back(
    repo: Path, runtime: Path, control: MakeController
) -> None:
    manager = control(repo, runtime, turn_timeout_s=PATIENT_S)
    (first,) = await waiting(manager, runtime, "k0")

    manager._turn_timeout_s = 0.1
    with pytest.raises(Busy, match="no effect"):
        await ask(manager, "k1")

    assert manager.lookup("demo", "k1") is None
    manager._turn_timeout_s = PATIENT_S
    open_gate(runtime)
    await first
    assert not (await ask(manager, "k1")).replayed
    assert requesters(runtime) == ["k0", "k1"]


async def test_turn_that_another_process_holds_up_gives_the_key_back(
    repo: Path, runtime: Path, tmp_path: Path, control: MakeController
) -> None:
    manager = control(repo, runtime, turn_timeout_s=0.3)
    with command_slot_taken(tmp_path / "state"), pytest.raises(Busy, match="no effect"):
        await ask(manager, "k1")

    assert manager.lookup("demo", "k1") is None
    assert effects(runtime) == []


async def test_one_request_too_many_is_refused_and_leaves_its_key_unused(
    repo: Path, runtime: Path, control: MakeController
) -> None:
    manager = control(repo, runtime, turn_timeout_s=PATIENT_S)
    tasks = await waiting(manager, runtime, *(f"k{n}" for n in range(32)))

    with pytest.raises(Busy, match=r"no effect: 32 control requests are waiting"):
        await ask(manager, "k32")

    assert manager.lookup("demo", "k32") is None
    open_gate(runtime)
    await asyncio.gather(*tasks)
    assert len(effects(runtime)) == 32


async def test_stopping_refuses_at_once_what_waits_and_finishes_what_runs(
    repo: Path, runtime: Path, control: MakeController
) -> None:
    stopping = asyncio.Event()
    manager = control(repo, runtime)
    first = ask(manager, "k0", give_up=stopping)
    await eventually(lambda: effects(runtime), "the first command runs")
    others = [ask(manager, f"k{n}", give_up=stopping) for n in range(1, 5)]
    await eventually(lambda: is_in_flight(manager, "k4"), "the others wait")

    stopping.set()
    refusals = await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 10)

    assert all(isinstance(refusal, Stopping) and "no effect" in str(refusal) for refusal in refusals)
    assert not first.done()
    with pytest.raises(Stopping):
        await ask(manager, "late", give_up=stopping)
    open_gate(runtime)
    assert (await first).ok
    assert requesters(runtime) == ["k0"]
    assert [manager.lookup("demo", key) for key in ("k1", "k4", "late")] == [None] * 3


async def test_stopping_refuses_what_waits_for_another_process(
    repo: Path, runtime: Path, tmp_path: Path, control: MakeController
) -> None:
    stopping = asyncio.Event()
    manager = control(repo, runtime)
    with command_slot_taken(tmp_path / "state"):
        waits = ask(manager, "k1", give_up=stopping)
        await eventually(lambda: is_in_flight(manager, "k1"), "it is claimed")
        stopping.set()

        with pytest.raises(Stopping, match="no effect"):
            await asyncio.wait_for(waits, 10)

    assert manager.lookup("demo", "k1") is None
    assert effects(runtime) == []


async def test_controller_that_is_closed_begins_nothing_that_waited(
    repo: Path, runtime: Path, control: MakeController
) -> None:
    manager = control(repo, runtime)
    first, second = await waiting(manager, runtime, "k0", "k1")

    closing = asyncio.create_task(asyncio.to_thread(manager.close))
    await eventually(lambda: manager._closing, "it is being closed")
    open_gate(runtime)
    await asyncio.wait_for(closing, 20)

    assert (await first).ok
    with pytest.raises(Stopping):
        await second
    assert requesters(runtime) == ["k0"]


@pytest.mark.parametrize("closed_at", [Step.ARRIVED, Step.CLAIMED])
async def test_request_that_was_on_its_way_when_the_controller_was_closed_is_refused_and_not_claimed(
    repo: Path, runtime: Path, control: MakeController, closed_at: Step
) -> None:
    def at_step(reached: Step) -> None:
        if reached is closed_at:
            manager.close()

    manager = control(repo, runtime, at_step=at_step)
    with pytest.raises(Stopping, match="no effect"):
        await ask(manager, "k")
    assert control(repo, runtime).lookup("demo", "k") is None
    assert effects(runtime) == []


async def test_caller_that_leaves_while_it_waits_leaves_no_claim_behind(
    repo: Path, runtime: Path, control: MakeController
) -> None:
    manager = control(repo, runtime)
    first, second, third = await waiting(manager, runtime, "k0", "k1", "k2")
    second.cancel()
    await asyncio.wait({second})
    assert manager.lookup("demo", "k1") is None
    leaves_at_once = ask(manager, "k3")
    await asyncio.sleep(0)
    leaves_at_once.cancel()
    await asyncio.wait({leaves_at_once})

    open_gate(runtime)
    await asyncio.gather(first, third)

    assert requesters(runtime) == ["k0", "k2"]
    await eventually(lambda: not is_in_flight(manager, "k3"), "the claim is given back")
    assert manager.lookup("demo", "k3") is None


async def test_service_killed_while_a_request_waits_leaves_the_key_as_good_as_unused(
    repo: Path, runtime: Path, tmp_path: Path, control: MakeController
) -> None:
    manager = control(repo, runtime)
    with command_slot_taken(tmp_path / "state"):
        other = another_process(repo, runtime, tmp_path / "state", "k")
        until(lambda: is_in_flight(manager, "k"), "the other process has claimed it")
        other.send_signal(signal.SIGKILL)
        other.communicate()
        assert manager.lookup("demo", "k") is None

    open_gate(runtime)
    answer = await ask(manager, "k")
    assert (answer.ok, answer.replayed) == (True, False)
    assert requesters(runtime) == ["k"]


async def test_time_spent_waiting_and_running_counts_for_the_confirmation(
    repo: Path, runtime: Path, control: MakeController
) -> None:
    manager = control(repo, runtime, confirm_timeout_s=0.2)
    (first,) = await waiting(manager, runtime, "k0")
    asked = asyncio.create_task(manager.execute(request("approve", wait=True, idempotencyKey="k1")))
    await asyncio.sleep(0.3)  # so long that no time is left when it has its turn
    open_gate(runtime)
    await first

    answer = await asked

    confirm = answer.result.confirm or {}
    assert (confirm["stage"], confirm["attempts"]) == ("recorded", 1)
