"""What the ledger keeps of a control request, and what makes two requests the same."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum

from pydantic import BaseModel, Field

from contract.control import CommandAnswer, ControlRequest
from contract.intents import Intent
from sprite.control.evidence import Baseline


class State(StrEnum):
    """How far a claimed request came.

    claimed ─► begun ─► executed | ambiguous
       └─────────┴────► failed      (before any effect: the key may be used again)

    What is found to have done nothing, and waits for its turn again, goes back from begun to claimed.
    """

    CLAIMED = "claimed"
    """It waits for its turn; nothing has been done."""
    BEGUN = "begun"
    """Durable before the command is started: from here on it may have had its effect."""
    EXECUTED = "executed"
    """The command ended and its result is known; also when it said no."""
    FAILED = "failed"
    """It ended before any effect."""
    AMBIGUOUS = "ambiguous"
    """It was begun, and nobody can know what it did. It is never run again."""


SETTLED = frozenset({State.EXECUTED, State.AMBIGUOUS})
"""States in which a repetition of the key gets what is stored."""


class ControlRecord(BaseModel):
    """What is known of a request that was begun. `answer` is what was answered first, upgraded by later evidence."""

    loop_id: str
    key: str
    fingerprint: str
    state: State
    answer: CommandAnswer
    baseline: Baseline = Field(default_factory=Baseline)

    @property
    def intent(self) -> Intent:
        """What was asked for."""
        return Intent.parse(self.answer.result.intent)

    @property
    def awaits_confirmation(self) -> bool:
        """Whether the command did its part and its effect has not been seen yet."""
        result = self.answer.result
        return self.state is State.EXECUTED and result.exit_code == 0 and not result.confirmed


def fingerprint(sprite_id: str, request: ControlRequest) -> str:
    """What a key stands for: sprite, loop, intent and preconditions. Who asks and why may differ in a repetition."""
    expect = request.expect.model_dump(mode="json", exclude_none=True) if request.expect else {}
    what = [sprite_id, request.loop_id, request.intent.value, expect]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
