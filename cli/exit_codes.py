"""What the process says at its end: one table, and total functions into it.

A script decides by these numbers, so each means one thing: 4 is safe to send again once the reason is gone, 6 never
is without looking first, 9 means that nothing has been executed *yet*.
"""

from __future__ import annotations

from enum import IntEnum

from contract.observation import Contact
from contract.status import Attention, IntentStage


class ExitCode(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    """What was asked for has happened."""
    UNEXPECTED = 1
    """A mistake in this program; `OPS_MANAGER_DEBUG=1` shows the traceback."""
    USAGE = 2
    """The command line is wrong, ambiguous, or needs a terminal. Nothing was sent."""
    NOT_FOUND = 3
    """No such loop is supervised, or the sprite has no such loop."""
    REFUSED = 4
    """Refused by the operator, the manager, the sprite or the runtime. Nothing was done."""
    DIFFERENT = 5
    """Compared, and different: the log is not what was ingested, or the code not the one that ran."""
    AMBIGUOUS = 6
    """Done but not confirmed in time, or it cannot be known whether it was done. Look before repeating."""
    TRANSPORT = 7
    """The sprite cannot be reached, or does not speak the contract."""
    AUTH = 8
    """A credential was refused or cannot be read."""
    UNREACHABLE = 9
    """Temporal or a worker is unreachable: a request was accepted at most, not executed."""
    INTERRUPTED = 130
    """Ctrl-C. What had been sent goes on."""


_OF_STAGE: dict[IntentStage, ExitCode] = {
    IntentStage.RECEIVED: ExitCode.UNREACHABLE,
    IntentStage.ACCEPTED: ExitCode.UNREACHABLE,
    IntentStage.REJECTED: ExitCode.REFUSED,
    IntentStage.EXPIRED: ExitCode.REFUSED,
    IntentStage.EXECUTING: ExitCode.AMBIGUOUS,
    IntentStage.RECORDED: ExitCode.DONE,
    IntentStage.CONFIRMED: ExitCode.DONE,
    IntentStage.EXECUTED_UNCONFIRMED: ExitCode.DONE,
    IntentStage.AMBIGUOUS: ExitCode.AMBIGUOUS,
    # The runtime's approve writes nothing when it exits non-zero, and its cancel always exits 0 (superloop.md).
    IntentStage.FAILED_COMMAND: ExitCode.REFUSED,
}

_BLOCKED_BY: dict[Attention, ExitCode] = {
    Attention.UNAUTHORIZED: ExitCode.AUTH,
    Attention.BLIND: ExitCode.TRANSPORT,
    Attention.SPRITE_ERROR: ExitCode.TRANSPORT,
    Attention.WRONG_SPRITE: ExitCode.TRANSPORT,
    Attention.LOOP_MISSING: ExitCode.NOT_FOUND,
}

_OF_CONTACT: dict[Contact, ExitCode] = {
    Contact.OK: ExitCode.DONE,
    Contact.LOOP_NOT_FOUND: ExitCode.NOT_FOUND,
    Contact.NOT_READY: ExitCode.TRANSPORT,
    Contact.RUNTIME_ERROR: ExitCode.TRANSPORT,
    Contact.UNAUTHORIZED: ExitCode.AUTH,
    Contact.WRONG_SPRITE: ExitCode.TRANSPORT,
}


def for_intent(
    stage: IntentStage, wanted: IntentStage = IntentStage.RECORDED, attention: Attention = Attention.NONE
) -> ExitCode:
    """The code for an intent that was waited for until `wanted` and stands at `stage`.

    `attention` of the loop explains an intent that could not be executed, yet or in time: blind is 7, unauthorized 8.
    """
    if stage is IntentStage.RECORDED and wanted is IntentStage.CONFIRMED:
        return ExitCode.AMBIGUOUS
    if stage in (IntentStage.RECEIVED, IntentStage.ACCEPTED, IntentStage.EXPIRED):
        return _BLOCKED_BY.get(attention, _OF_STAGE[stage])
    return _OF_STAGE[stage]


def for_contact(contact: Contact) -> ExitCode:
    """The code for what a sprite answered."""
    return _OF_CONTACT[contact]
