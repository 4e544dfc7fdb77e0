"""What an operator may ask of the supervisor itself: names of the messages, and what they carry."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictStr

from contract.intents import By, Note, Strict, read_message
from contract.observation import TransportMode


class Directive(StrEnum):
    """The names; each is a signal and an update."""

    SET_TRANSPORT = "SET_TRANSPORT"
    RESOLVE_DIVERGENCE = "RESOLVE_DIVERGENCE"
    RECONCILE = "RECONCILE"


class TransportMessage(Strict):
    """`SET_TRANSPORT`: use only that transport from now on, or (`auto`) whichever works."""

    mode: TransportMode
    by: By
    note: Note | None = None


class ResolutionMessage(Strict):
    """`RESOLVE_DIVERGENCE`: what is to be believed of the divergence `id`."""

    id: Annotated[StrictStr, Field(pattern=r"^d[1-9][0-9]{0,8}$")]
    accept: Literal["sprite_service", "local", "current"]
    by: By
    note: Note | None = None


class ReconcileMessage(Strict):
    """`RECONCILE`: compare the log with what was ingested, the whole of it with `fromStart`."""

    by: By
    note: Note | None = None
    from_start: StrictBool = False


DirectiveMessage = TransportMessage | ResolutionMessage | ReconcileMessage

EXAMPLES = {
    Directive.SET_TRANSPORT: '{"mode":"auto","by":"ana"}',
    Directive.RESOLVE_DIVERGENCE: '{"id":"d1","accept":"current","by":"ana"}',
    Directive.RECONCILE: '{"by":"ana"}',
}


def read_directive(directive: Directive, value: object) -> DirectiveMessage:
    """Validate the decoded JSON of a message; raises IntentInvalid naming what is wrong and an example."""
    match directive:
        case Directive.SET_TRANSPORT:
            return read_message(TransportMessage, value, example=EXAMPLES[directive])
        case Directive.RESOLVE_DIVERGENCE:
            return read_message(ResolutionMessage, value, example=EXAMPLES[directive])
        case Directive.RECONCILE:
            return read_message(ReconcileMessage, value, example=EXAMPLES[directive])
