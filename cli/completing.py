"""Names for the shell to complete: the loops that are supervised now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from click.shell_completion import CompletionItem

from cli.session import Connection, open_session
from cli.supervisors import running_supervisors

_PATIENCE_S = 2.0
"""A person waits with a finger on the key."""


def loop_names(begun: str, options: Mapping[str, Any]) -> list[CompletionItem]:
    """The supervised loops that `begun` may become; none where Temporal does not answer at once.

    `options` are those already typed, which say which Temporal is meant.
    """
    named = ("address", "namespace", "profile", "data", "config")
    connection = Connection(**{name: options.get(name) for name in named})
    try:
        known = asyncio.run(_supervised(connection))
    except Exception:  # noqa: BLE001 - a key press is no place to tell of anything
        return []
    return [CompletionItem(name) for name in matching(begun, known)]


def matching(begun: str, known: Iterable[str]) -> list[str]:
    """Of the `known` names (`sprite/loop`), those that begin so, or whose loop does."""
    return sorted(name for name in known if name.startswith(begun) or name.partition("/")[2].startswith(begun))


async def _supervised(connection: Connection) -> list[str]:
    async with asyncio.timeout(_PATIENCE_S), open_session(connection) as session:
        return [row.name for row in await running_supervisors(session.client)]
