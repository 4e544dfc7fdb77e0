"""Where the Temporal server's program comes from."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from temporalio.testing import WorkflowEnvironment

from worker.errors import EmbeddedFailed

BINARY_VARIABLE = "OPS_MANAGER_TEMPORAL_BIN"
_DOWNLOADED = "temporal-sdk-python-*"


def find_binary(data_folder: Path) -> Path | None:
    """The `temporal` program: OPS_MANAGER_TEMPORAL_BIN, beside this Python, on the PATH, or downloaded earlier.

    Raises EmbeddedFailed when the variable names something that cannot be run.
    """
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        if not _executable(Path(named)):
            raise EmbeddedFailed(f"{BINARY_VARIABLE} names {named}, which is not a program that can be run")
        return Path(named).absolute()
    beside_python = Path(sys.executable).parent / "temporal"
    if _executable(beside_python):
        return beside_python
    on_path = shutil.which("temporal")
    if on_path:
        return Path(on_path).absolute()
    return next((path for path in sorted(_folder(data_folder).glob(_DOWNLOADED)) if _executable(path)), None)


async def obtain_binary(data_folder: Path, announce: Callable[[str], None]) -> Path:
    """The `temporal` program, downloaded into the data folder where the machine has none; `announce` is told so.

    Raises EmbeddedFailed with the ways out when there is none and it cannot be downloaded.
    """
    binary = find_binary(data_folder)
    if binary:
        return binary
    announce("No `temporal` program on this machine: downloading it from temporal.download (about 45 MB)")
    folder = _folder(data_folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # The SDK downloads only in order to start a server, so one is started and ended.
        server = await WorkflowEnvironment.start_local(download_dest_dir=str(folder), ip="127.0.0.1")
        await server.shutdown()
    except RuntimeError as error:
        raise EmbeddedFailed(
            f"there is no `temporal` program and it cannot be downloaded ({error}). Install it "
            f"(https://docs.temporal.io/cli), or name it in {BINARY_VARIABLE}, or use a Temporal server that runs: "
            "--address HOST:PORT"
        ) from None
    binary = find_binary(data_folder)
    if binary is None:
        raise EmbeddedFailed(f"the SDK left no `temporal` program in {folder}: name one in {BINARY_VARIABLE}")
    return binary


def _folder(data_folder: Path) -> Path:
    return data_folder / "bin"


def _executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
