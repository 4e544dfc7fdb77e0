"""What a target says: where its requests go, what authorises them, and whether the sprite that answers is the one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from activities.failures import Condition, NoCredential, NotConnected, clipped
from activities.secrets import SecretUnavailable, resolve_secret
from contract.errors import ErrorCode
from contract.observation import Contact, Target

HIDDEN = "[hidden]"
_SHORTEST_HIDDEN = 8
"""A shorter secret is a word like any other: hiding it protects nothing, and would change the loop ids and statuses by
which an answer is judged."""


@dataclass(frozen=True)
class Credentials:
    """The headers that authorise a request to a sprite service; never shown."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def hide(self, said: Any) -> Any:
        """What a service said, a text or parsed JSON, without the credentials that it was sent (D22)."""
        if isinstance(said, str):
            for secret in self._secrets():
                said = said.replace(secret, HIDDEN)
            return said
        if isinstance(said, list):
            return [self.hide(item) for item in said]
        return {self.hide(name): self.hide(item) for name, item in said.items()} if isinstance(said, dict) else said

    def _secrets(self) -> list[str]:
        # `Bearer abc` may come back whole or as `abc`; the longer one first, so that nothing of it is left.
        parts = [(value, value.partition(" ")[2]) for value in self.headers.values()]
        return sorted((part for pair in parts for part in pair if len(part) >= _SHORTEST_HIDDEN), key=len, reverse=True)


def credentials(target: Target) -> Credentials:
    """What authorises a request, read now; raises NoCredential for a secret that cannot be read here."""
    headers: dict[str, str] = {}
    try:
        if target.token:
            headers["X-Ops-Token"] = resolve_secret(target.token)
        if target.edge_auth:
            value = resolve_secret(target.edge_auth)
            headers["Authorization"] = value if " " in value else f"Bearer {value}"
    except SecretUnavailable as error:
        raise NoCredential(str(error)) from None
    return Credentials(headers)


def service_url(target: Target) -> str:
    """The service's base URL without a trailing slash; raises NotConnected when there is none that can be used."""
    if not target.service_url:
        raise NotConnected(f"no service URL is configured for sprite {target.sprite!r}")
    try:
        url = httpx.URL(target.service_url)
    except httpx.InvalidURL as error:
        raise NotConnected(f"the service URL is not valid: {clipped(str(error), 120)}") from None
    if url.userinfo:
        raise NotConnected("the service URL holds a user or password; name the secret by --edge-auth instead")
    return target.service_url.rstrip("/")


def shown_url(target: Target) -> str:
    """The service's scheme, host and port, as it may appear in messages."""
    try:
        url = httpx.URL(target.service_url or "")
    except httpx.InvalidURL:
        return "the service (its URL is not valid)"
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}" if url.host else "the service"


def check_identity(target: Target, sprite_id: str | None, repo_path: str | None) -> None:
    """Raise the WRONG_SPRITE condition unless the answer comes from the sprite that `target` is about."""
    check_sprite_id(target, sprite_id)
    if target.repo_path and repo_path and not _same_path(repo_path, target.repo_path):
        raise Condition(
            Contact.WRONG_SPRITE,
            f"sprite {target.sprite!r} has its repo at {target.repo_path}, but one at {repo_path} answered: "
            "wrong URL, host or queue. Nothing was done",
            code=ErrorCode.WRONG_SPRITE.value,
        )


def _same_path(one: str, other: str) -> bool:
    # A service may name its repo by a path with links in it; where the manager runs beside it, those can be followed.
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def check_sprite_id(target: Target, shown: str | None) -> None:
    """Raise the WRONG_SPRITE condition when the sprite shows another id than the target's.

    None shown is no mismatch, because a service of the base contract has none; unless the target's service has shown
    its own before: then another one, perhaps of a sprite with the same repo path, has taken its address.
    """
    if target.identified and not shown:
        raise Condition(
            Contact.WRONG_SPRITE,
            f"the service of sprite {target.sprite!r} has shown its spriteId {target.sprite_id} before, and the one "
            "that answered shows none: wrong URL, or another service at this address. Nothing was done",
            code=ErrorCode.WRONG_SPRITE.value,
        )
    if target.sprite_id and shown and shown != target.sprite_id:
        raise Condition(
            Contact.WRONG_SPRITE,
            f"sprite {target.sprite!r} is {target.sprite_id}, but {shown} answered: wrong URL, host or queue. "
            "Nothing was done",
            code=ErrorCode.WRONG_SPRITE.value,
            sprite_id=shown,
        )
