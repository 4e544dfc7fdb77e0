"""How a person names a loop, and which supervisor that is.

`sprite/loop` always works, `loop` where it is unique, and the workflow id as Temporal's UI shows it. A loop id holds
no slash, so the three cannot be confused.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import click
from click.shell_completion import CompletionItem

from contract.errors import IdentifierInvalid
from contract.identifiers import check_loop_id, check_sprite_name, split_workflow_id, workflow_id

_MAX_SPRITE_CHARS = 63
_SHOWN_NAMES = 5


@dataclass(frozen=True)
class LoopName:
    """A loop as it was named: without a sprite, any sprite's loop of that id may be meant."""

    loop_id: str
    sprite: str | None = None

    def __str__(self) -> str:
        return f"{self.sprite}/{self.loop_id}" if self.sprite else self.loop_id

    @property
    def workflow_id(self) -> str | None:
        """The supervisor's workflow id, when the sprite was named."""
        return workflow_id(self.sprite, self.loop_id) if self.sprite else None


def parse_loop_name(text: str) -> LoopName:
    """The loop that `text` names; raises IdentifierInvalid for what can be no loop (D11)."""
    if text.startswith("loop:") and text.count(":") >= 2 and "/" not in text:
        sprite, loop_id = split_workflow_id(text)
        return LoopName(check_loop_id(loop_id), check_sprite_name(sprite))
    sprite, slash, loop_id = text.partition("/")
    if not slash:
        return LoopName(check_loop_id(text))
    return LoopName(check_loop_id(loop_id), check_sprite_name(sprite))


class LoopArgument(click.ParamType[LoopName]):
    """A LOOP on the command line: refused there and then when it can be no loop's name."""

    name = "loop"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> LoopName:
        """See base class."""
        if isinstance(value, LoopName):
            return value
        try:
            return parse_loop_name(value)
        except IdentifierInvalid as error:
            self.fail(f"{error}. A loop is named sprite/loop, or loop where that is unique", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """See base class."""
        from cli.completing import loop_names

        return loop_names(incomplete, ctx.params)


LOOP = LoopArgument()


def near_names(wanted: LoopName, known: Iterable[str]) -> list[str]:
    """Those of the `known` names (`sprite/loop`) that may have been meant, the nearest first, at most five."""
    names = sorted(set(known))
    by_id = [name for name in names if name.partition("/")[2] == wanted.loop_id]
    lower = {name.lower(): name for name in reversed(names)}
    whole = difflib.get_close_matches(str(wanted).lower(), list(lower), n=_SHOWN_NAMES, cutoff=0.6)
    ids = {name.partition("/")[2].lower() for name in names}
    close_ids = set(difflib.get_close_matches(wanted.loop_id.lower(), sorted(ids), n=_SHOWN_NAMES, cutoff=0.6))
    by_close_id = [name for name in names if name.partition("/")[2].lower() in close_ids]
    return list(dict.fromkeys([*by_id, *(lower[name] for name in whole), *by_close_id]))[:_SHOWN_NAMES]


def sprite_of_url(url: str) -> str:
    """The default sprite name for a service: the first label of the URL's host, or a whole IP address.

    Raises IdentifierInvalid when nothing usable is left.
    """
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _usable(host.partition(".")[0])
    # A label of an address says nothing; ':' separates the parts of a workflow id.
    return str(address) if address.version == 4 else _usable("ip6-" + str(address).replace(":", "-"))


def sprite_of_this_machine() -> str:
    """The default sprite name for a repo on this machine: its hostname."""
    return _usable(socket.gethostname())


def _usable(name: str) -> str:
    usable = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:_MAX_SPRITE_CHARS].strip("._-")
    try:
        return check_sprite_name(usable)
    except IdentifierInvalid:
        raise IdentifierInvalid(f"no sprite name can be made of {name[:63]!r}: give one with --sprite NAME") from None
