"""Where in a control request its service is killed, by name; and what becomes of the command that it leaves behind."""

from dataclasses import dataclass

from contract.intents import Intent

APPROVE, REJECT, CANCEL = Intent.APPROVE_PENDING, Intent.REJECT_PENDING, Intent.CANCEL_LOOP


@dataclass(frozen=True)
class Point:
    """At `step` of the service; else while the runtime is held after so many `effects` of its command.

    The command then goes on as an orphan, or is killed as well.
    """

    name: str
    step: str | None = None
    effects: dict[Intent, int] | None = None
    orphan_goes_on: bool = True

    def __str__(self) -> str:
        return self.name


def _held(name: str, decision: int, cancel: int) -> list[Point]:
    effects = {APPROVE: decision, REJECT: decision, CANCEL: cancel}
    return [
        Point(f"{name}, the command goes on", effects=effects),
        Point(f"{name}, the command is killed", effects=effects, orphan_goes_on=False),
    ]


POINTS = (
    Point("before the claim", "arrived"),
    Point("after the claim", "claimed"),
    Point("in its turn", "in_turn"),
    Point("after the beginning is on disk", "begun"),
    Point("before the spawn", "audited"),
    *_held("after the spawn", 0, 0),
    *_held("before the effect", 1, 0),
    *_held("after the effect", 2, 1),
    *_held("between two records of the effect", 3, 2),
    Point("before the result", "ended"),
    Point("after the result", "recorded"),
    Point("before the reply", "answered"),
)
