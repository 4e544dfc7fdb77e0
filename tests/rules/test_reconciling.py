"""What follows from a comparison: the waiting part of it with scripted answers, and whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import Payload

from contract.directives import Directive
from contract.observation import ChainAt, Contact, Transport, TransportMode
from contract.reconciliation import Agreement, ChainsResult, ReconcileInput, ReconcileResult
from contract.status import Attention, IntentRecord, IntentStage
from contract.supervision import SupervisorStart
from tests.rules.world import FIRST_RUN, World, waiting
from workflows import directives, remote, transport
from workflows.attention import assess
from workflows.reconciling import Reconciling

Answer = Callable[[ReconcileInput], ReconcileResult]


class Comparing:
    """A world whose service or local log is compared; `service` and `local` say what a replay finds."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.service: Answer = agreed
        self.local: Answer = agreed
        self.asked: list[ReconcileInput] = []
        self._published = asyncio.Event()
        start = SupervisorStart(target=world.state.target)
        observing: Any = SimpleNamespace(supersede=lambda: 1)
        self.part = Reconciling(start, world.state, observing, lambda: self._published.set())
        monkeypatch.setattr(remote, "reconcile", self._replay)
        monkeypatch.setattr(remote, "chains", self._no_chains)
        monkeypatch.setattr(workflow, "now", lambda: world.now)
        monkeypatch.setattr(workflow, "wait_condition", _until)

    async def _replay(self, request: ReconcileInput, queue: str) -> ReconcileResult:
        self.asked.append(request)
        return (self.local if request.transport is Transport.LOCAL else self.service)(request)

    async def _no_chains(self, *_: object) -> ChainsResult:
        return ChainsResult(complete=False)

    @property
    def known(self) -> Any:
        return self.world.state.transport

    def lose_service(self) -> None:
        transport.failed(self.known, Transport.SPRITE_SERVICE, "connection refused", self.world.now)
        self.world.look()

    def probed(self) -> None:
        self.world.tick()
        asyncio.run(self.part.after_probe())
        self.world.settle()

    def send(self, directive: Directive, body: str = '{"by":"ana"}') -> IntentRecord:
        payload = Payload(metadata={"encoding": b"json/plain"}, data=body.encode())
        return directives.receive(
            self.world.state,
            directive,
            [payload],
            now=self.world.now,
            first_run_id=FIRST_RUN,
            trace_id="trace",
            local_only=False,
        )

    def reconcile(self) -> IntentRecord:
        record = self.send(Directive.RECONCILE)
        asyncio.run(self._carry_out())
        return record

    async def _carry_out(self) -> None:
        self._published = asyncio.Event()
        running = asyncio.create_task(self.part.run())
        await self._published.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def accept(self, what: str, name: str = "d1") -> IntentRecord:
        return self.send(Directive.RESOLVE_DIVERGENCE, f'{{"id":"{name}","accept":"{what}","by":"ana"}}')


def agreed(request: ReconcileInput) -> ReconcileResult:
    return ReconcileResult(
        agreement=Agreement.AGREED,
        from_line=request.start.line,
        to_line=request.cursor.line,
        chain=request.cursor.chain,
        same_up_to=request.cursor.line,
    )


def other(request: ReconcileInput) -> ReconcileResult:
    """Another log from line 2 on."""
    return agreed(request).model_copy(
        update={"agreement": Agreement.DIFFERENT, "chain": "f" * 64, "same_up_to": 1, "differs_at": 2}
    )


def unproved(request: ReconcileInput) -> ReconcileResult:
    return agreed(request).model_copy(update={"agreement": Agreement.UNVERIFIABLE, "detail": "no hash here"})


def unreachable(request: ReconcileInput) -> ReconcileResult:
    return agreed(request).model_copy(
        update={"agreement": Agreement.UNREACHABLE, "to_line": request.start.line, "detail": "connection refused"}
    )


def says(contact: Contact) -> Answer:
    def answer(request: ReconcileInput) -> ReconcileResult:
        changes = {"agreement": Agreement.CONDITION, "contact": contact, "to_line": 0, "detail": contact.value}
        return agreed(request).model_copy(update=changes)

    return answer


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Comparing:
    """A waiting loop whose service went away; local has taken over."""
    comparing = Comparing(waiting(), monkeypatch)
    comparing.lose_service()
    return comparing


async def _until(condition: Callable[[], bool]) -> None:
    if not condition():
        await asyncio.Event().wait()


def disagreeing(away: Comparing) -> Comparing:
    away.service = other
    away.probed()
    assert [found.type for found in away.world.state.divergences] == ["transport_disagreement"]
    return away


def test_refused_token_is_never_told_as_an_agreement(away: Comparing) -> None:
    away.world.contact(Contact.UNAUTHORIZED, "401")
    away.service = says(Contact.UNAUTHORIZED)
    record = away.reconcile()
    assert (record.stage, record.comparison and record.comparison.agreement) == (IntentStage.REJECTED, "condition")
    assert record.sentence == "Nothing done: nothing was compared: unauthorized"


def test_service_that_says_what_local_says_is_used_again_without_claiming_an_agreement(away: Comparing) -> None:
    away.world.contact(Contact.LOOP_NOT_FOUND, "gone")
    away.service = says(Contact.LOOP_NOT_FOUND)
    away.probed()
    assert away.known.active is Transport.SPRITE_SERVICE
    assert away.known.reason == "the sprite service answers again, without a log: loop_not_found"


def test_loop_of_which_nothing_was_read_is_no_proof_that_its_service_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    comparing = Comparing(World(), monkeypatch)
    comparing.lose_service()
    comparing.service = unreachable
    record = comparing.reconcile()
    assert record.stage is IntentStage.REJECTED
    assert (comparing.known.active, comparing.known.reconciled) == (Transport.LOCAL, False)
    comparing.service = says(Contact.NOT_READY)
    comparing.probed()
    assert comparing.known.active is Transport.SPRITE_SERVICE


@pytest.mark.parametrize("accept", ["sprite_service", "local"])
def test_decision_that_comes_while_the_logs_are_compared_stands(away: Comparing, accept: str) -> None:
    disagreeing(away)

    def decided_meanwhile(request: ReconcileInput) -> ReconcileResult:
        assert away.accept(accept).stage is IntentStage.CONFIRMED
        return agreed(request)

    away.local = decided_meanwhile
    away.world.tick(transport.RECHECK_S)
    away.probed()
    assert away.world.state.divergences == []
    assert away.known.active.value == accept
    assert not away.known.reconciling


def test_service_that_refuses_our_token_is_not_told_to_give_no_answer(away: Comparing) -> None:
    away.service = says(Contact.UNAUTHORIZED)
    away.probed()
    conditions = {open.kind: open.sentence for open in away.world.state.conditions}
    assert conditions[Attention.SERVICE_DOWN] == (
        "The sprite service could not be compared yet, supervision goes on through the local transport: unauthorized"
    )


def test_blind_loop_says_that_its_service_answers_with_a_refusal(away: Comparing) -> None:
    transport.failed(away.known, Transport.LOCAL, "no worker took the task", away.world.now)
    away.known.stable = None
    away.service, away.local = says(Contact.UNAUTHORIZED), unreachable
    away.probed()
    told = assess(away.world.state).sentence
    assert told.endswith("no worker took the task. The sprite service could not be compared yet: unauthorized")
    away.service = unreachable
    away.probed()
    assert "could not be compared" not in assess(away.world.state).sentence


def test_comparison_that_somebody_asked_for_in_vain_changes_nothing(away: Comparing) -> None:
    before = away.known.model_copy(deep=True)
    away.service = unreachable
    assert away.reconcile().sentence == "Nothing done: nothing was compared: connection refused"
    assert away.known == before


def test_resolution_says_of_a_log_that_is_still_being_read_that_it_is(away: Comparing) -> None:
    away.world.new_epoch()
    assert away.accept("current").sentence == (
        "Done: ana resolved d1 events_rewritten: what is being read again stands (epoch 2)"
    )


def test_pinned_service_that_does_not_answer_is_not_told_to_wait_for_a_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    comparing = Comparing(waiting(), monkeypatch)
    pin = '{"mode":"sprite_service","by":"ana"}'
    comparing.send(Directive.SET_TRANSPORT, pin)
    transport.failed(comparing.known, Transport.SPRITE_SERVICE, "connection refused", comparing.world.now)
    assert comparing.send(Directive.SET_TRANSPORT, pin).sentence == (
        "Done: ana pinned the loop to sprite service, and nothing else is used"
    )


def test_rewrite_that_the_service_itself_has_shown_meanwhile_is_no_reason_to_leave_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    comparing = Comparing(waiting(), monkeypatch)

    def read_again(request: ReconcileInput) -> ReconcileResult:
        comparing.world.new_epoch()
        return agreed(request)

    comparing.service, comparing.local = other, read_again
    comparing.reconcile()
    assert (comparing.known.active, comparing.known.reconciled) == (Transport.SPRITE_SERVICE, True)


def test_disagreement_is_gone_over_again_from_before_its_first_line(away: Comparing) -> None:
    state = away.world.state
    state.checkpoints = [ChainAt(line=line, chain=f"{line:064x}") for line in (1, 2, 3)]
    away.known.stable = state.cursor.model_copy(update={"line": 400})
    disagreeing(away)
    assert away.asked[0].start.line == 3
    away.world.tick(transport.RECHECK_S)
    away.probed()
    assert away.asked[2].start.line <= 1


def test_what_was_seen_to_differ_is_not_taken_back_by_what_cannot_be_proved(away: Comparing) -> None:
    disagreeing(away)
    away.service = unproved
    away.world.tick(transport.RECHECK_S)
    away.probed()
    assert [found.id for found in away.world.state.divergences] == ["d1"]
    assert (away.known.active, away.known.reconciled) == (Transport.LOCAL, False)
    assert away.reconcile().sentence.endswith(" See d1.")
    away.accept("local")
    away.world.tick(transport.RECHECK_S)
    away.probed()
    assert (away.known.mode, away.known.active) == (TransportMode.LOCAL, Transport.LOCAL)


def test_whoever_lets_the_service_in_again_can_decide_anew_about_what_was_accepted(away: Comparing) -> None:
    disagreeing(away)
    away.accept("current")
    away.probed()
    assert away.world.state.divergences == []
    away.send(Directive.SET_TRANSPORT, '{"mode":"auto","by":"ana"}')
    away.probed()
    assert away.accept("sprite_service", "d2").stage is IntentStage.CONFIRMED


def test_accepted_service_that_nobody_has_seen_yet_leaves_the_loop_blind(away: Comparing) -> None:
    disagreeing(away)
    transport.failed(away.known, Transport.LOCAL, "no worker", away.world.now)
    away.accept("sprite_service")
    assert (transport.word(away.known), away.known.active) == ("blind", Transport.SPRITE_SERVICE)
    away.world.epoch = away.world.state.cursor.epoch
    away.world.look()
    assert transport.word(away.known) == "sprite_service"


def test_another_sprite_leaves_no_heads_to_accept_its_log_by(away: Comparing) -> None:
    disagreeing(away)
    away.part.another_sprite("expected sprite-1, but sprite-2 answered")
    refused = away.accept("sprite_service")
    assert (refused.stage, "local or current" in refused.reason) == (IntentStage.REJECTED, True)


def test_disagreement_that_nobody_resolves_is_compared_more_and_more_rarely_and_pushes_no_change_out(
    away: Comparing,
) -> None:
    disagreeing(away)
    pauses = []
    for _ in range(40):
        due = transport.probe_due(away.known)
        assert due is not None
        pauses.append((due - away.world.now).total_seconds())
        away.world.now = due
        away.probed()
    assert pauses[:4] == [600.0, 1200.0, 2400.0, 3600.0]
    assert max(pauses) <= transport.LONGEST_RECHECK_S
    assert away.known.changes[0].evidence == "connection refused"
    assert len(away.known.changes) <= 5


def test_whole_log_may_take_as_long_as_a_slow_service_needs_for_it() -> None:
    hour = timedelta(hours=1)
    assert remote.time_to_read(10, hour) == hour
    assert remote.time_to_read(100_000, hour) > 100_000 * timedelta(seconds=0.3)
