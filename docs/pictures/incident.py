"""Play the incident of docs/incidents.md, print what the commands say of it, and take the picture of its report.

    .venv/bin/python -m docs.pictures.incident [FOLDER]

On a real Temporal server with a real service and the stand-in runtime; takes about a minute and a half, and Chromium
for the picture. The archive, the report and the printed texts are left in FOLDER (default: a temporary one).
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contract.status import IntentStage
from tests.cli.ops import Ops
from tests.harness import FAST, House, Supervised, Supervisors
from tests.harness_sprite import CONTINUE, QUEUE, Sprite, until

PICTURE = Path(__file__).with_name("incident.png")
OUTAGE_S = 50.0
"""Longer than it takes to find out that the local transport does not answer either."""
_SCENARIO = {
    "pace_ms": {"validate": 200, "config": 200, "role": 900, "gate": 20, "summary": 300, "cancel_poll": 100},
    "loops": {
        "demo": {
            "approval_required": True,
            "stuck_threshold": 0,
            "runs": [{"iterations": [CONTINUE, {"outcome": "candidate"}]}, {"iterations": [CONTINUE]}],
        }
    },
}


async def play(supervise: Supervisors, sprite: Sprite) -> tuple[Supervised, datetime]:
    """The service goes, bo approves in the sprite, ana rejects from outside; returns when ana did so, too."""
    sprite.serve()
    loop = await supervise(sprite, options=FAST)
    run = sprite.run()
    await sprite.until_event("iteration_start")
    await loop.until_lifecycle("running")
    sprite.stop_service()
    back_at = datetime.now(UTC) + timedelta(seconds=OUTAGE_S)
    await sprite.until_event("approval_requested")
    run.wait()
    sprite.superloop("approve", "--loop", "demo", "--by", "bo", "--note", "demo data only")
    await loop.until(lambda seen: seen.attention.code == "blind", "the alarm", timeout_s=60)
    await loop.send_by_cli(
        "REJECT_PENDING", "--input", '{"by":"ana","note":"not before Monday"}', "--identity", "temporal-cli:ana@laptop"
    )
    await loop.until(lambda seen: seen.intents, "her message is there")
    rejected_at = datetime.now(UTC)
    await until(lambda: datetime.now(UTC) >= back_at, "the service comes back", timeout_s=OUTAGE_S + 10)
    sprite.serve()
    await loop.until_intent(IntentStage.REJECTED)
    sprite.run().wait()
    await loop.until_lifecycle("complete")
    return loop, rejected_at


async def main(folder: Path) -> None:
    """Play, tell, and draw."""
    async with House.open(folder / "house") as house:
        with Sprite(folder / "acme", "acme", _SCENARIO) as sprite:
            async with Supervisors(house) as supervise:
                _, rejected_at = await play(supervise, sprite)
                environment = {"TEMPORAL_ADDRESS": house.address, "OPS_MANAGER_TASK_QUEUE": QUEUE}
                ops = Ops({**environment, "OPS_MANAGER_STATE_DIR": str(sprite.state_dir)})
                archive, page = folder / "incident.zip", folder / "report.html"
                for arguments in (
                    ("verify", "acme/demo"),
                    ("incident", "export", "acme/demo", "-o", str(archive)),
                    ("incident", "replay", str(archive), "--at", rejected_at.isoformat()),
                    ("incident", "timeline", str(archive)),
                    ("incident", "report", str(archive), "-o", str(page)),
                ):
                    done = await ops(*arguments)
                    print(f"$ ops-manager {' '.join(arguments)}   (exit {done.code})\n{done.out}{done.err}")
    _draw(page)


def _draw(page: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium here: the picture stays as it is")
        return
    with tempfile.TemporaryDirectory() as profile:
        argv = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
            f"--user-data-dir={profile}", f"--screenshot={PICTURE}", "--window-size=1400,1000", f"file://{page}",
        ]  # fmt: skip
        subprocess.run(argv, check=True, capture_output=True, timeout=60)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())))
