"""`ops-manager incident report`: one page for somebody who was not there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from cli import terminal
from cli.errors import Refused
from cli.incident_sources import load
from cli.session import Connection, connection_options
from incidents.report import html, markdown
from incidents.timeline import Told


@click.command()
@click.argument("archive")
@click.option("-o", "--output", required=True, metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--markdown", "as_markdown", is_flag=True, help="Text for a ticket instead of a page.")
@connection_options
def report(connection: Connection, archive: str, output: Path, as_markdown: bool) -> None:
    """Write one page into FILE that says and shows what happened; it needs no network and no other file.

    ARCHIVE is a file of `incident export`, which needs no server, or a LOOP.
    """
    incident = load(connection, archive)
    told = asyncio.run(Told.of(incident))
    page = markdown(told) if as_markdown else html(told)
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise Refused(f"{output} cannot be written: {error.strerror}") from None
    terminal.data(str(output))
