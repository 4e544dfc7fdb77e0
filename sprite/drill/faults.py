"""What can be done to an exchange with a sprite service, and how an answer looks after it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from contract.clock import format_utc


class Fault(StrEnum):
    """One thing that goes wrong. What is lost, late or garbled is never told as content; CONTENT is told as if true."""

    REFUSE = "refuse"
    """Nobody listens; connections that are open break."""
    BLACK_HOLE = "black-hole"
    """Connections are accepted and requests read; no answer ever comes, nothing is passed on."""
    DELAY = "delay"
    """Every answer comes late, but whole."""
    CUT = "cut"
    """What was asked is done; the connection ends in the middle of the answer."""
    SLOW_DRIP = "slow-drip"
    """The answer comes a few bytes at a time."""
    STATUS_500 = "status-500"
    """Something before the service answers 500, without the contract's error body; so do the next three."""
    STATUS_502 = "status-502"
    STATUS_503 = "status-503"
    STATUS_429 = "status-429"
    GARBAGE = "garbage"
    """What was asked is done; the answer is no JSON."""
    WRONG_SCHEMA = "wrong-schema"
    """The answer has a schemaVersion that nobody knows."""
    DUPLICATE_EVENTS = "duplicate-events"
    """The first event of a page comes twice."""
    REORDERED_EVENTS = "reordered-events"
    """The first two events of a page change places."""
    SKEWED_CLOCK = "skewed-clock"
    """The service's clock is off: `emittedAt` and `updatedAt` lie by `skew_s`."""
    SKEWED_EVENTS = "skewed-events"
    """The times of events lie by `skew_s`, those in their raw lines do not."""
    EDIT_LINE = "edit-line"
    """Line `line` says something else, in every answer and in the chain: a lie that contradicts itself nowhere."""
    DROP_LINE = "drop-line"
    """Line `line` is missing, and those behind it move up, in the same way."""

    @property
    def alters_content(self) -> bool:
        """Whether a log is shown that is not the sprite's."""
        return self in (Fault.EDIT_LINE, Fault.DROP_LINE)

    @property
    def http_status(self) -> int | None:
        """The status that is answered in the service's place."""
        return int(self.removeprefix("status-")) if self.startswith("status-") else None


@dataclass(frozen=True)
class Setting:
    """What the proxy does from now on; None as `fault`: nothing.

    `delay_s`: how late an answer is. `drip_s`: the pause between two drips. `skew_s`: how far clocks are off. `line`:
    the line that is altered. `paths`: the endpoints that are struck (empty: all of them).
    """

    fault: Fault | None = None
    delay_s: float = 2.0
    drip_s: float = 0.2
    skew_s: float = -7200.0
    line: int = 1
    paths: frozenset[str] = frozenset()

    def strikes(self, path: str) -> bool:
        """Whether an exchange with this endpoint is struck."""
        return self.fault is not None and (not self.paths or path in self.paths)


def garbled(content: bytes, setting: Setting) -> bytes:
    """The body of an answer after the fault; as it was where the fault is none of bodies, or finds nothing to do."""
    if setting.fault is Fault.GARBAGE:
        return content[: max(1, len(content) // 2)] + b"\x00\xff"
    change = _CHANGES.get(setting.fault) if setting.fault else None
    if change is None:
        return content
    try:
        body = json.loads(content)
    except ValueError:
        return content
    if not isinstance(body, dict):
        return content
    change(body, setting)
    return json.dumps(body).encode()


def _wrong_schema(body: dict[str, Any], _: Setting) -> None:
    body["schemaVersion"] = "v99"


def _duplicate_events(body: dict[str, Any], _: Setting) -> None:
    body.get("events", [])[:1] = body.get("events", [])[:1] * 2


def _reordered_events(body: dict[str, Any], _: Setting) -> None:
    body.get("events", [])[:2] = reversed(body.get("events", [])[:2])


def _skewed_clock(body: dict[str, Any], setting: Setting) -> None:
    for part in (body, *body.get("events", [])):
        _shift(part, "emittedAt", setting.skew_s)
    _shift(body.get("cursor", {}), "updatedAt", setting.skew_s)


def _skewed_events(body: dict[str, Any], setting: Setting) -> None:
    for envelope in body.get("events", []):
        _shift(envelope["event"], "timestamp", setting.skew_s)


def _shift(part: dict[str, Any], name: str, skew_s: float) -> None:
    try:
        moment = datetime.fromisoformat(part[name])
    except (KeyError, TypeError, ValueError):
        return
    part[name] = format_utc((moment + timedelta(seconds=skew_s)).astimezone(UTC))


_CHANGES: dict[Fault, Callable[[dict[str, Any], Setting], None]] = {
    Fault.WRONG_SCHEMA: _wrong_schema,
    Fault.DUPLICATE_EVENTS: _duplicate_events,
    Fault.REORDERED_EVENTS: _reordered_events,
    Fault.SKEWED_CLOCK: _skewed_clock,
    Fault.SKEWED_EVENTS: _skewed_events,
}
