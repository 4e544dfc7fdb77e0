"""An entry of a timeline."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from contract.reports import Report

Kind = Literal[
    "event", "observation", "lifecycle", "transport", "blind", "divergence", "attention", "intent", "supervision"
]


class Entry(Report):
    """One thing that happened at `at`, by `clock`; `ends_at` for what lasted. `delay_s`: from there to `known_at`.

    `by` is what a message says of its sender, `sender` what Temporal noted of the client. `run_id` and `event_id` name
    the place in the workflow history where it is written, `line` that in the event log.
    """

    at: datetime
    clock: Literal["sprite", "manager"] = "manager"
    ends_at: datetime | None = None
    known_at: datetime | None = None
    delay_s: float | None = None
    kind: Kind
    what: str
    why: str = ""
    by: str = ""
    sender: str = ""
    line: int | None = None
    key: str | None = None
    run_id: str | None = None
    event_id: int | None = None


def transport_words(state: str) -> str:
    """A transport as one says it after `the`."""
    return "local transport" if state == "local" else state.replace("_", " ")
