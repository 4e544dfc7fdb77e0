"""A Temporal dev server of its own for tests that need one to be there, absent, or late."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOOLS = Path(sys.executable).parent
TEMPORAL = shutil.which("temporal", path=f"{TOOLS}{os.pathsep}{os.environ['PATH']}") or "temporal"


def clean_environment(home: Path, **added: str) -> dict[str, str]:
    """Return an environment with this installation's tools on the PATH and nobody's Temporal configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "OPS_"))}
    return {**kept, "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", "HOME": str(home), **added}


@contextmanager
def dev_server(port: int, home: Path) -> Iterator[str]:
    """Run `temporal server start-dev` in memory on that port, wait until it is healthy, yield its address, end it."""
    address = f"127.0.0.1:{port}"
    env = clean_environment(home)
    argv = [TEMPORAL, "server", "start-dev", "--ip", "127.0.0.1", "--port", str(port), "--headless"]
    with subprocess.Popen([*argv, "--log-level", "error"], env=env, stdout=subprocess.DEVNULL) as server:
        try:
            health = [TEMPORAL, "operator", "cluster", "health", "--address", address]
            while subprocess.run(health, env=env, capture_output=True).returncode != 0:
                assert server.poll() is None, f"the dev server ended with {server.returncode}"
                time.sleep(0.1)  # between two looks at the condition that is awaited
            yield address
        finally:
            server.terminate()
            server.wait(timeout=20)
