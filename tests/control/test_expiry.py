"""The ledger is bounded: by age, and by number per loop; never at the cost of what is open or young and ambiguous."""

from pathlib import Path

import pytest

from contract.control import CommandAnswer, ControlRequest, ControlResult, ControlStatus
from sprite.control import InFlight
from sprite.control import ledger as ledger_module
from sprite.control.ledger import KEEP_FOR_S, KEEP_PER_LOOP, Claim, Ledger
from sprite.control.records import ControlRecord, State
from tests.control.support import request

DAY_S = 24 * 3600.0


class Clock:
    """A time that is set."""

    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


def asked(key: str) -> ControlRequest:
    return request("approve", idempotencyKey=key, by="ana")


def record_of(key: str, state: State) -> ControlRecord:
    result = ControlResult(
        timestamp="2026-11-22T08:00:00Z", loop_id="demo", intent="approve", requested_by="ana",
        status=ControlStatus.EXECUTED_UNCONFIRMED, confirmed=False, exit_code=0,
    )  # fmt: skip
    answer = CommandAnswer(ok=True, exit_code=0, result=result)
    return ControlRecord(loop_id="demo", key=key, fingerprint="f", state=state, answer=answer)


def use(ledger: Ledger, key: str, state: State) -> None:
    claim = ledger.claim(asked(key), key, "f")
    assert isinstance(claim, Claim)
    if state is State.FAILED:
        claim.abandon()
    elif state is not State.CLAIMED:
        claim.begin(record_of(key, State.BEGUN))
        if state is not State.BEGUN:
            claim.finish(record_of(key, state))


def known(ledger: Ledger, *keys: str) -> list[str]:
    return [key for key in keys if isinstance(ledger.claim(asked(key), key, "f"), ControlRecord)]


def test_bounds_are_wider_than_what_the_manager_remembers() -> None:
    assert KEEP_FOR_S > 2 * 30 * DAY_S
    assert KEEP_PER_LOOP >= 10 * 500


def test_settled_key_is_forgotten_by_age_and_not_before(tmp_path: Path) -> None:
    clock = Clock()
    ledger = Ledger(tmp_path, clock=clock)
    use(ledger, "executed", State.EXECUTED)
    use(ledger, "ambiguous", State.AMBIGUOUS)

    clock.now += KEEP_FOR_S - 1
    use(ledger, "another", State.EXECUTED)
    assert known(ledger, "executed", "ambiguous") == ["executed", "ambiguous"]

    clock.now += 2
    use(ledger, "one-more", State.EXECUTED)
    assert known(ledger, "executed", "ambiguous", "another") == ["another"]


def test_too_many_keys_of_a_loop_cost_the_oldest_ones_and_none_that_is_open_or_ambiguous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "KEEP_PER_LOOP", 3)
    clock = Clock()
    ledger, another = Ledger(tmp_path, clock=clock), Ledger(tmp_path, clock=clock)
    use(ledger, "begun", State.BEGUN)
    use(ledger, "ambiguous", State.AMBIGUOUS)
    use(ledger, "claimed", State.CLAIMED)
    for number in range(6):
        clock.now += 1
        use(ledger, f"k{number}", State.EXECUTED if number % 2 else State.FAILED)
    clock.now += 1
    use(ledger, "last", State.EXECUTED)
    use(ledger, "one-more", State.FAILED)

    for key in ("begun", "claimed"):
        with pytest.raises(InFlight):
            another.claim(asked(key), key, "f")
    assert known(another, "ambiguous", "k1", "k3", "k5", "last") == ["ambiguous", "k3", "k5", "last"]


def test_claims_of_the_dead_are_swept_with_their_holders(tmp_path: Path) -> None:
    dead = Ledger(tmp_path)
    use(dead, "begun", State.BEGUN)
    dead.close()
    (tmp_path / "holder-of-somebody-killed.lock").touch()

    ledger = Ledger(tmp_path)

    assert not list(tmp_path.glob("holder-*"))
    assert [record.key for record in ledger.begun()] == ["begun"]
