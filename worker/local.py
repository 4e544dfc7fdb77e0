"""The local transport of one sprite: its repo on this machine, read and controlled in-process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from activities.secrets import SecretUnavailable, resolve_secret
from contract.errors import IdentifierInvalid
from contract.identifiers import check_sprite_name
from contract.observation import Transport
from sprite.control import SpriteController, binary_version, find_binary
from sprite.errors import SpriteError
from sprite.reader import SpriteReader
from worker.errors import SettingsInvalid
from worker.settings import Settings


@dataclass(frozen=True)
class LocalSprite:
    """A sprite's name with the reader and the controller of its repo. Closing it waits for running commands."""

    sprite: str
    reader: SpriteReader
    controller: SpriteController

    @classmethod
    def open(
        cls,
        sprite: str,
        repo: Path,
        *,
        binary: str | None = None,
        state_dir: Path | None = None,
        secrets: Iterable[str] = (),
    ) -> Self:
        """The sprite `sprite` in `repo`, controlled by `binary` (default: SUPERLOOP_BIN, else the PATH).

        `secrets` are values that the runtime's commands must not inherit in their environment (`known_secrets`).
        Raises SettingsInvalid when the name, the repo or the program cannot be used; the program is tried once.
        """
        try:
            name = check_sprite_name(sprite)
            reader = SpriteReader(repo, state_dir=state_dir)
            program = find_binary(binary)
            binary_version(program)
        except (IdentifierInvalid, SpriteError) as error:
            raise SettingsInvalid(f"sprite {sprite!r} cannot be served from {repo}: {error}") from None
        controller = SpriteController(
            reader, program, state_dir=state_dir, transport=Transport.LOCAL.value, secrets=tuple(secrets)
        )
        return cls(name, reader, controller)

    @property
    def repo(self) -> Path:
        """The absolute path of the repo."""
        return self.reader.repo

    def close(self) -> None:
        """Wait until running commands have ended and are recorded."""
        self.controller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def known_secrets(
    settings: Settings, references: Iterable[str] = (), environment: Mapping[str, str] = os.environ
) -> list[str]:
    """The values of all secrets that this process was told of, so that they can be kept from its children (D22).

    A reference that leads nowhere here is left out: whoever needs it says so.
    """
    sprites = settings.sprites.values()
    named = {ref for sprite in sprites for ref in (sprite.token, sprite.edge_auth) if ref} | set(references)
    if settings.webhook:
        named |= {ref for ref in (settings.webhook.url, settings.webhook.secret) if ref}
    values = []
    for reference in sorted(named):
        try:
            values.append(resolve_secret(reference))
        except SecretUnavailable:
            continue
    api_key = environment.get("TEMPORAL_API_KEY")
    return [*values, api_key] if api_key else values
