"""`ops-manager verify`: does the event log still say what the supervisor was told?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from cli import terminal
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.incident_sources import LogOptions, histories, log_of, target_of
from cli.names import LOOP, LoopName
from cli.session import Connection, Session, connection_options, with_session
from contract.observation import Transport
from contract.secrets import check_secret_reference
from incidents.collect import newest_chain
from incidents.states import last_state
from incidents.told import counted
from incidents.verify import EpochReport, VerifyReport
from incidents.verify import verify as compare


@click.command()
@click.argument("loop", type=LOOP)
@click.option("--transport", type=click.Choice([t.value for t in Transport]), help="How to read the log.")
@click.option("--repo", metavar="DIR", type=click.Path(path_type=Path), help="The repo on this machine, for local.")
@click.option("--token", metavar="REF", help="The service's token as this machine knows it: env:NAME or file:PATH.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@connection_options
def verify(
    connection: Connection, loop: LoopName, transport: str | None, repo: Path | None, token: str | None, output: str
) -> int:
    """Compare the event log of LOOP with what its supervisor was told and believes.

    The chain over the log is computed from its lines as they are now, and held to every line hash and chain in the
    histories of the supervisor. Exit code 5: they differ.
    """
    options = LogOptions(
        transport=Transport(transport) if transport else (Transport.LOCAL if repo else None),
        repo=repo,
        token=check_secret_reference(token) if token else None,
    )

    async def work(session: Session) -> int:
        chain = newest_chain((await histories(session, loop)).runs)
        state = await last_state(chain)
        believed = state.report if state else None
        log, trouble = None, None
        try:
            log = await log_of(target_of(chain, believed, options), options)
        except CommandError as error:
            trouble = error  # what the histories tell by themselves is told all the same
        report = compare(chain, log=log, belief=believed.cursor if believed else None)
        if output == "json":
            terminal.data(json.dumps(report.model_dump(mode="json", by_alias=True), indent=2))
        else:
            show(report)
        if trouble is not None:
            terminal.warn(terminal.clean(trouble))
        return trouble.exit_code if trouble and not report.differences else exit_code(report)

    return with_session(connection, work)


def exit_code(report: VerifyReport) -> ExitCode:
    """0 when everything agrees, DIFFERENT when something differs, TRANSPORT when the log was not read whole."""
    if report.agreed is None:
        return ExitCode.TRANSPORT
    return ExitCode.DONE if report.agreed else ExitCode.DIFFERENT


def show(report: VerifyReport) -> None:
    """Print what was compared and what differs."""
    terminal.data(f"{'result':<12}{terminal.clean(report.sentence)}")
    dropped = f", {report.dropped} dropped" if report.dropped else ""
    runs = counted(report.runs, "run")
    terminal.data(f"{'history':<12}{runs}, {counted(report.observations, 'observation')}{dropped}")
    for epoch in report.epochs:
        terminal.data(f"{'epoch ' + str(epoch.epoch):<12}{_told(epoch)}")
    if report.log:
        through = report.log.transport.replace("_", " ")
        chain = report.log.chain or "not computable"
        terminal.data(f"{'log':<12}{report.log.lines} lines through the {through}, chain {chain}")
    for difference in report.differences:
        history, log = difference.history or "-", difference.log or "-"
        where = f"run {difference.run_id} event {difference.event_id}" if difference.run_id else ""
        terminal.data(
            f"{'differs':<12}line {difference.line}: {terminal.clean(difference.what)}; "
            f"history {history}, log {log} {where}".rstrip()
        )
    if report.more_differences:
        terminal.data(f"{'':<12}and {report.more_differences} more")


def _told(epoch: EpochReport) -> str:
    known = f" (known from line {epoch.from_line + 1} on)" if epoch.from_line else ""
    gaps = ", ".join(f"{first}-{last}" for first, last in epoch.gaps) or "none"
    said = f"{epoch.lines} lines{known}, chain {epoch.chain or 'none'}, gaps: {gaps}, duplicates: {epoch.brought_again}"
    if epoch.quarantined:
        said += f", {epoch.quarantined} no events"
    return said + (f", unverifiable from line {epoch.unverifiable_from}" if epoch.unverifiable_from else "")
