"""Comparing a log with what was ingested from it: models of the activities `reconcile` and `chains`, and what is told.

They land in workflow history, as those of `contract.observation`.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from contract.observation import ChainAt, Contact, CursorPosition, History, Target, Transport
from contract.reports import Report


class ReconcileInput(History):
    """Read the log through `transport` from `start` on and compare it with what was ingested up to `cursor`.

    `start` is a position whose chain is known; `checkpoints` are the known chains between it and the cursor.
    """

    target: Target
    transport: Transport
    cursor: CursorPosition
    start: CursorPosition = Field(default_factory=CursorPosition)
    checkpoints: list[ChainAt] = Field(default_factory=list)
    page_events: int = 1_000
    failure_limit: int = 3
    reconcile_max_s: float = 3600.0


class Agreement(StrEnum):
    """How a log compares with what was ingested from it."""

    AGREED = "agreed"
    DIFFERENT = "different"
    """Other lines, fewer lines, or another sprite."""
    UNVERIFIABLE = "unverifiable"
    """Nothing contradicts, but a service that shows neither chain nor bad lines cannot prove it."""
    CONDITION = "condition"
    """The other side said something else instead: `contact` says what."""
    UNREACHABLE = "unreachable"
    """The transport failed, or its worker was shut down: nothing is known."""


class ReconcileResult(History):
    """The result of `reconcile`: what was read (`from_line` excluded, `to_line` included), and how it compares.

    `line_count` and `chain` are those of the log that was read, `chain` at `to_line`. `same_up_to` is the highest
    line known to agree, `differs_at` the lowest known to differ; the first differing line is among those between.
    """

    agreement: Agreement
    from_line: int
    to_line: int
    chain: str | None = None
    line_count: int | None = None
    same_up_to: int | None = None
    differs_at: int | None = None
    contact: Contact = Contact.OK
    detail: str = ""


class ChainsInput(History):
    """Ask for the chain at each of `lines`; a service that shows none is read from `start` on."""

    target: Target
    transport: Transport
    start: CursorPosition
    lines: list[int]


class ChainsResult(History):
    """The result of `chains`: the chain at each line asked for that the log has. Not `complete`: nothing is known."""

    complete: bool
    chains: list[ChainAt] = Field(default_factory=list)
    line_count: int | None = None
    detail: str = ""


class Comparison(Report):
    """What a reconciliation found: the lines that were read (`fromLine` excluded), and both chains.

    `ingestedChain` is that at `ingestedLine`, up to which was compared, `chain` that of the other log at `toLine`.
    """

    agreement: Agreement
    transport: Transport
    epoch: int
    from_line: int
    to_line: int
    ingested_line: int = 0
    ingested_chain: str | None = None
    chain: str | None = None
    line_count: int | None = None
    first_differing_line: int | None = None
    detail: str = ""
