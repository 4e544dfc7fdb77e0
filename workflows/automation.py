"""Intents that a program decided (`automated`): refused whenever the manager's picture of the loop is in doubt.

A human who decides has looked; a program acts on what it was told. Nothing here invents such intents.
"""

from __future__ import annotations

from contract.status import IntentRecord
from workflows.state import OPEN_STAGES, SupervisorState, is_intent
from workflows.wording import moment


def doubts(state: SupervisorState, record: IntentRecord | None = None) -> list[str]:
    """Why automated intents are refused now; `record` is the one that asks, and is not in its own way."""
    found = lasting_doubts(state)
    if not (state.at_head or state.condition is not None):
        found.append("the log is still being read")
    if state.condition is not None and not state.condition.is_empty:
        found.append(f"the sprite answers {state.condition.contact.value} instead of a snapshot")
    other = next((other for other in state.intents if other is not record and _in_flight(other)), None)
    if other is not None:
        found.append(f"{other.intent} by {other.by} is in flight")
    return found


def lasting_doubts(state: SupervisorState) -> list[str]:
    """Those of them that may last until somebody does something."""
    found = []
    transport_doubt = _transport_doubt(state)
    if transport_doubt is not None:
        found.append(transport_doubt)
    if state.divergences:
        told = ", ".join(f"{divergence.id} {divergence.type}" for divergence in state.divergences)
        found.append(f"contradictory signals are open ({told})")
    return found


def refusal(state: SupervisorState, record: IntentRecord) -> str | None:
    """Why this intent is refused although a human's would not be; None when it may go on."""
    found = doubts(state, record) if record.automated else []
    return f"automated intents are frozen: {'; '.join(found)}." if found else None


def _transport_doubt(state: SupervisorState) -> str | None:
    transport = state.transport
    if transport.blind:
        return f"the loop cannot be seen since {moment(transport.blind_since)}"
    if not transport.reconciled:
        return f"not reconciled with the sprite service since {moment(transport.unreconciled_since)}"
    return None


def _in_flight(record: IntentRecord) -> bool:
    return is_intent(record) and (record.stage in OPEN_STAGES or record.deadline is not None)
