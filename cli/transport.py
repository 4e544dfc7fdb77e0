"""`ops-manager transport LOOP MODE`: use only one transport, or whichever works."""

from __future__ import annotations

import click

from cli.directing import direct, tell, who, who_options
from cli.exit_codes import ExitCode
from cli.names import LOOP, LoopName
from cli.session import Connection, Session, connection_options, with_session
from contract.directives import Directive
from contract.observation import TransportMode


@click.command()
@click.argument("loop", type=LOOP)
@click.argument("mode", type=click.Choice([mode.value for mode in TransportMode]))
@who_options
@connection_options
def transport(connection: Connection, loop: LoopName, mode: str, by: str | None, note: str | None) -> ExitCode:
    """Pin LOOP to a transport, or (auto) let the manager use whichever works.

    A service that is not reconciled is compared with what was ingested before it is used.
    """
    body = {"mode": mode, "by": who(by), "note": note}

    async def work(session: Session) -> ExitCode:
        return tell(session, await direct(session, loop, Directive.SET_TRANSPORT, body))

    return with_session(connection, work)
