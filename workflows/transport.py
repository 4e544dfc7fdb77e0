"""Which transport observes next (architecture.md, "Transports"). Cannot see is never treated as is dead.

    sprite_service -(retries exhausted)-> local -(probe: twice good)-> reconciling -(agrees)-> sprite_service

When none that may be used answers: blind. Every change of that word is recorded.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from contract.observation import CursorPosition, Target, Transport, TransportMode
from contract.status import TransportChange
from workflows.state import ServiceDown, TransportState

MAX_CHANGES = 20
RECHECK_S, LONGEST_RECHECK_S = 600.0, 3600.0
"""Until a service that disagreed is compared again unasked, doubled each time: somebody has been told."""
_FIRST_RETRY_S = 5.0
_FIRST_PROBE_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 600.0
_MOST_DOUBLINGS = 20
_MAX_REASON_CHARS = 300


def initial(target: Target, local_only: bool) -> TransportState:
    """The service where there is one, else the local transport."""
    local = not _has_service(target, local_only)
    return TransportState(active=Transport.LOCAL if local else Transport.SPRITE_SERVICE)


def _has_service(target: Target, local_only: bool) -> bool:
    return target.service_url is not None and not local_only


def word(transport: TransportState) -> str:
    """`sprite_service`, `local`, `reconciling` or `blind`."""
    if transport.blind:
        return "blind"
    return "reconciling" if transport.reconciling else transport.active.value


def failed(transport: TransportState, through: Transport, reason: str, now: datetime) -> None:
    """A transport's retries ran out: the service gives way to local, and without local we are blind."""
    if through is not transport.active:
        return  # that of an observer which was to be replaced; it says nothing about the one in use now
    before, reason = word(transport), reason[:_MAX_REASON_CHARS]
    if transport.active is Transport.SPRITE_SERVICE and transport.mode is not TransportMode.SPRITE_SERVICE:
        _leave_service(transport, f"the sprite service does not answer: {reason}", now)
        transport.service_down = transport.service_down or ServiceDown(since=now, reason=reason)
    else:
        _go_blind(transport, reason, now)
    _record(transport, before, now, evidence=reason)


def _leave_service(transport: TransportState, reason: str, now: datetime) -> None:
    transport.active, transport.since, transport.attempt, transport.reason = Transport.LOCAL, now, 0, reason
    # Nothing that comes from here on has been shown by the service.
    transport.reconciled, transport.unreconciled_since = False, transport.unreconciled_since or now


def _go_blind(transport: TransportState, reason: str, now: datetime) -> None:
    if transport.service_down is not None:
        transport.service_down.bridged = False
    transport.attempt += 1
    if transport.blind:
        return
    transport.blind, transport.blind_since = True, now
    if transport.active is Transport.SPRITE_SERVICE:
        pinned = f"pinned to the sprite service by {transport.pinned_by}, which"
        transport.reason = f"{pinned} does not answer: {reason}"
        return
    earlier = f"{transport.reason[:_MAX_REASON_CHARS]}; " if transport.reason else ""
    transport.reason = f"{earlier}the local transport does not answer: {reason}"


def answered(transport: TransportState, through: Transport, now: datetime) -> None:
    """An observation came."""
    before = word(transport)
    if transport.blind and through is transport.active:
        transport.blind, transport.blind_since, transport.attempt, transport.since = False, None, 0, now
        transport.reason = f"the {_name(transport.active)} transport answers again"
    if transport.since is None:
        transport.since = now
    if through is Transport.SPRITE_SERVICE:
        transport.recoveries, transport.service_down = 0, None
    elif transport.service_down is not None:
        transport.service_down.bridged = True
    _record(transport, before, now)


def comparing(transport: TransportState, now: datetime) -> None:
    """The probe has seen the service answer again: it is compared before anything is believed of it."""
    before = word(transport)
    transport.reconciling, transport.reconciling_since = True, now
    _record(transport, before, now, reason="the sprite service answers again and is compared with what was ingested")


def returned(transport: TransportState, reason: str, now: datetime, *, by: str | None = None) -> None:
    """To the service: it shows what was ingested, or is to be ingested anew."""
    before = word(transport)
    if transport.active is not Transport.SPRITE_SERVICE:
        transport.active, transport.since, transport.reason = Transport.SPRITE_SERVICE, now, reason
        transport.recoveries += 1
    if by is None:
        # Somebody's word does not make it answer: what it shows ends that (see `answered`).
        transport.blind, transport.blind_since, transport.attempt = False, None, 0
    transport.reconciled, transport.unreconciled_since = True, None
    transport.recheck_at, transport.accepted_line, transport.disagreements = None, None, 0
    _end_comparing(transport)
    if transport.until_agreed:
        transport.mode, transport.pinned_by, transport.until_agreed = TransportMode.AUTO, None, False
    _record(transport, before, now, by=by, always=by is not None)


def not_compared(transport: TransportState, reason: str, now: datetime, *, answers: bool = True) -> None:
    """Nothing is known about the service's log, whether it `answers` or not: later again, each time a little later."""
    before = word(transport)
    _end_comparing(transport)
    transport.recoveries += 1
    pause_s = _doubled(_FIRST_PROBE_PAUSE_S, transport.recoveries)
    transport.recheck_at = now + timedelta(seconds=pause_s)
    reason = reason[:_MAX_REASON_CHARS]
    if transport.service_down is not None:
        transport.service_down.reason, transport.service_down.answers = reason, answers
    if not transport.blind:
        transport.reason = f"the sprite service could not be compared: {reason}"
    _record(transport, before, now)


def disagreed(transport: TransportState, reason: str, now: datetime, *, recheck_s: float | None = None) -> None:
    """The service shows another log: the manager goes on through local."""
    before = word(transport)
    if recheck_s is None:
        recheck_s = min(LONGEST_RECHECK_S, RECHECK_S * 2.0 ** min(transport.disagreements, _MOST_DOUBLINGS))
        transport.disagreements += 1
    _end_comparing(transport)
    if transport.active is Transport.SPRITE_SERVICE:
        _leave_service(transport, reason, now)
    transport.reason, transport.service_down = reason[:_MAX_REASON_CHARS], None
    transport.recheck_at = now + timedelta(seconds=recheck_s)
    _record(transport, before, now, evidence=reason[:_MAX_REASON_CHARS])


def pin(transport: TransportState, mode: TransportMode, now: datetime, *, by: str, until_agreed: bool = False) -> None:
    """Use only that transport from now on, or (`auto`) whichever works.

    A service that is not reconciled is compared before it is used; `until_agreed`: the pin ends with that.
    """
    before = word(transport)
    transport.mode, transport.pinned_by = mode, None if mode is TransportMode.AUTO else by
    transport.until_agreed = until_agreed
    if not until_agreed:
        transport.recheck_at, transport.recoveries, transport.disagreements = None, 0, 0
    if mode is not TransportMode.LOCAL:
        transport.accepted_line = None  # whoever wants the service may decide anew what is to be believed of it
    if mode is TransportMode.LOCAL:
        _end_comparing(transport)
        transport.service_down = None  # whether it answers is of no interest any more
    if mode is TransportMode.LOCAL and transport.active is Transport.SPRITE_SERVICE:
        _leave_service(transport, f"pinned to the local transport by {by}", now)
    told = f"pinned to the {_name(Transport(mode))} transport" if mode is not TransportMode.AUTO else "pinned no more"
    _record(transport, before, now, reason=told, by=by, always=True)


def advance_stable(transport: TransportState, through: Transport, cursor: CursorPosition) -> None:
    """What came from a reconciled service is where the next comparison begins."""
    if through is Transport.SPRITE_SERVICE and transport.reconciled:
        transport.stable = cursor


def stands_at(transport: TransportState, cursor: CursorPosition) -> bool:
    """Whether everything ingested came from the service while it was reconciled, so that nobody else has shown it."""
    stable = transport.stable
    return stable is not None and (stable.epoch, stable.line) == (cursor.epoch, cursor.line)


def retry_delay_s(transport: TransportState) -> float:
    """Seconds before the next try while blind; the probe watches the service meanwhile."""
    return _doubled(_FIRST_RETRY_S, transport.attempt) if transport.blind else 0.0


def probe_due(transport: TransportState) -> datetime | None:
    """When to probe next; None: at once. Later each time the service fails what the probe found well.

    The probe asks for less than an observer does, so it can go on like that for days.
    """
    due = [transport.recheck_at] if transport.recheck_at is not None else []
    if transport.recoveries and transport.since is not None:
        due.append(transport.since + timedelta(seconds=_doubled(_FIRST_PROBE_PAUSE_S, transport.recoveries)))
    return max(due, default=None)


def needs_probe(transport: TransportState, target: Target, local_only: bool) -> bool:
    """Whether somebody has to find out when the service answers again."""
    if not _has_service(target, local_only):
        return False
    wanted = transport.mode is not TransportMode.LOCAL or transport.until_agreed
    return wanted and (transport.active is Transport.LOCAL or transport.blind)


def _end_comparing(transport: TransportState) -> None:
    transport.reconciling, transport.reconciling_since = False, None


def _name(transport: Transport) -> str:
    return transport.value.replace("_", " ")


def _record(
    transport: TransportState,
    before: str,
    now: datetime,
    *,
    reason: str | None = None,
    evidence: str = "",
    by: str | None = None,
    always: bool = False,
) -> None:
    after = word(transport)
    if after == before and not always:
        return
    told = transport.reason if reason is None else reason
    change = TransportChange(from_state=before, to=after, at=now, reason=told, evidence=evidence, by=by)
    transport.changes = _without_repetition([*transport.changes, change])[-MAX_CHANGES:]


def _without_repetition(changes: list[TransportChange]) -> list[TransportChange]:
    """Of the same two changes again and again only the last: a comparison in vain must not push out what began it."""
    last, earlier = changes[-2:], changes[-4:-2]
    same = [(one.from_state, one.to, one.reason) for one in last] == [
        (one.from_state, one.to, one.reason) for one in earlier
    ]
    return [*changes[:-4], *last] if same and not any(one.by for one in last + earlier) else changes


def _doubled(first_s: float, times: int) -> float:
    # Bounded before the power: a week of it would exceed what a float can hold.
    return min(_LONGEST_PAUSE_S, first_s * 2.0 ** min(max(0, times - 1), _MOST_DOUBLINGS))
