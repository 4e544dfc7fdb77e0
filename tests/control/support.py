"""Controllers over repos of the stand-in, and a fake runtime that counts what it was made to do."""

import asyncio
import contextlib
import fcntl
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from contract.control import ControlRequest
from sprite.control import InFlight, SpriteController
from sprite.reader import SpriteReader

Request = Callable[..., ControlRequest]
ROOT = Path(__file__).parents[2]

# Executes one request and prints its status: what a second process of the same sprite does.
ANOTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from tests.control.support import controller, request
repo, binary, state, key = sys.argv[1:]
manager = controller(Path(repo), Path(binary), Path(state))
answer = asyncio.run(manager.execute(request("approve", idempotencyKey=key, by="ana")))
print(answer.result.status)
"""


def request(intent: str, loop: str = "demo", *, wait: bool = False, **fields: Any) -> ControlRequest:
    """A control request as a client writes it; does not ask for confirmation unless `wait`."""
    return ControlRequest.read({"loopId": loop, "intent": intent, "noConfirm": not wait, **fields})


def fake_runtime(folder: Path, body: str = "") -> Path:
    """A `superloop.sh` that appends its arguments to `effects` beside it, then runs `body`."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "superloop.sh"
    script.write_text(f'#!/bin/bash\nHERE={folder}\necho "$@" >> {folder}/effects\n{body}\n')
    script.chmod(0o755)
    return script


def effects(runtime: Path) -> list[str]:
    """What a fake runtime was made to do."""
    path = runtime.with_name("effects")
    return path.read_text().splitlines() if path.exists() else []


def loop_repo(folder: Path, loop: str = "demo", *, approval: dict[str, Any] | None = None) -> Path:
    """A repo with one loop that began a run, by hand: for tests in which the runtime is a fake."""
    home = folder / ".superloop" / "loops" / loop
    home.mkdir(parents=True)
    append(folder, {"event": "loop_start", "run_id": "R1", "iteration": 1}, loop=loop)
    if approval is not None:
        (home / "approval.json").write_text(json.dumps(approval))
    return folder


def append(repo: Path, *events: dict[str, Any], loop: str = "demo") -> None:
    """Append events to a loop's log."""
    with (repo / ".superloop" / "loops" / loop / "events.jsonl").open("a") as log:
        for event in events:
            log.write(json.dumps({"timestamp": "2026-11-22T08:00:00Z", **event}) + "\n")


def controller(repo: Path, binary: Path, state_dir: Path, **options: Any) -> SpriteController:
    """A controller of `repo`; several with one `state_dir` behave like several processes of one sprite."""
    return SpriteController(SpriteReader(repo, state_dir=state_dir), binary, state_dir=state_dir, **options)


def write_active_run(repo: Path, pid: int, loop: str = "demo") -> None:
    """An active-run.json that names `pid`."""
    content = {"repo": str(repo), "pid": pid, "pgid": pid, "loop_id": loop, "iteration": 1, "stage": "loop_start"}
    (repo / ".superloop" / "active-run.json").write_text(json.dumps(content))


def write_state(repo: Path, *, active: bool, loop: str = "demo", iteration: int = 1) -> None:
    """A state.json."""
    content = {"active": active, "loop_index": 0, "iteration": iteration, "current_loop_id": loop}
    (repo / ".superloop" / "state.json").write_text(json.dumps(content))


def lives(pid: int) -> bool:
    """Whether a process of this test still exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def eventually(condition: Callable[[], object], what: str, *, timeout_s: float = 20.0) -> None:
    """Wait until the condition holds, while the event loop goes on."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  (what is awaited happens in another process)
            await asyncio.sleep(0.01)
    assert condition(), what


GATED = 'while [ ! -e "$HERE/go" ]; do sleep 0.02; done'
"""A body for a fake runtime: the command goes on when `open_gate` says so."""


def open_gate(runtime: Path) -> None:
    """Let the commands of a `GATED` runtime end."""
    (runtime.parent / "go").touch()


def requesters(runtime: Path) -> list[str]:
    """Who asked for each effect of a fake runtime, in order."""
    return [line.split("--by ")[1].split()[0] for line in effects(runtime)]


def is_in_flight(manager: SpriteController, key: str) -> bool:
    """Whether whoever asks for a key of loop demo is told that it is in flight."""
    try:
        manager.lookup("demo", key)
    except InFlight:
        return True
    return False


def change_ledger(state_dir: Path, *statements: str) -> None:
    """Do something to the ledger's file behind the back of whoever uses it."""
    (path,) = state_dir.glob("*/control/ledger.sqlite3")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@contextlib.contextmanager
def ledger_that_refuses(state_dir: Path, what: str) -> Iterator[None]:
    """As if the disk were full for one kind of change: "UPDATE" (what is known of a claim) or "INSERT" (a new one)."""
    refusing = f"BEFORE {what} ON claims BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
    change_ledger(state_dir, f"CREATE TRIGGER refusing {refusing}")
    try:
        yield
    finally:
        change_ledger(state_dir, "DROP TRIGGER refusing")


@contextlib.contextmanager
def ledger_kept(state_dir: Path) -> Iterator[None]:
    """As if another process were in the midst of a change to the ledger."""
    (path,) = state_dir.glob("*/control/ledger.sqlite3")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


def audited(state_dir: Path) -> list[dict[str, Any]]:
    """The records of the audit log."""
    logs = state_dir.glob("*/control/control-invocations.jsonl")
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


@contextlib.contextmanager
def command_slot_taken(state_dir: Path) -> Iterator[None]:
    """As if another process of the sprite ran a command."""
    (folder,) = state_dir.glob("*/control")
    with (folder / "command.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def another_process(repo: Path, runtime: Path, state: Path, key: str = "k") -> "subprocess.Popen[str]":
    """A process of the same sprite that executes one request and prints the status of its answer."""
    return subprocess.Popen(
        [sys.executable, "-c", ANOTHER_PROCESS, str(repo), str(runtime), str(state), key],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
