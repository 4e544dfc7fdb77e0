"""From options to the sprite that is meant: its name, how it is reached, and which loops it has."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import TypeAdapter, ValidationError

from cli import service
from cli.errors import UsageProblem
from cli.names import sprite_of_this_machine, sprite_of_url
from contract.envelopes import LoopStatus
from contract.errors import IdentifierInvalid
from contract.identifiers import check_loop_id, check_sprite_name
from contract.observation import Target
from contract.secrets import check_secret_reference
from worker.settings import ServiceUrl, Settings

_F = TypeVar("_F", bound=Callable[..., Any])
_URL: TypeAdapter[str] = TypeAdapter(ServiceUrl)


@dataclass(frozen=True)
class Place:
    """A sprite as the options name it; `loops` may be empty: then what is there is listed."""

    sprite: str
    service_url: str | None = None
    token: str | None = None
    edge_auth: str | None = None
    repo: Path | None = None
    loops: tuple[str, ...] = ()

    @property
    def local_only(self) -> bool:
        """There is no service at all."""
        return self.service_url is None

    def target(self, loop_id: str, *, sprite_id: str | None = None) -> Target:
        """What activities are told about one loop of it."""
        return Target(
            sprite=self.sprite,
            loop_id=loop_id,
            sprite_id=sprite_id,
            repo_path=str(self.repo) if self.repo else None,
            service_url=self.service_url,
            token=self.token,
            edge_auth=self.edge_auth,
        )

    def options(self) -> list[str]:
        """The options that name this place again."""
        given = {
            "--service-url": self.service_url,
            "--token": self.token,
            "--edge-auth": self.edge_auth,
            "--repo": _from_here(self.repo) if self.repo else None,
            "--sprite": self.sprite,
        }
        return [part for name, value in given.items() if value for part in (name, value)]


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)


def place_options(command: _F) -> _F:
    """Give a click command the options that `place` reads."""
    options = [
        click.option(
            "--repo", metavar="PATH", type=click.Path(path_type=Path), help="The loop's repo on this machine."
        ),
        click.option("--service-url", metavar="URL", help="The sprite service, such as https://acme.example.net."),
        click.option("--token", metavar="REF", help="The service's token by reference: env:NAME or file:PATH."),
        click.option(
            "--edge-auth", metavar="REF", help="What a private sprite's URL wants in Authorization, likewise."
        ),
        click.option("--sprite", metavar="NAME", help="Name of the sprite. Default: from the URL, or this hostname."),
        click.option(
            "--loop", "loops", metavar="ID", multiple=True, help="The loop; may be repeated. Without: list them."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def place(
    settings: Settings,
    *,
    repo: Path | None,
    service_url: str | None,
    token: str | None,
    edge_auth: str | None,
    sprite: str | None,
    loops: tuple[str, ...],
) -> Place | None:
    """The place that the options name, completed from the settings' table of that sprite; None when they name none.

    Raises UsageProblem; secrets are checked to be references, and not read.
    """
    known = settings.sprites.get(sprite) if sprite else None
    if known and repo is None and service_url is None:
        repo, service_url = known.repo_path, known.service_url
        token, edge_auth = token or known.token, edge_auth or known.edge_auth
    if repo is None and service_url is None:
        if sprite or loops or token or edge_auth:
            raise UsageProblem("Say how the sprite is reached: --service-url URL --token REF, or --repo PATH")
        return None
    if service_url is None and (token or edge_auth):
        raise UsageProblem("--token and --edge-auth are for a --service-url, which is missing")
    try:
        url = _checked_url(service_url) if service_url else None
        name = check_sprite_name(sprite) if sprite else sprite_of_url(url) if url else sprite_of_this_machine()
        return Place(
            sprite=name,
            service_url=url,
            token=checked_reference(token),
            edge_auth=checked_reference(edge_auth),
            repo=_resolved(repo) if repo else None,
            loops=tuple(dict.fromkeys(check_loop_id(loop) for loop in loops)),
        )
    except IdentifierInvalid as error:
        raise UsageProblem(str(error)) from None


def _checked_url(url: str) -> str:
    try:
        return _URL.validate_python(url)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise UsageProblem(f"--service-url {reason}") from None


def checked_reference(reference: str | None) -> str | None:
    """A path in a reference made absolute: whoever reads it stands elsewhere. Raises SecretReferenceInvalid."""
    if reference is None:
        return None
    kind, _, where = check_secret_reference(reference).partition(":")
    return f"file:{Path(where).expanduser().absolute()}" if kind == "file" else reference


def _resolved(repo: Path) -> Path:
    # The sprite names its repo without links; one that is not on this machine is left as it was typed.
    path = repo.expanduser().absolute()
    return path.resolve() if path.exists() else path


def repo_doubt(repo: Path) -> str | None:
    """What is unlikely to be meant about a repo on this machine; None when nothing is."""
    if (repo / ".superloop").is_dir():
        return None
    return f"{repo} has no .superloop folder yet: nothing to see until a loop is started there"


async def loops_there(where: Place) -> list[LoopStatus] | None:
    """The loops of a place; None where its service cannot say. Raises what asking it raises."""
    if where.service_url:
        return await service.loops(where.target("-"))
    from sprite.reader import SpriteReader

    assert where.repo, "a place has a service or a repo"  # noqa: S101 - for the type checker
    return [LoopStatus.model_validate(found) for found in SpriteReader(where.repo).loops()]
