"""`ops-manager supervise` and `ops-manager release`: begin and end supervision; the loop itself is never touched."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from temporalio.client import WorkflowExecutionStatus

from cli import terminal
from cli.errors import Refused, UsageProblem
from cli.exit_codes import ExitCode
from cli.names import LOOP, LoopName
from cli.places import Place, loops_there, place, place_options
from cli.resolve import resolve
from cli.session import Connection, Session, connection_options, with_session
from cli.starting import Started, start_supervisor
from cli.supervisors import Absence, Row, ask_status, describe
from cli.terminal import clean
from cli.webhook import webhook_options, webhook_target
from contract.envelopes import LoopStatus
from contract.identifiers import workflow_id
from contract.notices import WebhookTarget
from contract.observation import Target
from worker.bootstrap import ensure_search_attributes
from worker.connection import RPC_TIMEOUT

QUICK_RELEASE_S = 3.0
RELEASE_WAIT_S = 40.0
"""A running command (30 s at most) is finished before a supervisor leaves; usually it leaves at once."""


@click.command()
@place_options
@webhook_options
@connection_options
def supervise(
    connection: Connection,
    repo: Path | None,
    service_url: str | None,
    token: str | None,
    edge_auth: str | None,
    sprite: str | None,
    loops: tuple[str, ...],
    webhook: str | None,
    webhook_secret: str | None,
) -> ExitCode:
    """Begin to supervise loops of a sprite; a worker has to run already.

    Secrets are read where the worker runs. A sprite of the settings file is named by --sprite alone. Without --loop,
    the loops that are there are listed.
    """
    settings = connection.settings()
    told = webhook_target(settings, webhook, webhook_secret)
    where = place(
        settings,
        repo=repo,
        service_url=service_url,
        token=token,
        edge_auth=edge_auth,
        sprite=sprite,
        loops=loops,
    )
    if where is None:
        raise UsageProblem("Say what to supervise: --service-url URL --token REF, or --repo PATH; and --loop ID")
    if not where.loops:
        return asyncio.run(show_loops("supervise", where, connection))
    return with_session(connection, lambda session: _supervise(session, where, told))


async def show_loops(command: str, where: Place, connection: Connection) -> ExitCode:
    """List what is there, each with the command that supervises it."""
    from cli import paste

    found = await loops_there(where)
    if found is None:
        terminal.say("This service does not list its loops. Name one: --loop ID")
        return ExitCode.USAGE
    if not found:
        terminal.say(f"Sprite {where.sprite} has no loop yet. One that is going to be there can be named: --loop ID")
    for loop in found:
        typed = paste.ops_manager(command, *where.options(), "--loop", loop.loop_id, connection=connection.flags())
        terminal.data(f"{_listed(loop)}\n    {typed}")
    return ExitCode.DONE


def _listed(loop: LoopStatus) -> str:
    return f"{clean(loop.loop_id)}  {clean(loop.status) if loop.status else 'nothing written yet'}"


async def _supervise(session: Session, where: Place, webhook: WebhookTarget | None) -> ExitCode:
    await ensure_search_attributes(session.client)
    targets = [where.target(loop_id) for loop_id in where.loops]
    queue = session.settings.task_queue
    for target in targets:
        started = await start_supervisor(
            session.client, target, session.settings, local_only=where.local_only, webhook=webhook
        )
        terminal.data(started_sentence(session, target, started))
        if started.differs:
            raise Refused(difference_sentence(session, target, started))
    # The server remembers a poller for minutes after its end, so only an answer proves that a worker is there.
    first = Row(workflow_id(targets[0].sprite, targets[0].loop_id), "", queue, targets[0].sprite, targets[0].loop_id)
    answer = await ask_status(session.client, first)
    if isinstance(answer, Absence):
        terminal.warn(
            f"NO WORKER for {queue} ({answer.detail}): nothing is observed until one runs. Start one: "
            f"{session.command('worker')}"
        )
        return ExitCode.UNREACHABLE
    return ExitCode.DONE


def started_sentence(session: Session, target: Target, started: Started) -> str:
    """That a loop is supervised, since when that is, and where to look."""
    name = f"{target.sprite}/{target.loop_id}"
    word = "was supervised already" if started.already else "is supervised now"
    return f"{name} {word}. See: {session.command('status', name)}"


def difference_sentence(session: Session, target: Target, started: Started) -> str:
    """That the loop's supervisor reaches it in another way than was asked for, and what to do."""
    name = f"{target.sprite}/{target.loop_id}"
    return (
        f"{name} is supervised already, in another way: {'; '.join(started.differs)}. It stays as it is. Is it "
        "another sprite? Then give it a name: --sprite NAME. Else release it and come again: "
        f"{session.command('release', name)}"
    )


@click.command()
@click.argument("loop", type=LOOP)
@connection_options
def release(connection: Connection, loop: LoopName) -> ExitCode:
    """Stop supervising LOOP. The loop itself is not touched and runs on; its history is kept."""
    return with_session(connection, lambda session: _release(session, loop))


async def _release(session: Session, loop: LoopName) -> ExitCode:
    row = await resolve(session, loop)
    handle = session.client.get_workflow_handle(row.workflow_id)
    await handle.cancel(reason="released by ops-manager", rpc_timeout=RPC_TIMEOUT)
    patience_s = QUICK_RELEASE_S
    absence: Absence | None = None
    while not await _ended_within(session, row.workflow_id, patience_s):
        answer = await ask_status(session.client, row)
        absence = answer if isinstance(answer, Absence) else None
        if absence or patience_s == RELEASE_WAIT_S:
            why = absence.detail if absence else "it is finishing a command"
            terminal.data(
                f"release of {row.name}: queued, NOT executed: {why}. It is carried out as soon as that is over."
            )
            return ExitCode.UNREACHABLE
        patience_s = RELEASE_WAIT_S
    terminal.data(f"{row.name} is released. The loop itself was not touched.")
    return ExitCode.DONE


async def _ended_within(session: Session, workflow_id: str, seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + seconds
    while loop.time() < give_up_at:
        description = await describe(session.client, workflow_id)
        if description is None or description.status is not WorkflowExecutionStatus.RUNNING:
            return True
        await asyncio.sleep(0.2)
    return False
