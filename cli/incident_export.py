"""`ops-manager incident export`: everything there is about a loop's supervision, in one file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click

from cli import terminal
from cli.errors import Refused, UsageProblem
from cli.incident_sources import LogOptions, incident_of
from cli.moments import MOMENT
from cli.names import LOOP, LoopName
from cli.session import Connection, Session, connection_options, with_session
from contract.observation import Transport
from incidents.archive import Incident, write
from incidents.collect import Span


@dataclass(frozen=True)
class _Ask:
    loop: LoopName
    span: Span
    log: LogOptions
    output: Path


@click.command()
@click.argument("loop", type=LOOP)
@click.option("--since", type=MOMENT, help="Only runs that were there at this time or later (UTC).")
@click.option("--until", type=MOMENT, help="Only runs that were there at this time or earlier (UTC).")
@click.option("--transport", type=click.Choice([t.value for t in Transport]), help="How to read the event log.")
@click.option("--repo", metavar="DIR", type=click.Path(path_type=Path), help="The repo on this machine.")
@click.option("-o", "--output", required=True, metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@connection_options
def export(
    connection: Connection, loop: LoopName, since: datetime | None, until: datetime | None, transport: str | None,
    repo: Path | None, output: Path,
) -> None:  # fmt: skip
    """Write what is known about LOOP into FILE, a zip: histories, event log and their comparison.

    Works while the loop is supervised, and afterwards. Runs are taken whole, so that each can be replayed; histories
    that Temporal does not keep any more come from the data folder. Secrets are left out.
    """
    if since and until and since > until:
        raise UsageProblem("--since lies after --until")
    asked = _Ask(loop, Span(since, until), LogOptions(Transport(transport) if transport else None, repo), output)
    with_session(connection, lambda session: _export(session, asked))


async def _export(session: Session, asked: _Ask) -> None:
    incident = await incident_of(session, asked.loop, asked.span, asked.log)
    try:
        write(incident, asked.output)
    except OSError as error:
        raise Refused(f"{asked.output} cannot be written: {error.strerror}. Nothing was written") from None
    terminal.data(str(asked.output))
    _tell(incident)


def _tell(incident: Incident) -> None:
    manifest = incident.manifest
    events = sum(run.events for run in manifest.runs)
    first, last = manifest.runs[0].started_at, manifest.runs[-1].last_event_at
    terminal.say(
        f"{manifest.sprite}/{manifest.loop_id}: runs {len(manifest.runs)}, history events {events}, "
        f"{first:%Y-%m-%d %H:%M:%SZ} to {last:%Y-%m-%d %H:%M:%SZ}."
    )
    for report in incident.verified:
        terminal.say(terminal.clean(report.sentence))
    if manifest.missing:
        terminal.warn(
            "Lost, because neither Temporal nor the data folder has them, are the runs " + ", ".join(manifest.missing)
        )
    if manifest.log is None:
        terminal.warn(f"Without the event log: {terminal.clean(manifest.log_missing)}")
