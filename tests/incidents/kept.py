"""The kept histories as runs, and as an incident."""

from datetime import UTC, datetime

from incidents.archive import Incident, manifest_of
from incidents.collect import Collected, Span
from incidents.history import Run
from incidents.log import EventLog
from incidents.verify import verify
from tests.replay.record import HISTORIES

CHAIN = ("continue-as-new-1", "continue-as-new-2", "continue-as-new-3")


def kept_runs(*names: str) -> list[Run]:
    """The runs of these recordings."""
    return [Run.from_json("loop:acme:demo", (HISTORIES / f"{name}.json").read_text()) for name in names]


def kept_incident(log: EventLog | None = None, names: tuple[str, ...] = CHAIN) -> Incident:
    """The incident of these recordings, by default the chain of runs."""
    runs = kept_runs(*names)
    made_at = datetime(2026, 11, 26, tzinfo=UTC)
    manifest = manifest_of(Collected(runs), span=Span(), made_at=made_at, versions={}, log=log, no_log="not at hand")
    return Incident(manifest, runs, log, [verify(runs, log=log, belief=None)])
