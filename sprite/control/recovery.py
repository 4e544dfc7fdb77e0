"""Settling what was begun and never told its result: by what is on disk, under the lock on commands."""

from __future__ import annotations

import logging
from typing import Any

from contract.control import RECOVERED_FROM, ControlStatus
from sprite.control.audit import Audit
from sprite.control.errors import StoreUnusable
from sprite.control.findings import Effect, Finding
from sprite.control.ledger import Claim, Ledger
from sprite.control.records import SETTLED, ControlRecord, State
from sprite.control.traces import Traces

_log = logging.getLogger(__name__)

RECOVERED = "recovered_by_evidence"
"""`confirm.reason` where nobody saw the command end, but its effect is there."""


class Recovery:
    """Finds out what became of what was begun and has no result, and stores it."""

    def __init__(self, ledger: Ledger, traces: Traces, audit: Audit) -> None:
        self._ledger = ledger
        self._traces = traces
        self._audit = audit

    def look_up(self, loop_id: str, key: str) -> ControlRecord | None:
        """What is known under a key; None when it may be sent again. Raises InFlight and StoreUnusable."""
        known = self._ledger.lookup(loop_id, key)
        if known is None or known.state in SETTLED:
            return known
        with self._ledger.slot_to_look(loop_id, key):
            # Somebody may have settled it, or begun it anew, before the lock was ours.
            known = self._ledger.lookup(loop_id, key, in_slot=True)
            if known is None or known.state in SETTLED:
                return known
            return self.settle(known, may_run_again=True)

    def settle_others(self, claim: Claim) -> None:
        """Settle all that was begun but for what is claimed: the traces of its command would be taken for theirs."""
        for begun in self._ledger.begun():
            if (begun.loop_id, begun.key) != (claim.loop_id, claim.key):
                self.settle(begun, may_run_again=False)

    def settle_claimed(self, claim: Claim) -> ControlRecord | None:
        """What an orphan that was claimed has come to; None when its command may be run.

        What did a part stays an orphan until it is run again: if that fails before, it has still done its part.
        """
        known = self._ledger.known_of(claim) if claim.orphan is not None else None
        if known is None:
            claim.orphan = None
            return None
        if known.state in SETTLED:
            return known
        found = self._traces.find(known)
        settled = self._judge(known, found, may_run_again=True)
        if settled is None:
            done_nothing = found.effect is Effect.ABSENT
            claim.orphan = None if done_nothing else known
            self._note(known, State.FAILED if done_nothing else State.BEGUN, found)
        return settled

    def settle(self, orphan: ControlRecord, *, may_run_again: bool) -> ControlRecord | None:
        """What became of an orphan, stored; None when it provably had no effect, or may be finished.

        Args:
            may_run_again: Nothing else has been run since it was begun. Else a cancel that was begun and not finished
                is ambiguous from now on.
        """
        found = self._traces.find(orphan)
        settled = self._judge(orphan, found, may_run_again=may_run_again)
        if settled is None and not may_run_again:
            self._ledger.disprove(orphan)
            self._note(orphan, State.FAILED, found)
        return settled

    def _judge(self, orphan: ControlRecord, found: Finding, *, may_run_again: bool) -> ControlRecord | None:
        if found.effect is Effect.SEEN:
            return self._store(_recovered(orphan, found), State.EXECUTED, found)
        if found.effect is Effect.UNKNOWN or (found.effect is Effect.UNFINISHED and not may_run_again):
            return self._store(_lost(orphan, found), State.AMBIGUOUS, found)
        return None

    def _store(self, record: ControlRecord, state: State, found: Finding) -> ControlRecord:
        stored = self._ledger.settle(record, state)
        self._note(stored, state, found)
        return stored

    def _note(self, record: ControlRecord, state: State, found: Finding) -> None:
        try:
            self._audit.settled(record, state.value, self._traces.facts(record.loop_id), found)
        except StoreUnusable:
            _log.exception("what became of a control command could not be written to the audit log")


def _recovered(orphan: ControlRecord, found: Finding) -> ControlRecord:
    """As executed. Its exit code was not seen: 0 stands for the effect, and `recoveredFrom` says so."""
    confirm = {"stage": "recorded", "confirmed": False, "reason": RECOVERED, RECOVERED_FROM: _shown(found)}
    result = orphan.answer.result.model_copy(
        update={"status": ControlStatus.EXECUTED_UNCONFIRMED, "exit_code": 0, "confirm": confirm}
    )
    answer = orphan.answer.model_copy(update={"ok": True, "exit_code": 0, "result": result})
    return orphan.model_copy(update={"answer": answer})


def _lost(orphan: ControlRecord, found: Finding) -> ControlRecord:
    """As ambiguous: what was stored when it was begun, and why the traces do not decide."""
    confirm = {**(orphan.answer.result.confirm or {}), "looked": _shown(found)}
    result = orphan.answer.result.model_copy(update={"confirm": confirm})
    return orphan.model_copy(update={"answer": orphan.answer.model_copy(update={"result": result})})


def _shown(found: Finding) -> dict[str, Any]:
    return {"effect": found.effect.value, "reason": found.reason, **found.evidence}
