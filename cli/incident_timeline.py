"""`ops-manager incident timeline`: what happened, a line for each thing."""

from __future__ import annotations

import asyncio
import json

import click

from cli import terminal
from cli.incident_sources import load
from cli.session import Connection, connection_options
from incidents import told
from incidents.timeline import Told
from incidents.timeline import timeline as build


@click.command()
@click.argument("archive")
@click.option("--all", "everything", is_flag=True, help="Tell of every observation, too.")
@click.option("-o", "--output", type=click.Choice(["text", "markdown", "json"]), default="text", show_default=True)
@connection_options
def timeline(connection: Connection, archive: str, everything: bool, output: str) -> None:
    """Print what happened in the order in which it happened: who, why, and how much later the manager knew.

    ARCHIVE is a file of `incident export`, which needs no server, or a LOOP.
    """
    incident = load(connection, archive)
    found = build(asyncio.run(Told.of(incident)))
    if not everything and output != "json":
        found.entries = told.without_observations(found.entries)
    if output == "json":
        terminal.data(json.dumps(found.model_dump(mode="json", by_alias=True), indent=1))
        return
    for line in told.markdown(found) if output == "markdown" else map(told.line, found.entries):
        terminal.data(line)
    if found.clocks.sentence:
        terminal.warn(found.clocks.sentence)
    for run_id, failure in found.do_not_replay.items():
        terminal.warn(f"Run {run_id} does not replay with this version: {terminal.clean(failure)}")
