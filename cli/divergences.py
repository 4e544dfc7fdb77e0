"""`ops-manager resolve LOOP ID --accept WHAT`: close a divergence by saying what is to be believed."""

from __future__ import annotations

import click

from cli.directing import direct, tell, who, who_options
from cli.exit_codes import ExitCode
from cli.names import LOOP, LoopName
from cli.session import Connection, Session, connection_options, with_session
from contract.directives import Directive


@click.command()
@click.argument("loop", type=LOOP)
@click.argument("divergence", metavar="ID")
@click.option(
    "--accept",
    type=click.Choice(["sprite_service", "local", "current"]),
    required=True,
    help="The service's log, read whole; what local shows, and nothing else used until they agree; or what is believed "
    "now.",
)
@who_options
@connection_options
def resolve(
    connection: Connection, loop: LoopName, divergence: str, accept: str, by: str | None, note: str | None
) -> ExitCode:
    """Close the divergence ID of LOOP (`status` shows it) by saying what is to be believed."""
    body = {"id": divergence, "accept": accept, "by": who(by), "note": note}

    async def work(session: Session) -> ExitCode:
        return tell(session, await direct(session, loop, Directive.RESOLVE_DIVERGENCE, body))

    return with_session(connection, work)
