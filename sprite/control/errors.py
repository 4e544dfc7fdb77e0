"""Refusals of control: nothing was done, and the message says so.

SpriteError
├── PreconditionFailed         `expect` does not hold, or the command cannot do what it is meant to
├── NothingToCancel            no run of the loop lives, and none crashed
├── OtherLoopActive            a cancel would hit another loop or another repo
├── KeyReused                  the idempotency key stands for another request; a retry cannot help
├── InFlight                   the first request under the key has not ended; ask again
├── Busy                       others have to have their turn first; a retry helps
├── Stopping                   this process begins nothing any more; a retry helps once it runs again
├── StoreUnusable              the record of a key cannot be read or written; the message says what helps
│   └── StoreBusy              others kept it to themselves for too long; a retry helps
├── BinaryUnusable             the runtime's program cannot be started; mend the configuration
└── BrokenBefore               something unforeseen failed before the command; the log has the details
"""

from __future__ import annotations

from contract.errors import ErrorCode
from sprite.errors import NotReady, SpriteError


class PreconditionFailed(SpriteError):
    """`fields["current"]` holds the values as they are."""

    code = ErrorCode.PRECONDITION_FAILED


class NothingToCancel(SpriteError):
    """Neither a live nor a crashed run of the loop; `fields["current"]` says what there is."""

    code = ErrorCode.NOTHING_TO_CANCEL


class OtherLoopActive(SpriteError):
    """The runtime's cancel would end something else; `fields["current"]` says what (D17)."""

    code = ErrorCode.OTHER_LOOP_ACTIVE


class KeyReused(SpriteError):
    """One key, two different requests; `fields["first"]` tells of the first (D12)."""

    code = ErrorCode.KEY_REUSED


class InFlight(SpriteError):
    """The command of the first request may still run (D12)."""

    code = ErrorCode.IN_FLIGHT


class Busy(NotReady):
    """Too many commands at once; this one was not started."""


class Stopping(NotReady):
    """The service is being stopped; a command that had not begun by then was not started."""


class StoreUnusable(SpriteError):
    """A record cannot be read or written, so a command must not be run."""

    code = ErrorCode.RUNTIME_ERROR


class StoreBusy(StoreUnusable):
    """The records are there, and others are writing them."""

    code = ErrorCode.NOT_READY


class BinaryUnusable(SpriteError):
    """The runtime's program is missing, not executable or does not answer."""

    code = ErrorCode.RUNTIME_ERROR


class BrokenBefore(SpriteError):
    """A mistake or a failure nobody foresaw, before the command was started."""

    code = ErrorCode.RUNTIME_ERROR
