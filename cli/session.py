"""One command's way to Temporal: settings, target and client, opened and closed in one place."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import psutil
from temporalio.client import Client, ClientConfig, Plugin
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import ConnectConfig, ServiceClient

from cli import paste
from worker.connection import Target, connect, resolve_target
from worker.settings import Settings, load_settings

SDK_LOGGER = "temporalio.core"
"""Where `worker.connection` sends what the SDK's core has to say."""

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Connection:
    """The options of a command that say which Temporal is meant; None where not given."""

    address: str | None = None
    namespace: str | None = None
    profile: str | None = None
    data: Path | None = None
    config: Path | None = None

    def flags(self) -> tuple[str, ...]:
        """The same options again, to be carried along by commands that are printed."""
        given = {
            "--address": self.address,
            "--namespace": self.namespace,
            "--profile": self.profile,
            "--data": self.data,
            "--config": self.config,
        }
        return tuple(part for name, value in given.items() if value is not None for part in (name, str(value)))

    def settings(self) -> Settings:
        """The settings in force; raises worker.errors.SettingsInvalid."""
        return load_settings(self.config, data_folder=self.data)


class PydanticConverter(Plugin):
    """The part of the project's plugin that a client needs: the payload converter of its models.

    The whole plugin imports the workflow and the SDK's worker, a quarter of a second for commands that run neither.
    """

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """See base class."""
        config["data_converter"] = pydantic_data_converter
        return config

    async def connect_service_client(
        self, config: ConnectConfig, next: Callable[[ConnectConfig], Awaitable[ServiceClient]]
    ) -> ServiceClient:
        """See base class."""
        return await next(config)


@dataclass(frozen=True)
class Session:
    """An open connection and what belongs to it."""

    client: Client
    target: Target
    settings: Settings
    connection: Connection

    def command(self, *arguments: str) -> str:
        """A command of ours that reaches the same Temporal, ready to paste."""
        return paste.ops_manager(*arguments, connection=self.connection.flags())

    def temporal_command(self, *arguments: str) -> str:
        """A command of the Temporal CLI that reaches the same namespace, ready to paste."""
        return paste.temporal(*arguments, address=self.target.address, namespace=self.target.namespace)

    def localized(self, text: str) -> str:
        """A text of the supervisor with the commands in it made ready to paste here."""
        return paste.localized(text, ours=self.connection.flags(), theirs=tuple(self.target.cli_flags.split()))


@asynccontextmanager
async def open_session(connection: Connection) -> AsyncIterator[Session]:
    """Connect as the options, the settings and Temporal's own configuration say.

    Raises worker.errors.WorkerError, whose message says what to do and which has the exit code.
    """
    # That the SDK tries a call again is told by the command, in its own words.
    logging.getLogger(SDK_LOGGER).setLevel(logging.ERROR)
    settings = connection.settings()
    target = resolve_target(
        settings.data_folder, address=connection.address, namespace=connection.namespace, profile=connection.profile
    )
    async with connect(target, plugins=[PydanticConverter()]) as client:
        yield Session(client, target, settings, connection)


def with_session(connection: Connection, work: Callable[[Session], Coroutine[Any, Any, _T]]) -> _T:
    """Run `work` on an open session, to its end."""

    async def whole() -> _T:
        async with open_session(connection) as session:
            return await work(session)

    return asyncio.run(whole())


def seconds_left(of_s: float, *, at_least_s: float) -> float:
    """What is left of `of_s` seconds since this process was started, but not less than `at_least_s`."""
    return max(at_least_s, of_s - (time.time() - psutil.Process().create_time()))


def connection_options(command: _F) -> _F:
    """Give a click command the options of `Connection`, handed on as one argument `connection`."""
    options = [
        click.option("--address", metavar="HOST:PORT", help="Temporal's address, before any configuration."),
        click.option("--namespace", metavar="NAME", help="Temporal's namespace."),
        click.option("--profile", metavar="NAME", help="Profile of Temporal's own client configuration."),
        click.option("--data", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the embedded Temporal."),
        click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings file (TOML)."),
    ]

    def gathered(**arguments: Any) -> Any:
        names = ("address", "namespace", "profile", "data", "config")
        connection = Connection(**{name: arguments.pop(name) for name in names})
        return command(connection=connection, **arguments)

    gathered.__name__, gathered.__doc__ = command.__name__, command.__doc__
    gathered.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for option in reversed(options):
        gathered = option(gathered)
    return gathered  # type: ignore[return-value]
