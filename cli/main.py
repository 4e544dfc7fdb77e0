"""`ops-manager`: the entry point, the table of commands, and how every ending is told.

Commands are imported when they are called: `status` has to answer within three seconds, and importing what serves
HTTP or runs workers costs a good part of one.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import click

from cli import terminal
from cli.exit_codes import ExitCode

DEBUG_VARIABLE = "OPS_MANAGER_DEBUG"


@dataclass(frozen=True)
class Place:
    """Where a command is defined, and its one line in the list of commands."""

    module: str
    name: str
    summary: str


COMMANDS: dict[str, Place] = {
    "up": Place("cli.up", "up", "Run an embedded Temporal and a worker, and supervise loops."),
    "worker": Place("cli.worker", "worker", "Run a worker against a Temporal that runs elsewhere."),
    "supervise": Place("cli.supervise", "supervise", "Begin to supervise loops with a worker that runs already."),
    "release": Place("cli.supervise", "release", "Stop supervising a loop; the loop itself is not touched."),
    "list": Place("cli.list", "list_loops", "List supervised loops, those that need a human first."),
    "status": Place("cli.status", "status", "Show what is believed about a loop, and how fresh that is."),
    "watch": Place("cli.watch", "watch", "Print one line for every change of loops."),
    "approve": Place("cli.control", "approve", "Approve the pending request of a loop."),
    "reject": Place("cli.control", "reject", "Reject the pending request of a loop."),
    "cancel": Place("cli.control", "cancel", "End the run of a loop, or clear a crashed one."),
    "transport": Place("cli.transport", "transport", "Pin a loop to a transport, or let the manager choose."),
    "reconcile": Place("cli.reconcile", "reconcile", "Read a loop's log again and compare it with what was ingested."),
    "resolve": Place("cli.divergences", "resolve", "Close a divergence by saying what is to be believed."),
    "doctor": Place("cli.doctor", "doctor", "Check Temporal, workers, service and sprite; say how to mend them."),
    "verify": Place("cli.verify", "verify", "Compare the event log of a loop with what was observed of it."),
    "incident": Place("cli.incident", "incident", "Export, replay and tell an incident."),
    "demo": Place("cli.demo", "demo", "Show the main job on an embedded Temporal with a stand-in runtime."),
    "sprite": Place("cli.sprite", "sprite", "Inside a sprite: serve a repo, print its envelopes."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def __init__(self, *args: Any, places: dict[str, Place], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = {name: place for name, place in places.items() if importlib.util.find_spec(place.module)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See base class; in the order of the table."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See base class."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        command = getattr(_imported(place.module), place.name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is wrong otherwise
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See base class; without importing every command for its one line."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in self._places.items()])


def _imported(module: str) -> ModuleType:
    # Imports make objects that stay. Looking for garbage among them meanwhile costs a tenth of a command's start.
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.enable()


EPILOG = "\b\nExit codes\n" + "\n".join(
    f"  {code.value:<4} {words}"
    for code, words in {
        ExitCode.DONE: "done",
        ExitCode.UNEXPECTED: "a mistake in this program",
        ExitCode.USAGE: "usage; nothing was sent",
        ExitCode.NOT_FOUND: "not found",
        ExitCode.REFUSED: "refused, nothing was done",
        ExitCode.DIFFERENT: "compared, and different",
        ExitCode.AMBIGUOUS: "ambiguous: look before repeating",
        ExitCode.TRANSPORT: "the sprite cannot be reached",
        ExitCode.AUTH: "a credential was refused",
        ExitCode.UNREACHABLE: "Temporal or a worker is unreachable: accepted at most, not executed",
        ExitCode.INTERRUPTED: "interrupted",
    }.items()
)


@click.group(
    cls=LazyGroup,
    places=COMMANDS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="superloop-ops-manager", prog_name="ops-manager")
def cli() -> None:
    """Supervise Superloop loops from outside their sandbox: one durable Temporal workflow per loop.

    A LOOP is named sprite/loop, or loop where that is unique.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with the command's exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, whatever happens."""
    try:
        given = list(arguments) if arguments is not None else None
        result = cli.main(args=given, prog_name="ops-manager", standalone_mode=False)
        return int(result) if isinstance(result, int) else ExitCode.DONE
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        terminal.say("\nInterrupted. Whatever was sent before goes on.")
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where an operator can be told in one line
        return _tell(error)


def _tell(error: Exception) -> int:
    from cli import paste
    from cli.endings import explain

    known = explain(error)
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    if known:
        terminal.say(paste.localized(known.message))
        return known.exit_code
    first = str(error).partition("\n")[0]
    terminal.say(
        f"Unexpected {type(error).__name__}: {terminal.clean(first)}\n"
        f"This is a mistake in ops-manager; {DEBUG_VARIABLE}=1 in front of the command shows where."
    )
    return ExitCode.UNEXPECTED


if __name__ == "__main__":
    main()
