"""References to secrets. Only the reference ever crosses a boundary, never the value (D22)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from contract.errors import SecretReferenceInvalid

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+")


def check_secret_reference(reference: str) -> str:
    """Return `env:NAME` or `file:PATH`; raises SecretReferenceInvalid, which never repeats what was given."""
    if not _REFERENCE.fullmatch(reference):
        raise SecretReferenceInvalid(
            "a secret is named by reference, env:NAME or file:PATH; what was given is neither (and is not shown, "
            "because it may be the secret itself)"
        )
    return reference


def _validate(reference: str) -> str:
    try:
        return check_secret_reference(reference)
    except SecretReferenceInvalid as error:
        raise ValueError(str(error)) from None


SecretReference = Annotated[str, AfterValidator(_validate)]
"""A pydantic field type for `env:NAME` or `file:PATH`."""
