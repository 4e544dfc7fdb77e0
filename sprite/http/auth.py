"""The service token: its file, and the check of a request."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

_MAX_TOKEN_BYTES = 4096
_NEW_TOKEN_BYTES = 32
_SHORT_TOKEN_CHARS = 16


class TokenInvalid(Exception):
    """There is no usable token, so the service must not start. Never holds the token itself (D22)."""


def read_token_file(path: Path) -> str:
    """The token in `path`, without surrounding white space.

    Raises:
        TokenInvalid: Missing, unreadable, empty, or not one word of printable ASCII.
    """
    hint = f"write one with: ops-manager sprite serve --new-token {path}"
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_TOKEN_BYTES + 1)
    except FileNotFoundError:
        raise TokenInvalid(f"the token file {path} does not exist; {hint}") from None
    except OSError as error:
        raise TokenInvalid(f"the token file {path} cannot be read: {error.strerror}") from None
    token = content.decode("utf-8", errors="replace").strip()
    if not token:
        raise TokenInvalid(
            f"the token file {path} is empty, and the service does not start without a token: remove it; {hint}"
        )
    return check_token(token, where=f"the token file {path}")


def check_token(token: str, *, where: str) -> str:
    """Return a token that an HTTP header can carry; raises TokenInvalid, never showing it."""
    if not token or len(token) > _MAX_TOKEN_BYTES or not token.isascii() or not token.isprintable() or " " in token:
        raise TokenInvalid(f"{where} must hold one word of printable ASCII, at most {_MAX_TOKEN_BYTES} characters")
    return token


def token_warnings(path: Path, token: str) -> list[str]:
    """What is unwise about a token and its file, with the fix; empty when nothing is."""
    warnings = []
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        warnings.append(f"the token file {path} can be read by others (mode {mode:04o}): chmod 600 {path}")
    if len(token) < _SHORT_TOKEN_CHARS:
        warnings.append(f"the token has only {len(token)} characters: a guessable token lets anybody control the loops")
    return warnings


def write_new_token(path: Path) -> None:
    """Write a fresh random token to a new file of mode 0600.

    Raises:
        TokenInvalid: The file exists already (it is never overwritten) or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise TokenInvalid(
            f"{path} exists already and is not overwritten: use it with --token-file, or remove it first"
        ) from None
    except OSError as error:
        raise TokenInvalid(f"the token file {path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{secrets.token_urlsafe(_NEW_TOKEN_BYTES)}\n")


class Authenticator:
    """Checks the token of a request, in constant time.

    `Authorization: Bearer <token>` or `X-Ops-Token: <token>`: either alone is enough, whatever the other holds,
    because the edge in front of a private sprite uses `Authorization` for itself.
    """

    def __init__(self, token: str) -> None:
        self._token = check_token(token, where="the service token").encode("ascii")

    def accepts(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether one of the headers (names in lower case) carries the token. Looks at all of them, always."""
        accepted = False
        for name, value in headers:
            if name == b"x-ops-token":
                accepted |= hmac.compare_digest(value.strip(), self._token)
            elif name == b"authorization":
                scheme, _, given = value.strip().partition(b" ")
                right = hmac.compare_digest(given.strip(), self._token)
                accepted |= right and scheme.lower() == b"bearer"
        return accepted
