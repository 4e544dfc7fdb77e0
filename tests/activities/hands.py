"""One way to send commands to a sprite, whichever it is, and what really happened there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.bundles import LocalActivities, ServiceActivities
from contract.intents import Intent
from contract.observation import ControlInput, ControlOutcome, LookUpInput, LookUpResult, Target, Transport
from tests.control.support import effects
from tests.peers import BasePeer

PENDING = {"status": "pending", "loop_id": "demo", "run_id": "R1", "iteration": 3, "requested_at": "t"}


@dataclass
class Hand:
    """One way to a sprite, and the runtime's count of what really happened."""

    kind: str
    bundle: ServiceActivities | LocalActivities
    target: Target
    repo: Path
    runtime: Path
    sprite_id: str | None = None
    peer: BasePeer | None = None

    async def send(self, intent: Intent = Intent.APPROVE_PENDING, **changes: Any) -> ControlOutcome:
        given: dict[str, Any] = {
            "target": self.target,
            "transport": Transport.LOCAL if self.kind == "local" else Transport.SPRITE_SERVICE,
            "intent": intent,
            "by": "ana",
            "key": "k-1",
            "trace_id": "trace-9",
        }
        asked = ControlInput(**{**given, **changes})
        return await ActivityEnvironment().run(self.bundle.execute_control, asked)

    async def look_up(self, key: str = "k-1", **changes: Any) -> LookUpResult:
        transport = Transport.LOCAL if self.kind == "local" else Transport.SPRITE_SERVICE
        asked = LookUpInput(**{"target": self.target, "transport": transport, "key": key, **changes})
        return await ActivityEnvironment().run(self.bundle.look_up_control, asked)

    @property
    def effects(self) -> list[str]:
        return effects(self.runtime)
