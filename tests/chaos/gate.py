"""A launcher for the runtime's control commands that can be held in the middle of one, before or after its effect.

Every command that was started is written down outside of what anybody reports, so that effects can be counted.
"""

import shlex
from enum import StrEnum
from pathlib import Path

from tests.harness_sprite import until

_LAUNCHER = """\
#!/bin/sh
# Holds a control command while a file says so. Everything else is the runtime's business.
case "$1" in
  approve|cancel) ;;
  *) exec {runtime} "$@" ;;
esac
hold() {{
  [ -e {gate}/hold-$1 ] || return 0
  echo $$ > {gate}/held.tmp && mv {gate}/held.tmp {gate}/held
  while [ -e {gate}/hold-$1 ]; do sleep 0.05; done
}}
echo "$*" >> {gate}/started
hold before
echo "a word on the way, as the runtime says one"
{runtime} "$@"
code=$?
hold after
exit $code
"""


class Moment(StrEnum):
    """Where in a command it is held."""

    BEFORE_EFFECT = "before"
    AFTER_EFFECT = "after"


class Gate:
    """The launcher in `folder` for the program `runtime`."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.launcher = folder / "superloop.sh"
        self.launcher.write_text(_LAUNCHER.format(runtime=shlex.quote(str(runtime)), gate=shlex.quote(str(folder))))
        self.launcher.chmod(0o755)

    def hold(self, moment: Moment) -> None:
        """Hold the next command at `moment`."""
        (self._folder / f"hold-{moment.value}").touch()

    async def reached(self) -> int:
        """Wait until a command is held; returns its process id."""
        held = self._folder / "held"
        await until(held.exists, "a control command is under way")
        return int(held.read_text())

    def release(self) -> None:
        """Let the command go on, and hold no other one."""
        for moment in Moment:
            (self._folder / f"hold-{moment.value}").unlink(missing_ok=True)
        (self._folder / "held").unlink(missing_ok=True)

    def started(self, word: str) -> list[str]:
        """The commands beginning with `word` that were started, with their arguments."""
        log = self._folder / "started"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.split()[0] == word]
