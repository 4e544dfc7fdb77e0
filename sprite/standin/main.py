"""The command line of the stand-in: the same grammar, texts and exit codes as `superloop.sh`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from sprite.standin.approval import approve
from sprite.standin.cancel import cancel
from sprite.standin.config import CONFIG_FILE
from sprite.standin.console import complain, say
from sprite.standin.disk import CommandError, Disk, RepoFiles
from sprite.standin.run import Run, Terminated
from sprite.standin.scenario import ScenarioError, load_scenario
from sprite.standin.status import print_list, print_state, print_summary
from sprite.standin.stops import Stops

VERSION = "0.6.1 (stand-in)"

USAGE = """\
Usage: superloop.sh <command> [options]

This is a stand-in for Superloop, for demos and tests: it runs no agents. It writes the artifacts that Superloop 0.6.1
writes, as .superloop/standin.json (or SUPERLOOP_STANDIN_SCENARIO) tells it to.

  run      [--repo DIR] [--config FILE] [--loop ID] [--fast] [--dry-run] [--skip-validate]
  status   [--repo DIR] [--summary] [--loop ID]
  cancel   [--repo DIR]
  approve  --loop ID [--repo DIR] [--by NAME] [--note TEXT] [--reject]
  list     [--repo DIR] [--config FILE]
  --help | --version"""

_VALUES = {"--repo": "repo", "--config": "config", "--loop": "loop", "--by": "by", "--note": "note"}
_FLAGS = {
    "--fast": "fast",
    "--dry-run": "dry_run",
    "--skip-validate": "skip_validate",
    "--summary": "summary",
    "--reject": "reject",
}


class Options:
    """What followed the command; every command takes every option and ignores what it does not use."""

    repo: str = "."
    config: str | None = None
    loop: str | None = None
    by: str | None = None
    note: str | None = None
    fast: bool = False
    dry_run: bool = False
    skip_validate: bool = False
    summary: bool = False
    reject: bool = False
    help: bool = False


def parse(program: str, arguments: Sequence[str]) -> Options:
    """Parse the options.

    Raises:
        CommandError: an unknown option, or one without its value.
    """
    options = Options()
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if option in _VALUES:
            if not rest:
                raise CommandError(f"{program}: line 1: $2: unbound variable")
            setattr(options, _VALUES[option], rest.pop(0))
        elif option in _FLAGS:
            setattr(options, _FLAGS[option], True)
        elif option in ("--help", "-h"):
            options.help = True
        else:
            raise CommandError(f"error: unknown argument: {option}")
    return options


def main(argv: Sequence[str]) -> NoReturn:
    """Run a command and end the process with its exit code.

    The process ends at once, without the interpreter's own shutdown: a run deletes active-run.json just before its end.
    """
    try:
        code = _dispatch(argv[0], list(argv[1:]))
    except CommandError as error:
        complain(error.message)
        code = error.code
    except ScenarioError as error:
        complain(f"error: {error}")
        code = 1
    except Terminated as ended:
        code = ended.code
    os._exit(code)


def _dispatch(program: str, arguments: list[str]) -> int:
    command = arguments.pop(0) if arguments else ""
    if command == "--version":
        say(VERSION)
        return 0
    if command in ("--help", "-h", "help"):
        say(USAGE)
        return 0
    if command not in _COMMANDS:
        say(USAGE)
        return 1
    options = parse(program, arguments)
    if options.help:
        say(USAGE)
        return 0
    repo = os.path.abspath(options.repo)
    if not os.path.isdir(repo):
        raise CommandError(f"{program}: line 1: cd: {options.repo}: No such file or directory")
    return _COMMANDS[command](Path(repo), options)


def _run(repo: Path, options: Options) -> int:
    run = Run(repo, load_scenario(repo), config=_config(repo, options), only=options.loop)
    return run.execute(validate=not options.skip_validate, dry_run=options.dry_run)


def _status(repo: Path, options: Options) -> int:
    if options.summary:
        return print_summary(RepoFiles(repo), _config(repo, options), options.loop)
    return print_state(RepoFiles(repo))


def _cancel(repo: Path, options: Options) -> int:
    scenario = load_scenario(repo)
    stops = Stops.of(repo, "cancel", scenario)
    stops.begin()
    return cancel(RepoFiles(repo), Disk(scenario.pace, on_effect=stops.effect), scenario.pace)


def _approve(repo: Path, options: Options) -> int:
    scenario = load_scenario(repo)
    stops = Stops.of(repo, "reject" if options.reject else "approve", scenario)
    stops.begin()
    disk = Disk(scenario.pace, event_chunk_bytes=scenario.event_chunk_bytes, on_effect=stops.effect)
    by = options.by or os.environ.get("USER") or "unknown"
    return approve(RepoFiles(repo), disk, options.loop, by=by, note=options.note, reject=options.reject)


def _list(repo: Path, options: Options) -> int:
    return print_list(RepoFiles(repo), _config(repo, options))


def _config(repo: Path, options: Options) -> Path:
    return Path(options.config) if options.config else repo / CONFIG_FILE


_COMMANDS: dict[str, Callable[[Path, Options], int]] = {
    "run": _run,
    "status": _status,
    "cancel": _cancel,
    "approve": _approve,
    "list": _list,
}

if __name__ == "__main__":
    main(sys.argv)
