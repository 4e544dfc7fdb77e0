"""Control inside the sprite: the allowlisted commands of the runtime, run once per idempotency key.

`SpriteController` is the face of this package, used by the HTTP service and in-process by the local transport.
"""

from sprite.control.binary import BINARY_VARIABLE, OBSERVED_VERSION, binary_version, find_binary
from sprite.control.command import COMMAND_TIMEOUT_S
from sprite.control.controller import SpriteController
from sprite.control.errors import (
    BinaryUnusable,
    BrokenBefore,
    Busy,
    InFlight,
    KeyReused,
    NothingToCancel,
    OtherLoopActive,
    PreconditionFailed,
    Stopping,
    StoreUnusable,
)

__all__ = [
    "BINARY_VARIABLE",
    "COMMAND_TIMEOUT_S",
    "OBSERVED_VERSION",
    "BinaryUnusable",
    "BrokenBefore",
    "Busy",
    "InFlight",
    "KeyReused",
    "NothingToCancel",
    "OtherLoopActive",
    "PreconditionFailed",
    "SpriteController",
    "Stopping",
    "StoreUnusable",
    "binary_version",
    "find_binary",
]
