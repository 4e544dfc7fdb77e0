"""Commands that can be pasted into the shell they were printed in.

A program is named as that shell would find it: plainly when it is on the PATH, else by its path, relative where the
current folder allows. Options that the printing command itself needed to find its Temporal are carried along.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.main import COMMANDS

OPS_MANAGER = "ops-manager"
TEMPORAL = "temporal"

_WITHOUT_CONNECTION = ("up", "demo", "sprite")
"""Commands of ours that bring their own Temporal or need none."""
_MENTION = re.compile(
    rf"(?<![\w/.-])(?:(?P<ours>ops-manager) (?P<command>{'|'.join(COMMANDS)})"
    r"|(?P<theirs>temporal) (?P<group>(?:workflow|operator|task-queue|server) [a-z-]+))(?![\w:])"
)
"""Only what is a command: a sentence may speak of the queue ops-manager, too."""


def program(name: str) -> str:
    """How the current shell has to call `name`, quoted."""
    beside = _beside_this_interpreter(name)
    on_path = shutil.which(name)
    # On the PATH is good enough for `temporal`, of which any will do; `ops-manager` must be this one.
    if on_path and (name == TEMPORAL or beside is None or os.path.samefile(on_path, beside)):
        return name
    return shlex.quote(_from_here(beside)) if beside else name


def _beside_this_interpreter(name: str) -> Path | None:
    # Not resolved: in a virtual environment the interpreter is a link, and the scripts lie beside the link.
    found = Path(sys.executable).parent / name
    return found if found.is_file() and os.access(found, os.X_OK) else None


def _from_here(path: Path) -> str:
    path = Path(os.path.abspath(path))
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def ops_manager(*arguments: str, connection: Sequence[str] = ()) -> str:
    """A command line of ours; `connection` are the options that lead to the same Temporal."""
    return " ".join([program(OPS_MANAGER), *(shlex.quote(argument) for argument in (*arguments, *connection))])


def temporal(*arguments: str, address: str, namespace: str) -> str:
    """A command line of the Temporal CLI against that address."""
    where = ["--address", address, *([] if namespace == "default" else ["--namespace", namespace])]
    return " ".join([program(TEMPORAL), *(shlex.quote(argument) for argument in (*arguments, *where))])


def localized(text: str, *, ours: Sequence[str] = (), theirs: Sequence[str] = ()) -> str:
    """`text` of the supervisor with the commands in it named as this shell calls them.

    `ours` and `theirs` are the options that lead to the same Temporal; they are put behind the subcommand, because
    where a command ends within a sentence cannot be told.
    """

    def named(match: re.Match[str]) -> str:
        if match["ours"]:
            name, command = OPS_MANAGER, match["command"]
            options = () if command in _WITHOUT_CONNECTION else ours
        else:
            name, command, options = TEMPORAL, match["group"], theirs
        return " ".join([program(name), command, *(shlex.quote(option) for option in options)])

    return _MENTION.sub(named, text)
