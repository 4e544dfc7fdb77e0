"""`ops-manager worker`: a worker against a Temporal that somebody else runs."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import click

from cli import terminal
from cli.errors import UsageProblem
from cli.exit_codes import ExitCode
from cli.names import sprite_of_this_machine
from cli.serving import Stopped, configure_logging, unless_stopped
from cli.session import Connection, connection_options
from worker.connection import connect, resolve_target
from worker.local import LocalSprite, known_secrets
from worker.run import run_worker
from worker.settings import Settings
from worker.workers import stop_on_signals

KEEP_TRYING_S = 10.0
"""A Temporal that is being started beside this worker is there by then; a missing one should be heard of soon."""


@click.command()
@click.option(
    "--repo", metavar="PATH", type=click.Path(path_type=Path), help="Serve the local transport of this repo, too."
)
@click.option("--sprite", metavar="NAME", help="Name of the sprite that has --repo. Default: this hostname.")
@click.option("--local", "local_only", is_flag=True, help="Serve nothing but the local transport of --repo.")
@connection_options
def worker(connection: Connection, repo: Path | None, sprite: str | None, local_only: bool) -> ExitCode:
    """Run a worker until SIGTERM or Ctrl-C; it supervises whatever loops are or will be under supervision.

    With --local it is for inside the sprite: it only dials out to Temporal, and serves the queue of that sprite alone.

    Temporal is found as the temporal command finds it: TEMPORAL_* variables, then its configuration file.
    """
    if sprite and not repo:
        raise UsageProblem("--sprite names the sprite of --repo, which is missing")
    if local_only and not repo:
        raise UsageProblem("--local serves the local transport of --repo, which is missing")
    settings = connection.settings()
    configure_logging()
    if repo is None:
        return asyncio.run(_work(connection, settings, None, local_only=False))
    name = sprite or sprite_of_this_machine()
    with LocalSprite.open(name, repo, secrets=known_secrets(settings)) as local:
        return asyncio.run(_work(connection, settings, local, local_only=local_only))


async def _work(connection: Connection, settings: Settings, local: LocalSprite | None, *, local_only: bool) -> ExitCode:
    stop = stop_on_signals()
    target = resolve_target(
        settings.data_folder, address=connection.address, namespace=connection.namespace, profile=connection.profile
    )
    where = f"{target.address}, namespace {target.namespace}, task queue {settings.task_queue}"
    alone = "nothing but the " if local_only else ""
    serves = f", {alone}local transport of {local.sprite} ({local.repo})" if local else ""

    def ready() -> None:
        terminal.say(f"worker ready: {where}{serves}")

    try:
        async with AsyncExitStack() as stack:
            dialling = connect(target, keep_trying_s=KEEP_TRYING_S)
            # Entered in a task of its own, so that a signal can end it; the worker minds `stop` by itself.
            client = await unless_stopped(stack.enter_async_context(dialling), stop)
            await run_worker(client, settings, stop=stop, local=local, local_only=local_only, on_ready=ready)
    except Stopped:
        pass
    terminal.say("worker stopped; what it supervised goes on with the next worker")
    return ExitCode.DONE
