"""What is known about the embedded server of a data folder: a state file, and the processes that hold its database.

`embedded.json` is `{address, ui, pid, startedAt, endsWithParent}`. Its addresses are remembered after the server has
ended, so that the next one is reached at the same place; whether it runs is always read off the process, and a
process is the folder's server exactly if its command line says that it serves the folder's database.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

STATE_FILE = "embedded.json"
DATABASE_FILE = "temporal.db"
LOOPBACK = "127.0.0.1"


class ServerState(BaseModel):
    """The server's addresses and process. `started_at` is UTC, RFC 3339."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel, populate_by_name=True)

    address: str
    ui: str
    pid: int | None = None
    started_at: str | None = None
    ends_with_parent: bool = False
    """The kernel was asked to end the server when the process that started it ends, however it ends."""

    @property
    def ports(self) -> tuple[int, int]:
        """Ports of frontend and UI."""
        return int(self.address.rpartition(":")[2]), int(self.ui.rpartition(":")[2])


def state_for(port: int, ui_port: int, **fields: object) -> ServerState:
    """The state of a server on these loopback ports."""
    values = {"address": f"{LOOPBACK}:{port}", "ui": f"http://{LOOPBACK}:{ui_port}", **fields}
    return ServerState.model_validate(values)


def database_path(data_folder: Path) -> Path:
    """The server's database, the same path however the folder was spelt."""
    return data_folder.resolve() / DATABASE_FILE


def read_state(data_folder: Path) -> ServerState | None:
    """What was last written, whether or not that server still runs; None when there is nothing readable."""
    try:
        state = ServerState.model_validate_json((data_folder / STATE_FILE).read_bytes())
        return state if all(0 < port < 65536 for port in state.ports) else None
    except (OSError, ValidationError, ValueError):
        return None


def write_state(data_folder: Path, state: ServerState) -> None:
    """Replace the state file at once, so that a reader never sees half of it."""
    temporary = data_folder / f"{STATE_FILE}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(state.model_dump(by_alias=True), indent=2) + "\n", encoding="utf-8")
    temporary.replace(data_folder / STATE_FILE)


def running_server(data_folder: Path) -> ServerState | None:
    """The embedded server of this folder if its process runs, from anywhere on this machine; else None."""
    state = read_state(data_folder)
    if state is None or state.pid is None:
        return None
    try:
        process = psutil.Process(state.pid)
    except psutil.Error:
        return None
    return state if serves(process, database_path(data_folder)) else None


def serves(process: psutil.Process, database: Path) -> bool:
    """Whether `process` is a live Temporal server of `database`; a zombie has no command line and is none."""
    try:
        return _option(process.cmdline(), "--db-filename") == str(database) and "start-dev" in process.cmdline()
    except psutil.Error:
        return False


def serving_processes(database: Path) -> Iterator[psutil.Process]:
    """Every process of this machine that serves `database`, also those that no state file tells about."""
    return (process for process in psutil.process_iter() if serves(process, database))


def ports_of(process: psutil.Process) -> tuple[int, int] | None:
    """Ports of frontend and UI as the command line names them."""
    try:
        argv = process.cmdline()
        return int(_option(argv, "--port")), int(_option(argv, "--ui-port"))
    except (psutil.Error, ValueError):
        return None


def _option(argv: list[str], name: str) -> str:
    index = argv.index(name) + 1 if name in argv else len(argv)
    return argv[index] if index < len(argv) else ""
