#!/usr/bin/env python3
"""Stand-in for superloop.sh: the same commands and artifacts, no agents. Python in spite of its name: a scan for
processes that run `superloop.sh run` has to find it as it finds the real one."""

import os
import sys
import types


def _hold() -> None:
    """Be a run that does nothing (for the player): live until told to die, or until the holder's end of stdin closes."""
    while os.read(0, 4096):
        pass
    os._exit(0)


if os.environ.get("SUPERLOOP_STANDIN_HOLD") == "1":
    _hold()

# Found by its own location, and `sprite` itself is not executed: its imports need more than the standard library.
_sprite = types.ModuleType("sprite")
_sprite.__path__ = [os.path.dirname(os.path.dirname(os.path.realpath(__file__)))]
sys.modules["sprite"] = _sprite
# The folder of this script would otherwise shadow modules of the standard library by name.
sys.path = [entry for entry in sys.path if os.path.realpath(entry or ".") != os.path.dirname(os.path.realpath(__file__))]

from sprite.standin.main import main  # noqa: E402

main(sys.argv)
