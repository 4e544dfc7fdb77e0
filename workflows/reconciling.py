"""Compares the service's log with what was ingested, and decides what follows (architecture.md, "Transports").

Agreed: back to the service. Different: whose log is another one is found out by asking the local transport, and nothing
that was ingested is overwritten unless that log itself has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from workflows import checkpoints, divergence, records, remote, transport

with workflow.unsafe.imports_passed_through():
    from contract.divergence import Head
    from contract.observation import (
        Contact,
        CursorPosition,
        LogReset,
        Transport,
        TransportMode,
    )
    from contract.reconciliation import (
        Agreement,
        ChainsInput,
        ChainsResult,
        Comparison,
        ReconcileInput,
        ReconcileResult,
    )
    from contract.status import IntentRecord, IntentStage
    from contract.supervision import SupervisorStart

from workflows.directives import open_comparison
from workflows.ingest import rewritten
from workflows.observing import Observing, told_to_end
from workflows.state import SupervisorState
from workflows.wording import compared

NARROWING_ROUNDS = 8
"""Each asks for up to 64 chains on both sides: enough for more lines than any log has."""
AFTER_REWRITE_S = 5.0
"""Where the log itself was rewritten, the service is compared again as soon as it should have been read anew."""


class Reconciling:
    """Compares when the service is back, and when somebody asks; one comparison at a time."""

    def __init__(
        self, start: SupervisorStart, state: SupervisorState, observing: Observing, publish: Callable[[], None]
    ) -> None:
        self._start = start
        self._state = state
        self._observing = observing
        self._publish = publish
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Carry out what was asked for, until cancelled."""
        while not told_to_end():
            await workflow.wait_condition(lambda: open_comparison(self._state) is not None)
            record = open_comparison(self._state)
            if record is not None:
                self._tell(record, await self._compare(from_start=record.from_start))
                self._publish()

    async def after_probe(self) -> None:
        """The service answers again: compare, and go back to it if it agrees."""
        state, now = self._state, workflow.now()
        if state.transport.active is Transport.SPRITE_SERVICE:
            # Pinned to it: nothing came from anywhere else, and each of its pages is held to the chain.
            transport.not_compared(state.transport, "it is tried again", now)
            self._observing.supersede()
            return
        if not (state.at_head or state.condition is not None or state.transport.blind):
            transport.not_compared(state.transport, "what was ingested is not complete yet", now)
            return
        transport.comparing(state.transport, now)
        self._publish()
        await self._compare(from_start=False)
        if state.transport.reconciling:
            transport.not_compared(state.transport, "the log or the transport was changed meanwhile", workflow.now())
        self._publish()

    def another_sprite(self, detail: str) -> None:
        """What answers at the service's address is another sprite."""
        self._open_disagreement(detail)
        self._publish()

    def _tell(self, record: IntentRecord, comparison: Comparison) -> None:
        now, told = workflow.now(), compared(comparison, divergence.standing(self._state, _KIND))
        record.comparison = comparison
        if comparison.agreement in (Agreement.UNREACHABLE, Agreement.CONDITION):
            records.refuse(record, now, f"nothing was compared: {comparison.detail}")
            return
        records.reach(record, IntentStage.CONFIRMED, now, told)
        record.reason, record.sentence = told, f"Done: {told}"

    @property
    def _through(self) -> Transport:
        service = self._state.target.service_url is not None and not self._start.local_only
        return Transport.SPRITE_SERVICE if service else Transport.LOCAL

    async def _compare(self, *, from_start: bool) -> Comparison:
        async with self._lock:
            while True:
                cursor = self._state.cursor
                result = await self._replay(self._through, cursor, from_start=from_start)
                # While it was read, the log may have become another one: then it was compared with the wrong one.
                if self._state.cursor.epoch == cursor.epoch:
                    break
            meant = _meaning(result, self._through, cursor, self._state)
            result = result.model_copy(update={"agreement": meant})
            first = await self._conclude(cursor, result)
            return Comparison(
                agreement=result.agreement,
                transport=self._through,
                epoch=cursor.epoch,
                from_line=result.from_line,
                to_line=result.to_line,
                ingested_line=cursor.line,
                ingested_chain=cursor.chain,
                chain=result.chain,
                line_count=result.line_count,
                first_differing_line=first,
                detail=result.detail,
            )

    async def _replay(self, through: Transport, cursor: CursorPosition, *, from_start: bool) -> ReconcileResult:
        known = self._state.checkpoints
        start = CursorPosition(epoch=cursor.epoch)
        if not from_start:
            stable, doubted = self._state.transport.stable, divergence.doubted_line(self._state)
            start = checkpoints.replay_start(known, stable, cursor, doubted=doubted)
        request = ReconcileInput(
            target=self._state.target,
            transport=through,
            cursor=cursor,
            start=start,
            checkpoints=checkpoints.within(known, start.line, cursor.line),
            failure_limit=self._start.options.transport_failure_limit,
        )
        try:
            return await remote.reconcile(request, self._start.task_queue)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from None
            detail = remote.why(error)
            return ReconcileResult(
                agreement=Agreement.UNREACHABLE, from_line=start.line, to_line=start.line, detail=detail
            )

    async def _conclude(self, cursor: CursorPosition, result: ReconcileResult) -> int | None:
        """Act on what was found; the first differing line, where there is one and it could be found."""
        known = self._state.transport
        if result.agreement is Agreement.DIFFERENT:
            return await self._different(cursor, result)
        if result.agreement in (Agreement.AGREED, Agreement.UNVERIFIABLE):
            self._agreed(result)
        elif self._through is Transport.SPRITE_SERVICE and known.active is Transport.LOCAL:
            if self._is_harmless(cursor, result):
                self._return(f"the sprite service answers again, without a log: {result.detail}")
            elif known.reconciling:  # otherwise somebody only asked, and is told
                answers = result.agreement is Agreement.CONDITION
                transport.not_compared(known, result.detail, workflow.now(), answers=answers)
        return None

    def _is_harmless(self, cursor: CursorPosition, result: ReconcileResult) -> bool:
        """Whether a service that shows no log may be used: nothing was ingested that it could have to contradict."""
        known = self._state.transport
        disputed = divergence.standing(self._state, _KIND) is not None or known.accepted_line is not None
        if result.agreement is not Agreement.CONDITION or disputed:
            return False
        alone = known.blind and transport.stands_at(known, cursor)
        return _says_the_same(result, self._state) or alone or (cursor.line == 0 and result.contact in _EMPTY)

    def _agreed(self, result: ReconcileResult) -> None:
        if self._through is Transport.LOCAL:
            return
        now, proved = workflow.now(), result.agreement is Agreement.AGREED
        if divergence.doubted_line(self._state) is not None and not proved:
            # What was seen to differ is not taken back by what cannot be proved.
            told = f"the sprite service showed another log, and cannot be proved to agree again: {result.detail}"
            transport.disagreed(self._state.transport, told, now)
            return
        disagreement = divergence.standing(self._state, _KIND)
        if disagreement is not None:
            divergence.close(self._state, disagreement, now, resolution=divergence.GONE)
        lines = f"lines {result.from_line + 1} to {result.to_line}" if result.to_line else "nothing was ingested yet"
        self._return(f"the sprite service answers again and {'agrees' if proved else 'is not contradicted'} ({lines})")

    def _return(self, reason: str) -> None:
        known = self._state.transport
        if known.active is Transport.LOCAL and (known.mode is not TransportMode.LOCAL or known.until_agreed):
            transport.returned(known, reason, workflow.now())
            self._observing.supersede()

    async def _different(self, cursor: CursorPosition, result: ReconcileResult) -> int | None:
        if self._through is Transport.LOCAL:
            self._rewritten(cursor, result, Transport.LOCAL)
            return None
        if result.contact is Contact.WRONG_SPRITE:
            # Where it is used now, the observer tells so itself, and believes nothing.
            if self._state.transport.active is Transport.LOCAL:
                self._open_disagreement(result.detail)
            return None
        local = await self._replay(Transport.LOCAL, cursor, from_start=False)
        if self._state.cursor.epoch != cursor.epoch:
            # The observer was faster: the log itself was rewritten, and is being read again. Or somebody has decided.
            if self._state.transport.active is Transport.LOCAL:
                transport.disagreed(self._state.transport, result.detail, workflow.now(), recheck_s=AFTER_REWRITE_S)
            return None
        if local.agreement is Agreement.DIFFERENT and local.contact is Contact.OK:
            self._rewritten(cursor, local, Transport.LOCAL)
            return None
        seen = local.agreement in (Agreement.AGREED, Agreement.UNVERIFIABLE)
        nobody_else = transport.stands_at(self._state.transport, cursor)
        if not seen and nobody_else:
            self._rewritten(cursor, result, Transport.SPRITE_SERVICE)
            return None
        same, different = await self._narrow(result, ask_local=seen)
        if self._state.cursor.epoch != cursor.epoch:
            return None  # somebody has decided meanwhile
        first = different if different == same + 1 else None
        heads = {
            divergence.INGESTED: Head(line=cursor.line, chain=cursor.chain, epoch=cursor.epoch),
            "sprite_service": Head(line=result.to_line, chain=result.chain, epoch=cursor.epoch),
        }
        told = f"line {first}" if first else f"a line after {same}, at or before {different}"
        detail = f"the sprite service shows another log from {told} on: {result.detail}"
        self._open_disagreement(detail, first_differing_line=first, last_same_line=same, heads=heads)
        return first

    def _open_disagreement(
        self,
        detail: str,
        *,
        first_differing_line: int | None = None,
        last_same_line: int | None = None,
        heads: Mapping[str, Head] | None = None,
    ) -> None:
        state, now = self._state, workflow.now()
        # One that somebody has accepted is not told again.
        if state.transport.accepted_line != divergence.first_doubt(first_differing_line, last_same_line, heads):
            divergence.open_divergence(
                state,
                _KIND,
                detail,
                now,
                heads=heads,
                first_differing_line=first_differing_line,
                last_same_line=last_same_line,
            )
        moves = state.transport.active is Transport.SPRITE_SERVICE
        transport.disagreed(state.transport, detail, now)
        if moves:
            self._observing.supersede()

    def _rewritten(self, cursor: CursorPosition, result: ReconcileResult, through: Transport) -> None:
        """The log itself is another one: everything is read again, through the transport that showed it."""
        now = workflow.now()
        reset = LogReset(
            reason="events_rewritten",
            at_line=cursor.line,
            line_count=result.line_count,
            chain=result.chain,
            detail=result.detail,
        )
        rewritten(self._state, reset, now)
        if through is Transport.SPRITE_SERVICE:
            transport.returned(self._state.transport, "the sprite service answers again, with another log", now)
        elif self._through is Transport.SPRITE_SERVICE:
            transport.disagreed(self._state.transport, "the log was rewritten", now, recheck_s=AFTER_REWRITE_S)
        self._observing.supersede()

    async def _narrow(self, result: ReconcileResult, *, ask_local: bool) -> tuple[int, int]:
        """(highest line known to agree, lowest known to differ): one after the other where that can be found out."""
        if result.contact is not Contact.OK:
            return 0, 1
        same, different = result.same_up_to or 0, result.differs_at or result.to_line
        known = {at.line: at.chain for at in self._state.checkpoints}
        ours = {line: known[line] for line in sorted(known) if same < line < different}
        for turn in range(NARROWING_ROUNDS):
            if turn or not ours:
                if different <= same + 1 or not ask_local:
                    break
                ours = await self._chains(Transport.LOCAL, same, known, checkpoints.spread(same, different))
            theirs = await self._chains(Transport.SPRITE_SERVICE, same, known, list(ours))
            if not ours or theirs is _NOTHING:
                break
            known.update(ours)
            same, different = checkpoints.narrowed(same, different, ours, theirs)
        return same, different

    async def _chains(self, through: Transport, same: int, known: dict[int, str], lines: list[int]) -> dict[int, str]:
        """The chains at `lines`; _NOTHING when they could not be had."""
        if not lines:
            return _NOTHING
        # Both logs are the same up to there, so either may be read on from its chain.
        start = CursorPosition(line=same, chain=known[same]) if same in known else CursorPosition()
        request = ChainsInput(target=self._state.target, transport=through, start=start, lines=lines)
        try:
            found: ChainsResult = await remote.chains(request, self._start.task_queue)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from None
            return _NOTHING
        return {at.line: at.chain for at in found.chains} if found.complete else _NOTHING


_KIND = divergence.TRANSPORT_DISAGREEMENT
_EMPTY = (Contact.LOOP_NOT_FOUND, Contact.NOT_READY)
_NOTHING: dict[int, str] = {}


def _meaning(result: ReconcileResult, through: Transport, cursor: CursorPosition, state: SupervisorState) -> Agreement:
    """What an answer that is no log says about the log."""
    if result.contact is not Contact.OK and through is Transport.LOCAL:
        return Agreement.CONDITION
    if result.agreement is not Agreement.CONDITION:
        return result.agreement
    if cursor.line and result.contact in _EMPTY and not _says_the_same(result, state):
        return Agreement.DIFFERENT  # there is nothing, where something was
    return Agreement.CONDITION


def _says_the_same(result: ReconcileResult, state: SupervisorState) -> bool:
    return state.condition is not None and state.condition.contact is result.contact
