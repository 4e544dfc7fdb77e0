"""The event log of a sprite as it was read for an investigation: every line, its hash, and the chain over them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from contract.chain import GENESIS, event_name, extend, line_hash
from contract.clock import parse_utc
from contract.errors import EventLineInvalid

SHOWN_HASH_CHARS = 16
"""What history keeps of a line's hash, in hex digits."""


class LoggedLine(BaseModel):
    """One line: the parsed event, or for one that is no event the reason and its hash (hex), if that was shown.

    `hidden`: something in it was a secret and was taken out; `h` is the hash of the line as it was.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    line: int
    raw: dict[str, Any] | None = None
    reason: str | None = None
    h: str | None = None
    hidden: bool = False

    @cached_property
    def hash(self) -> bytes | None:
        """The hash of the line, computed here where its event is at hand."""
        if self.raw is not None and not self.hidden:
            try:
                return line_hash(self.raw)
            except EventLineInvalid:
                return None
        try:
            return bytes.fromhex(self.h) if self.h else None
        except ValueError:
            return None

    @property
    def shown_hash(self) -> str | None:
        """The part of its hash that history keeps."""
        return self.hash.hex()[:SHOWN_HASH_CHARS] if self.hash is not None else None

    @property
    def name(self) -> str:
        """The event's name, or what the line is instead."""
        return (event_name(self.raw) if self.raw is not None else None) or "no event"

    @property
    def happened_at(self) -> datetime | None:
        """The event's own timestamp: the sprite's clock."""
        stamp = self.raw.get("timestamp") if self.raw is not None else None
        return parse_utc(stamp) if isinstance(stamp, str) else None


class EventLog(BaseModel):
    """The log as read through `transport` at `read_at`: its first `line_count` lines; `trouble` says why not more."""

    model_config = ConfigDict(extra="ignore")

    transport: str
    read_at: datetime
    line_count: int = 0
    trouble: str = ""
    lines: list[LoggedLine] = Field(default_factory=list)

    @cached_property
    def by_number(self) -> dict[int, LoggedLine]:
        """The lines by their number."""
        return {line.line: line for line in self.lines}

    @cached_property
    def chains(self) -> list[str | None]:
        """The chain (hex) after each line, from 0 on; None from the first line whose hash is not known."""
        found: list[str | None] = [GENESIS.hex()]
        chain: bytes | None = GENESIS
        for number in range(1, self.line_count + 1):
            line = self.by_number.get(number)
            h = line.hash if line else None
            chain = extend(chain, h) if chain is not None and h is not None else None
            found.append(chain.hex() if chain is not None else None)
        return found

    def chain_at(self, line: int) -> str | None:
        """The chain after `line`; None beyond the end, or where it cannot be computed."""
        return self.chains[line] if 0 <= line < len(self.chains) else None


def dump_lines(lines: Iterable[LoggedLine]) -> str:
    """Lines as JSON, one a line."""
    return "".join(line.model_dump_json(exclude_none=True) + "\n" for line in lines)


def load_lines(text: str) -> list[LoggedLine]:
    """What `dump_lines` wrote; raises pydantic's ValidationError."""
    return [LoggedLine.model_validate_json(line) for line in text.split("\n") if line]
