"""What a divergence is reported with: contradictory signals, and the logs that contradict each other."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from contract.reports import Report


class Head(Report):
    """How far a log reached, and the chain there."""

    line: int | None = None
    chain: str | None = None
    epoch: int | None = None


class DivergenceReport(Report):
    """Contradictory signals that persisted. `id` is stable, `since` is when it was opened (also as `openedAt`).

    `heads` holds the chains that contradict each other, by whose they are (`ingested`, `sprite_service`, `epoch 1`).
    `lastSameLine`: the highest line known to agree, where the first that differs could not be found.
    `resolution`: how it was closed: what an operator accepted, or `gone` when the contradiction went away by itself.
    """

    id: str = ""
    type: str
    detail: str
    since: datetime
    opened_at: datetime | None = None
    heads: dict[str, Head] = Field(default_factory=dict)
    first_differing_line: int | None = None
    last_same_line: int | None = None
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolution: str | None = None
    note: str | None = None
    next_command: str | None = None
