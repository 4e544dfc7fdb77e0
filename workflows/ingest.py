"""Apply one observation to the state: cursor, epoch, chain, projection, conditions, evidence for open intents.

Idempotent by (epoch, line): a line is folded once, whoever reads it again (D9).
"""

from __future__ import annotations

from datetime import datetime

from contract.divergence import Head
from contract.observation import Contact, CursorPosition, LogReset, Observation, SnapshotDigest, Transport
from contract.status import Lifecycle
from workflows import cancelling, checkpoints, confirmation, divergence, snapshots, transport
from workflows.lifecycle import PHASE_PREFIXES, apply_event, move
from workflows.state import MAX_QUARANTINED, Condition, Projection, SupervisorState


def apply_observation(
    state: SupervisorState, seen: Observation, now: datetime, *, crash_recheck_s: float, cancel_effect_s: float
) -> None:
    """Fold `seen` into `state`; the result of a superseded observer, or one applied before, changes nothing."""
    # Without a digest nothing was read: the worker that observed was shut down.
    if seen.observer != state.observer or seen.observer == state.seen or not seen.digest:
        return
    if seen.transport is not state.transport.active:
        return  # left meanwhile; what it showed is read through the other
    state.last_contact_at = seen.contact_at
    state.known = seen.digest
    state.seen = seen.observer
    transport.answered(state.transport, seen.transport, now)
    # Where the other side noticed it itself, it says why; that is more than can be said from here.
    if seen.contact is not Contact.WRONG_SPRITE and _is_other_sprite(state, seen):
        seen = seen.model_copy(update={"contact": Contact.WRONG_SPRITE, "detail": _other_sprite(state, seen)})
    _apply_contact(state, seen, now)
    if state.condition is None or state.condition.is_empty:
        state.observed_at = now
    if seen.contact is not Contact.OK:
        return
    _learn_identity(state, seen)
    if seen.scrubbed or state.scrubbed_at is None:
        state.scrubbed_at = now
    if seen.cursor.epoch != state.cursor.epoch:
        return  # the log was begun anew meanwhile
    if seen.reset is not None:
        rewritten(state, seen.reset, now)
    else:
        already = state.cursor.line
        _apply_events(state, seen, now)
        if seen.snapshot:
            _apply_snapshot(state, seen.snapshot, now, crash_recheck_s, already=already)
            _weigh_intents(state, seen.snapshot, now, cancel_effect_s)


def _is_other_sprite(state: SupervisorState, seen: Observation) -> bool:
    known = state.target.sprite_id
    return bool(known and seen.sprite_id and known != seen.sprite_id)


def _other_sprite(state: SupervisorState, seen: Observation) -> str:
    return f"expected sprite {state.target.sprite_id}, but {seen.sprite_id} answered: nothing of it was believed"


def _learn_identity(state: SupervisorState, seen: Observation) -> None:
    known = state.target
    state.target = known.model_copy(
        update={
            "sprite_id": known.sprite_id or seen.sprite_id,
            "repo_path": known.repo_path or seen.repo_path,
            # An id that the local transport showed says nothing about whether the service has one to show.
            "identified": known.identified or (seen.transport is Transport.SPRITE_SERVICE and bool(seen.sprite_id)),
        }
    )


def _apply_contact(state: SupervisorState, seen: Observation, now: datetime) -> None:
    if seen.contact is Contact.OK:
        state.condition = None
        return
    if state.condition is None or state.condition.contact is not seen.contact:
        state.condition = Condition(contact=seen.contact, detail=seen.detail, since=now)
    state.condition.detail = seen.detail
    if state.condition.is_empty and state.projection.run is None:
        move(state.projection, Lifecycle.NOT_STARTED, "no_events_yet", now)


def rewritten(state: SupervisorState, reset: LogReset, now: datetime) -> None:
    """The log is no longer the one that was read (D8): a divergence, and everything is read again."""
    lost = state.cursor
    detail = (
        f"{reset.reason}: the log is not the one that was read up to line {reset.at_line} "
        f"(epoch {lost.epoch}, chain {lost.chain or 'unknown'}); "
        f"it now has {reset.line_count if reset.line_count is not None else 'an unknown number of'} lines. "
        "Everything is read again from line 1. "
        f"{reset.detail}"
    ).strip()
    heads = {
        f"epoch {lost.epoch}": Head(line=lost.line, chain=lost.chain, epoch=lost.epoch),
        f"epoch {lost.epoch + 1}": Head(line=reset.line_count, chain=reset.chain, epoch=lost.epoch + 1),
    }
    divergence.open_divergence(state, divergence.EVENTS_REWRITTEN, detail, now, heads=heads)
    begin_epoch(state)


def begin_epoch(state: SupervisorState) -> None:
    """Forget what was read and read the log again from line 1 under a new epoch."""
    state.cursor = CursorPosition(epoch=state.cursor.epoch + 1)
    kept = state.projection.transitions
    state.projection = Projection(reason="reading_again", transitions=kept)
    state.known, state.snapshot, state.suspicions = None, None, []
    # Nothing is announced again before the new log has been read to its head.
    state.at_head = state.announced = False
    state.unverifiable_from, state.quarantined_count, state.quarantined = None, 0, []
    state.checkpoints, state.image, state.phase_line, state.inactive_from = [], None, 0, None
    known = state.transport
    # What was agreed or disagreed upon was another log.
    known.stable, known.accepted_line, known.recheck_at, known.disagreements = None, None, None, 0
    confirmation.forget_lines(state.confirming())


def _apply_events(state: SupervisorState, seen: Observation, now: datetime) -> None:
    confirming = state.confirming()
    for event in seen.events:
        if event.line <= state.cursor.line:
            continue
        apply_event(state.projection, event)
        if event.name.startswith(PHASE_PREFIXES):
            state.phase_line = event.line
        for record in confirming:
            confirmation.take_event(record, event, now)
    if seen.cursor.line >= state.cursor.line:
        bad = [line for line in seen.quarantined if line.line > state.cursor.line]
        state.quarantined_count += len(bad)
        state.quarantined = (state.quarantined + bad)[-MAX_QUARANTINED:]
        state.cursor = seen.cursor
        state.image = seen.image
        state.checkpoints = checkpoints.noted(state.checkpoints, state.cursor)
        transport.advance_stable(state.transport, seen.transport, state.cursor)
    if seen.unverifiable_from is not None and state.unverifiable_from is None:
        state.unverifiable_from = seen.unverifiable_from
    state.at_head = seen.at_head
    state.announced = state.announced or seen.at_head
    if seen.at_head:
        confirmation.rebase(confirming, state.cursor.line, now)


def _apply_snapshot(
    state: SupervisorState, snapshot: SnapshotDigest, now: datetime, crash_recheck_s: float, *, already: int
) -> None:
    state.snapshot = snapshot
    if not state.at_head:
        return
    loop_id = state.target.loop_id
    projection = state.projection
    snapshots.apply_snapshot(projection, snapshot, loop_id, now)
    divergence.watch(state, snapshot)
    found = snapshots.suspicious(projection, snapshot, loop_id) | divergence.contradictions(state, snapshot, already)
    state.suspicions, settled = snapshots.weigh(state.suspicions, found, now, crash_recheck_s)
    divergence.settle(state, found, settled, snapshot, now)
    if "process_gone" in settled:
        snapshots.conclude_run_over(projection, snapshot, loop_id, now)
        state.suspicions = [suspicion for suspicion in state.suspicions if suspicion.kind != "process_gone"]


def _weigh_intents(state: SupervisorState, snapshot: SnapshotDigest, now: datetime, cancel_effect_s: float) -> None:
    if not state.at_head:
        return
    for record in state.confirming():
        cancelling.take_snapshot(record, snapshot, state.projection, state.target.loop_id, now)
        cancelling.outlived(record, snapshot, state.target, state.observer_since, cancel_effect_s)
    for record in state.intents:
        confirmation.refute(record, snapshot, now)


def recheck_due(state: SupervisorState) -> bool:
    """Whether something was seen once and waits for its second reading; while nothing can be read, there is none."""
    if state.condition is not None:
        return False
    standing = {opened.type for opened in state.divergences}
    return any(suspicion.kind not in standing for suspicion in state.suspicions)
