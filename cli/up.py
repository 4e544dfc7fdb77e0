"""`ops-manager up`: an embedded Temporal and a worker in one process, supervising what is named."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path

import click

from activities.targets import credentials
from cli import paste, terminal
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.places import Place, loops_there, place, place_options, repo_doubt
from cli.serving import Stopped, configure_logging, unless_stopped
from cli.session import Connection, Session
from cli.starting import start_supervisor
from cli.supervise import difference_sentence, show_loops, started_sentence
from cli.webhook import check_webhook, webhook_flags, webhook_options, webhook_target
from contract.notices import WebhookTarget
from contract.observation import Target
from worker.bootstrap import ensure_search_attributes
from worker.connection import connect
from worker.embedded import EmbeddedTemporal
from worker.local import LocalSprite, known_secrets
from worker.run import run_worker
from worker.settings import Settings
from worker.workers import stop_on_signals


@click.command()
@place_options
@webhook_options
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the embedded Temporal.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings file (TOML).")
def up(
    repo: Path | None,
    service_url: str | None,
    token: str | None,
    edge_auth: str | None,
    sprite: str | None,
    loops: tuple[str, ...],
    webhook: str | None,
    webhook_secret: str | None,
    data: Path | None,
    config: Path | None,
) -> ExitCode:
    """Run an embedded Temporal and a worker until Ctrl-C, and supervise the named loops.

    With --service-url the loop is reached through its sprite's service, with --repo on this machine; with both,
    through the service, and on this machine when the service fails. Without --loop, what is there is listed. Without
    any of them, everything that was supervised before goes on.
    """
    connection = Connection(data=data, config=config)
    settings = connection.settings()
    where = place(
        settings,
        repo=repo,
        service_url=service_url,
        token=token,
        edge_auth=edge_auth,
        sprite=sprite,
        loops=loops,
    )
    told = webhook_target(settings, webhook, webhook_secret)
    if where and not where.loops:
        return asyncio.run(show_loops("up", where, connection))
    configure_logging()
    if where:
        # A reference that leads nowhere is a mistake of now; a token that is refused may be a matter of time.
        credentials(where.target("-"))
        if told:
            check_webhook(told)
    with _local(where, settings, told) as local:
        return asyncio.run(_Up(connection, settings, where, local, told).run())


def _local(where: Place | None, settings: Settings, webhook: WebhookTarget | None) -> LocalSprite | nullcontext[None]:
    if where is None or where.repo is None:
        return nullcontext()
    named = (where.token, where.edge_auth, webhook and webhook.url, webhook and webhook.secret)
    references = [reference for reference in named if reference]
    return LocalSprite.open(where.sprite, where.repo, secrets=known_secrets(settings, references))


class _Up:
    """One life of `up`."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        where: Place | None,
        local: LocalSprite | None,
        webhook: WebhookTarget | None = None,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._where = where
        self._local = local
        self._webhook = webhook

    async def run(self) -> ExitCode:
        """Start, supervise, and stay until a signal; then leave in order."""
        stop = stop_on_signals()
        try:
            async with AsyncExitStack() as stack:
                embedded = EmbeddedTemporal(self._settings.data_folder, on_event=terminal.say)
                # Entered in a task of its own, so that a signal can end a start that takes long.
                await unless_stopped(stack.enter_async_context(embedded), stop)
                client = await stack.enter_async_context(connect(embedded.target))
                session = Session(client, embedded.target, self._settings, self._connection)
                self._announce(session, embedded)
                if self._where:
                    await _warn_about(self._where)
                await self._work(session, stop)
        except Stopped:
            pass
        terminal.say(f"Stopped; the loops run on. To go on supervising: {self._again()}")
        return ExitCode.DONE

    def _announce(self, session: Session, embedded: EmbeddedTemporal) -> None:
        terminal.data(f"Temporal  {embedded.address}")
        terminal.data(f"UI        {embedded.ui}/namespaces/{session.target.namespace}/workflows")
        terminal.data(f"CLI       {session.temporal_command('workflow', 'list')}")

    async def _work(self, session: Session, stop: asyncio.Event) -> None:
        worker = asyncio.create_task(
            run_worker(
                session.client,
                self._settings,
                stop=stop,
                local=self._local,
                on_ready=lambda: terminal.say("worker ready"),
            )
        )
        starting = asyncio.create_task(self._start_loops(session))
        try:
            await asyncio.wait({worker, starting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            await worker
        finally:
            # A worker that is cancelled costs attempts; one that is told to stop does not.
            stop.set()
            starting.cancel()
            await asyncio.gather(worker, starting, return_exceptions=True)

    async def _start_loops(self, session: Session) -> None:
        # Supervisors are started for whichever worker polls first. Nothing here has to wait for this one.
        await ensure_search_attributes(session.client)
        for target in self._targets():
            await self._start(session, target)
        terminal.say("Ctrl-C ends the supervision; the loops run on, and the next `up` goes on where this one ended.")

    async def _start(self, session: Session, target: Target) -> None:
        assert self._where, "targets come from a place"  # noqa: S101 - for the type checker
        started = await start_supervisor(
            session.client, target, self._settings, local_only=self._where.local_only, webhook=self._webhook
        )
        terminal.data(started_sentence(session, target, started))
        if started.differs:
            terminal.warn(difference_sentence(session, target, started))

    def _targets(self) -> list[Target]:
        if self._where is None:
            return []
        sprite_id = self._local.reader.sprite_id if self._local else None
        return [self._where.target(loop_id, sprite_id=sprite_id) for loop_id in self._where.loops]

    def _again(self) -> str:
        place_again = self._where.options() if self._where else []
        loops = [part for loop_id in (self._where.loops if self._where else ()) for part in ("--loop", loop_id)]
        return paste.ops_manager(
            "up", *place_again, *loops, *webhook_flags(self._webhook), connection=self._connection.flags()
        )


async def _warn_about(where: Place) -> None:
    """Say what will not work yet; supervision begins all the same."""
    doubt = repo_doubt(where.repo) if where.repo else None
    if doubt:
        terminal.warn(doubt)
    try:
        found = await loops_there(where)
    except CommandError as error:
        terminal.warn(f"{error}. Supervision begins all the same and goes on trying.")
        return
    missing = [loop for loop in where.loops if found is not None and loop not in {known.loop_id for known in found}]
    for loop in missing:
        terminal.warn(f"Sprite {where.sprite} has no loop {loop!r} yet. It is supervised from its first run on.")
