"""Commands through a service of the base contract: what it is sent, what is checked for it, what may have happened."""

import asyncio

import pytest

from activities import client as client_module
from contract.intents import Expect, Intent
from contract.observation import ControlOutcomeKind, LookUpKind
from tests.activities.hands import Hand
from tests.activities.support import until
from tests.control.support import append, write_active_run, write_state
from tests.peers import Fault


async def test_the_base_contract_is_all_that_a_base_service_is_sent(base: Hand) -> None:
    assert base.peer is not None
    await base.send(expect=Expect(run_id="R1"), note="n")
    (request,) = base.peer.asked("/ops/control")
    assert request.body == {
        "loopId": "demo", "intent": "approve", "by": "ana", "note": "n", "idempotencyKey": "k-1",
        "traceId": "trace-9", "noConfirm": True,
    }  # fmt: skip
    assert request.headers["x-idempotency-key"] == "k-1"
    assert request.headers["x-trace-id"] == "trace-9"
    assert request.headers["x-ops-token"] == base.peer.token


async def test_a_cancel_for_a_run_that_is_no_longer_the_last_is_refused_for_a_base_service(base: Hand) -> None:
    write_state(base.repo, active=True)
    append(base.repo, {"event": "iteration_start", "run_id": "R1"}, {"event": "loop_start", "run_id": "R2"})
    outcome = await base.send(Intent.CANCEL_LOOP, expect=Expect(run_id="R1"))
    assert (outcome.kind, outcome.current["runId"]) == (ControlOutcomeKind.REFUSED, "R2")
    assert base.effects == []


async def test_a_cancel_through_a_base_service_at_the_recorded_pace_is_sent_however_long_its_log(base: Hand) -> None:
    assert base.peer is not None
    base.peer.event_delay_s = 0.225
    write_state(base.repo, active=True)
    append(base.repo, *({"event": f"e{n}", "run_id": "R1"} for n in range(2_000)))
    assert (await base.send(Intent.CANCEL_LOOP, expect=Expect(run_id="R1"))).kind is ControlOutcomeKind.EXECUTED
    assert base.effects == [f"cancel --repo {base.repo}"]


async def test_a_run_that_consumes_an_approval_is_known_by_its_start_not_by_the_run_that_asked(base: Hand) -> None:
    write_state(base.repo, active=True)
    append(base.repo, {"event": "loop_start", "run_id": "R2"}, {"event": "approval_consumed", "run_id": "R1"})
    assert (await base.send(Intent.CANCEL_LOOP, expect=Expect(run_id="R1"))).current["runId"] == "R2"
    assert base.effects == []


async def test_lines_that_name_no_run_are_passed_over_on_the_way_back(base: Hand) -> None:
    write_state(base.repo, active=True)
    append(base.repo, {"event": "role_start", "run_id": "R1"}, *({"event": "note"} for _ in range(9)))
    assert (await base.send(Intent.CANCEL_LOOP, expect=Expect(run_id="R1"))).kind is ControlOutcomeKind.EXECUTED


async def test_a_cancel_for_a_base_service_looks_at_active_run_too(base: Hand) -> None:
    write_state(base.repo, active=True)
    write_active_run(base.repo, 1, loop="neighbour")
    assert (await base.send(Intent.CANCEL_LOOP)).code == "other_loop_active"
    assert base.effects == []


async def test_a_service_without_an_id_gets_no_command_meant_for_one_that_has_shown_its_own(base: Hand) -> None:
    assert base.peer is not None
    known = base.target.model_copy(update={"sprite_id": "s-1", "repo_path": str(base.repo), "identified": True})
    outcome = await base.send(target=known)
    assert (outcome.kind, outcome.code) == (ControlOutcomeKind.REFUSED, "wrong_sprite")
    assert "has shown its spriteId s-1 before" in outcome.message
    assert (await base.look_up(target=known)).kind is LookUpKind.UNREACHABLE
    assert base.peer.asked("/ops/control") == []
    assert base.effects == []


async def test_a_service_without_an_id_is_served_whatever_id_the_local_transport_has_shown(base: Hand) -> None:
    known = base.target.model_copy(update={"sprite_id": "s-1", "repo_path": str(base.repo)})
    assert (await base.send(target=known)).kind is ControlOutcomeKind.EXECUTED


async def test_a_refused_connection_is_not_sent(base: Hand) -> None:
    assert base.peer is not None
    base.peer.stop()
    outcome = await base.send()
    assert outcome.kind is ControlOutcomeKind.NOT_SENT
    assert "cannot connect" in outcome.message


async def test_a_service_that_does_not_answer_the_look_before_is_not_sent_anything(base: Hand) -> None:
    assert base.peer is not None
    base.peer.fault = Fault.BAD_GATEWAY_PAGE
    outcome = await base.send()
    assert outcome.kind is ControlOutcomeKind.NOT_SENT
    assert base.peer.asked("/ops/control") == []


@pytest.mark.parametrize(
    ("fault", "kind", "count"),
    [
        (Fault.EXECUTE_AND_DROP, ControlOutcomeKind.MAYBE_SENT, 1),
        (Fault.DROP, ControlOutcomeKind.MAYBE_SENT, 0),
        (Fault.HANG, ControlOutcomeKind.MAYBE_SENT, 0),
        (Fault.CUT, ControlOutcomeKind.MAYBE_SENT, 1),
        (Fault.GARBAGE, ControlOutcomeKind.MAYBE_SENT, 0),
        (Fault.BAD_GATEWAY_PAGE, ControlOutcomeKind.MAYBE_SENT, 0),
        (Fault.TOO_MANY, ControlOutcomeKind.NOT_SENT, 0),
    ],
)
async def test_a_lost_answer_is_maybe_sent_and_never_sent_again(
    fault: Fault, kind: ControlOutcomeKind, count: int, base: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert base.peer is not None
    monkeypatch.setattr(client_module, "CONTROL_READ_TIMEOUT_S", 0.3)
    base.peer.fault, base.peer.faulty = fault, lambda seen: seen.method == "POST"
    assert (await base.send()).kind is kind
    assert len(base.peer.asked("/ops/control")) == 1
    assert len(base.effects) == count


async def test_a_wrong_token_is_refused_as_unauthorized(base: Hand) -> None:
    assert base.peer is not None
    base.peer.token = "another"
    outcome = await base.send()
    assert (outcome.kind, outcome.code) == (ControlOutcomeKind.REFUSED, "unauthorized")


async def test_a_half_written_file_before_a_command_is_waited_for(base: Hand) -> None:
    state = base.repo / ".superloop/state.json"
    state.write_text("")
    sending = asyncio.create_task(base.send())
    assert base.peer is not None
    peer = base.peer
    await until(lambda: peer.requests)
    write_state(base.repo, active=False)
    assert (await sending).kind is ControlOutcomeKind.EXECUTED


async def test_a_base_service_keeps_no_record_to_ask(base: Hand) -> None:
    await base.send()
    assert (await base.look_up()).kind is LookUpKind.NOT_OFFERED


async def test_a_silent_service_cannot_be_asked(base: Hand) -> None:
    assert base.peer is not None
    base.peer.stop()
    assert (await base.look_up()).kind is LookUpKind.UNREACHABLE
