"""`up` as an operator types it: one process, from nothing to a supervised loop, and back again."""

import asyncio
import contextlib
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from cli import up as up_module
from cli.places import Place as Where
from cli.session import Connection, Session
from sprite.standin import FAST_PACE_MS, install_runtime, prepare_repo
from tests.cli.conftest import QUEUE, Place
from tests.cli.ops import Ops
from tests.harness_sprite import until
from worker.connection import Target
from worker.settings import Settings, load_settings

WAIT_S = 60.0


@pytest.fixture
def ops(tmp_path: Path) -> Ops:
    return Ops(
        {
            "SUPERLOOP_BIN": str(install_runtime(tmp_path / "bin")),
            "OPS_MANAGER_DATA_FOLDER": str(tmp_path / "data"),
            "OPS_MANAGER_STATE_DIR": str(tmp_path / "state"),
            "USER": "ana",
        }
    )


@asynccontextmanager
async def up(ops: Ops, *arguments: str, last: str) -> AsyncIterator[list[str]]:
    """Run `up` for the block, then stop it as a supervisor of processes would; yields its lines up to `last`."""
    async with ops.running("up", *arguments) as process:
        assert process.stdout is not None
        lines: list[str] = []
        try:
            async with asyncio.timeout(WAIT_S):
                while not any(last in line for line in lines):
                    line = await process.stdout.readline()
                    assert line, (lines, await process.stderr.read() if process.stderr else b"")
                    lines.append(line.decode().rstrip("\n"))
            yield lines
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 0, err.decode()
    assert "Traceback" not in err.decode()


async def status(ops: Ops) -> dict[str, object]:
    done = await ops("status", "acme/demo", "-o", "json")
    assert done.code == 0, done
    found: dict[str, object] = json.loads(done.out)
    return found


async def waits(ops: Ops) -> bool:
    return (await status(ops))["lifecycle"] == "awaiting_approval"


async def test_up_supervises_a_repo_prints_how_to_reach_it_and_goes_on_after_a_restart(
    ops: Ops, tmp_path: Path
) -> None:
    repo = prepare_repo(
        tmp_path / "repo",
        {
            "pace_ms": FAST_PACE_MS,
            "loops": {"demo": {"approval_required": True, "runs": [{"iterations": [{"outcome": "candidate"}]}]}},
        },
    )
    place = ("--repo", str(repo), "--sprite", "acme")
    listed = await ops("up", *place)
    assert listed.code == 0, listed
    assert listed.out.startswith("demo ")
    assert "--loop demo" in listed.out

    async with up(ops, *place, "--loop", "demo", last="is supervised now") as lines:
        assert re.fullmatch(r"Temporal  127\.0\.0\.1:\d+", lines[0])
        assert lines[1].startswith("UI        http://127.0.0.1:")
        address = lines[0].split()[1]
        assert lines[2].endswith(f"temporal workflow list --address {address}")
        command = lines[2].removeprefix("CLI").strip()

        async def listed_there() -> bool:
            shell = await asyncio.create_subprocess_shell(command, env=ops.env(), stdout=asyncio.subprocess.PIPE)
            printed, _ = await shell.communicate()
            assert shell.returncode == 0
            return b"loop:acme:demo" in printed

        await until(listed_there, "the list, which lags behind a little, shows the loop", timeout_s=WAIT_S)

        run = await asyncio.create_subprocess_exec(
            ops.environment["SUPERLOOP_BIN"],
            "run",
            "--repo",
            str(repo),
            "--loop",
            "demo",
            stdout=asyncio.subprocess.DEVNULL,
        )
        await run.wait()
        await until(lambda: waits(ops), "the loop is seen waiting", timeout_s=WAIT_S)
        done = await ops("approve", "demo", "--yes")
        assert done.code == 0, done
        assert done.out.startswith("Recorded: ana approved")

    async with up(ops, *place, "--loop", "demo", last="was supervised already") as lines:
        assert lines[0].split()[1] == address, "commands that were printed before go on to work"
        after = await status(ops)
        assert after["lifecycle"] == "decided"
        released = await ops("release", "demo")
        assert released.code == 0, released


async def test_up_starts_the_supervision_without_waiting_for_its_own_worker_to_be_shown(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never_ready(client: Client, settings: Settings, *, stop: asyncio.Event, **_: object) -> None:
        await stop.wait()

    monkeypatch.setattr(up_module, "run_worker", never_ready)
    settings = load_settings(data_folder=tmp_path, task_queue=QUEUE)
    session = Session(place.client, Target(place.ops.environment["TEMPORAL_ADDRESS"]), settings, Connection())
    stop = asyncio.Event()
    life = up_module._Up(Connection(), settings, Where("acme", service_url="http://127.0.0.1:1", loops=("demo",)), None)
    working = asyncio.create_task(life._work(session, stop))
    supervisor = place.client.get_workflow_handle("loop:acme:demo")

    async def supervised() -> bool:
        with contextlib.suppress(RPCError):
            return (await supervisor.describe()).status is WorkflowExecutionStatus.RUNNING
        return False

    await until(supervised, "the supervisor is started", timeout_s=WAIT_S)
    stop.set()
    await working


async def test_up_with_nothing_named_only_keeps_what_there_is_going(ops: Ops) -> None:
    async with up(ops, last="CLI ") as lines:
        assert len(lines) == 3
        listed = await ops("list")
        assert listed.code == 0, listed
    gone = await ops("list")
    assert gone.code == 9, "the embedded server ends with its `up`"
