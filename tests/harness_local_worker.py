"""A worker inside a sprite: serves the local queue of one sprite and nothing else, until SIGTERM.

python -m tests.harness_local_worker ADDRESS SPRITE REPO STATE_DIR SUPERLOOP_BIN
"""

import asyncio
import sys
from pathlib import Path

from temporalio.client import Client

from tests.harness_sprite import QUEUE
from worker.local import LocalSprite
from worker.run import run_worker
from worker.settings import Settings
from worker.workers import stop_on_signals
from workflows.plugin import ops_manager_plugin


async def main(address: str, sprite: str, repo: str, state_dir: str, binary: str) -> None:
    """Serve until told to stop."""
    stop = stop_on_signals()
    client = await Client.connect(address, plugins=[ops_manager_plugin()])
    settings = Settings(task_queue=QUEUE)
    with LocalSprite.open(sprite, Path(repo), binary=binary, state_dir=Path(state_dir)) as local:
        await run_worker(client, settings, stop=stop, local=local, local_only=True)
    await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
