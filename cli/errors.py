"""What ends a command early: one line for the operator and the exit code that goes with it.

    CommandError                 `str()` is the line to print; `exit_code` the process's code
    ├── UsageProblem             2: the command line is wrong or ambiguous; nothing was sent
    ├── NotFound                 3: no such loop
    ├── Refused                  4: refused, nothing was done
    ├── Ambiguous                6: it is not known whether it happened
    ├── TransportProblem         7: the sprite cannot be reached or does not speak the contract
    ├── AuthProblem              8: a credential was refused or cannot be read
    └── Interrupted              130: Ctrl-C at a question

What the worker's side raises (`worker.errors`) carries its exit code, too; `cli.endings` knows all of them.
"""

from __future__ import annotations

from cli.exit_codes import ExitCode


class CommandError(Exception):
    """Ends the command with its message on stderr and `exit_code`."""

    exit_code = ExitCode.UNEXPECTED


class UsageProblem(CommandError):
    """The command line is wrong, names several things, or needs a terminal. Nothing was sent."""

    exit_code = ExitCode.USAGE


class NotFound(CommandError):
    """No such loop is supervised, or the sprite has none."""

    exit_code = ExitCode.NOT_FOUND


class Refused(CommandError):
    """Refused; nothing was done."""

    exit_code = ExitCode.REFUSED


class Ambiguous(CommandError):
    """It is not known whether it happened. The message says how to find out."""

    exit_code = ExitCode.AMBIGUOUS


class TransportProblem(CommandError):
    """The sprite cannot be reached or does not speak the contract."""

    exit_code = ExitCode.TRANSPORT


class AuthProblem(CommandError):
    """A credential was refused or cannot be read. The message never holds its value."""

    exit_code = ExitCode.AUTH


class Interrupted(CommandError):
    """Ctrl-C, or the end of the input, where an answer was asked for."""

    exit_code = ExitCode.INTERRUPTED
