"""`ops-manager sprite serve`, which ends itself by SIGKILL at the step that a file names; the file goes first."""

import functools
import os
import signal
from pathlib import Path

from cli import sprite_serve
from cli.main import main
from sprite.control import SpriteController

KILL_AT_VARIABLE = "CHAOS_KILL_AT"


def die_at(step: str) -> None:
    """Die if this is the step."""
    order = Path(os.environ[KILL_AT_VARIABLE])
    try:
        wanted = order.read_text()
    except FileNotFoundError:
        return
    if wanted == step:
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    mortal = functools.partial(SpriteController, at_step=die_at)
    setattr(sprite_serve, "SpriteController", mortal)  # noqa: B010 - for the type checker, a class stays what it is
    main()
