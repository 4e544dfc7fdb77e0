"""Which exceptions are no mistakes of ours, what they say to an operator, and the exit code of each."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from temporalio.service import RPCError, RPCStatusCode

from activities.failures import Condition, PeerTrouble
from activities.secrets import SecretUnavailable
from cli.errors import CommandError
from cli.exit_codes import ExitCode, for_contact
from cli.terminal import clean
from contract.errors import IdentifierInvalid, IntentInvalid, SecretReferenceInvalid
from sprite.errors import LoopNotFound, RepoInvalid, SpriteError
from worker.errors import WorkerError

_RPC = {
    RPCStatusCode.UNAUTHENTICATED: (ExitCode.AUTH, "Temporal refused the credentials"),
    RPCStatusCode.PERMISSION_DENIED: (ExitCode.AUTH, "Temporal does not allow this"),
    RPCStatusCode.UNAVAILABLE: (ExitCode.UNREACHABLE, "Temporal is not reachable any more"),
    RPCStatusCode.DEADLINE_EXCEEDED: (ExitCode.UNREACHABLE, "Temporal did not answer in time"),
    RPCStatusCode.CANCELLED: (ExitCode.UNREACHABLE, "Temporal did not answer in time"),
    RPCStatusCode.RESOURCE_EXHAUSTED: (ExitCode.UNREACHABLE, "Temporal is overloaded"),
    RPCStatusCode.NOT_FOUND: (ExitCode.NOT_FOUND, "Temporal does not know it"),
}

_OUTPUT_GONE = (errno.ENOSPC, errno.EBADF, errno.EIO)
"""What writing to stdout may end with; a reader that has gone away (EPIPE) is click's business."""


@dataclass(frozen=True)
class Ending:
    """What to print on stderr, and the code to end with."""

    message: str
    exit_code: int


def explain(error: Exception) -> Ending | None:
    """The ending for an expected exception; None for one that is a mistake of this program."""
    match error:
        case CommandError() | WorkerError():
            return Ending(str(error), int(error.exit_code))
        case IdentifierInvalid() | IntentInvalid() | SecretReferenceInvalid():
            return Ending(str(error), ExitCode.USAGE)
        case SecretUnavailable():
            return Ending(str(error), ExitCode.AUTH)
        case SpriteError():
            return Ending(error.message, _of_sprite(error))
        case Condition():
            return Ending(str(error), for_contact(error.contact))
        case PeerTrouble():
            return Ending(str(error), ExitCode.TRANSPORT)
        case RPCError() if error.status in _RPC:
            code, words = _RPC[error.status]
            return Ending(f"{words}: {clean(error.message)}", code)
        case OSError() if error.errno in _OUTPUT_GONE and error.filename is None:
            return Ending(f"The output cannot be written: {error.strerror}", ExitCode.UNEXPECTED)
        case _:
            return None


def _of_sprite(error: SpriteError) -> ExitCode:
    if isinstance(error, LoopNotFound):
        return ExitCode.NOT_FOUND
    return ExitCode.USAGE if isinstance(error, RepoInvalid) else ExitCode.TRANSPORT
