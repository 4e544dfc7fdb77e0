"""A stand-in for the Superloop runtime, and a player for recordings of the real one.

It is honest about being one: `superloop.sh --version` says `0.6.1 (stand-in)`. It runs no agents; it writes the
artifacts that the real runtime writes, in the same order and with the same quirks, paced by a scenario file
(`sprite.standin.scenario` describes it). Demos and tests use it where the real runtime cannot be.

This package needs nothing but the standard library and imports little of it (its values are named tuples, not
dataclasses): the stand-in is started as a command, often, and also by a bare Python that has none of our requirements.
"""

from sprite.standin.prepare import install_runtime, prepare_repo, runtime_path
from sprite.standin.scenario import FAST_PACE_MS, RECORDED_PACE_MS, ScenarioError

__all__ = [
    "FAST_PACE_MS",
    "RECORDED_PACE_MS",
    "ScenarioError",
    "install_runtime",
    "prepare_repo",
    "runtime_path",
]
