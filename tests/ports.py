"""Loopback ports for servers that are started later, or again, and must still find their port free."""

import itertools
import os
import random

from worker.server_process import port_is_free

_SHARE = 2_500
_PYTEST_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_FIRST = 10_000 + _PYTEST_WORKER % 4 * _SHARE
"""Below the ephemeral ports, which any connection may get as its source while the server is not there; below those of
the embedded server, too. Every pytest worker has a share of its own."""
_turns = itertools.count(random.randrange(_SHARE))


def free_port() -> int:
    """A port where nothing listens and that no other test of this run is given. Raises OSError when there is none."""
    for turn in itertools.islice(_turns, _SHARE):
        if port_is_free(port := _FIRST + turn % _SHARE):
            return port
    raise OSError("no free loopback port")
