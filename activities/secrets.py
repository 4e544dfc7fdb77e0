"""Secrets by reference: `env:NAME` or `file:PATH`, read at the moment of use.

Nothing is cached, so a rotated token works with the next request and without a restart. No message holds a value (D22).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from contract.errors import SecretReferenceInvalid
from contract.secrets import check_secret_reference

_MAX_SECRET_BYTES = 16 * 1024
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*")
"""Visible ASCII with single spaces inside: what may stand in a header. Anything else would be shown by the HTTP
library's own error message, value and all."""


class SecretUnavailable(Exception):
    """A referenced secret cannot be used here; `str()` names the reference and what is wrong, never the value."""


def resolve_secret(reference: str) -> str:
    """The secret that `reference` names, without surrounding white space.

    Raises SecretUnavailable when the reference is malformed, the variable or file is missing, empty or too large, or
    the value could not stand in an HTTP header.
    """
    try:
        kind, _, where = check_secret_reference(reference).partition(":")
    except SecretReferenceInvalid as error:
        raise SecretUnavailable(str(error)) from None
    value = (_from_environment(where) if kind == "env" else _from_file(where)).strip()
    if not value:
        raise SecretUnavailable(f"the secret {reference} is empty")
    if not _HEADER_SAFE.fullmatch(value):
        raise SecretUnavailable(
            f"the secret {reference} holds characters that cannot stand in an HTTP header: "
            "it must be one line of plain ASCII"
        )
    return value


def _from_environment(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise SecretUnavailable(
            f"the environment variable {name} is not set where this worker runs (reference env:{name})"
        ) from None


def _from_file(path: str) -> str:
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(_MAX_SECRET_BYTES + 1)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no home folder"
        raise SecretUnavailable(f"the secret file {path} cannot be read where this worker runs: {reason}") from None
    if len(content) > _MAX_SECRET_BYTES:
        raise SecretUnavailable(f"the secret file {path} is larger than {_MAX_SECRET_BYTES} bytes: it holds no token")
    return content.decode("utf-8", "replace")
