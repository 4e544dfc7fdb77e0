"""Where histories come from: the Temporal server as long as it keeps them, and the kept histories after that."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from contract.archives import ARCHIVE_SUFFIX, archive_file, archive_folders
from contract.errors import IdentifierInvalid
from incidents.history import HistoryInvalid, Run

RPC_TIMEOUT = timedelta(seconds=30)
_GONE = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT)


@dataclass
class Collected:
    """The runs that were found, the oldest first, and where each came from; `missing` are known of and are nowhere."""

    runs: list[Run]
    sources: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


class Span:
    """A stretch of time, open where an end is None."""

    def __init__(self, since: datetime | None = None, until: datetime | None = None) -> None:
        self.since, self.until = since, until

    def overlaps(self, began: datetime, ended: datetime | None) -> bool:
        """Whether something from `began` to `ended` (None: it goes on) has a part in it."""
        early = self.since is not None and ended is not None and ended < self.since
        return not early and not (self.until is not None and began > self.until)


async def collect(
    client: Client | None, workflow_id: str, archives: Path | None, span: Span | None = None
) -> Collected:
    """Every run of a supervisor that overlaps `span`, from the server and the folder of kept histories.

    What the server still has is preferred: a run that was kept at its release lacks the last events.
    """
    span = span or Span()
    kept = kept_runs(archives, workflow_id)
    wanted = dict.fromkeys([*kept, *await _listed(client, workflow_id, span)])
    found: dict[str, Run] = {}
    collected = Collected([])
    queue = list(wanted)
    while queue:
        run_id = queue.pop()
        if run_id in found or run_id in collected.missing:
            continue
        run, source = await _fetch(client, workflow_id, run_id), "server"
        if run is None:
            run, source = _read(kept.get(run_id), workflow_id), "archives"
        if run is None:
            collected.missing.append(run_id)
            continue
        found[run_id], collected.sources[run_id] = run, source
        if run.continued_from and (span.since is None or run.started_at >= span.since):
            queue.append(run.continued_from)
    chosen = [run for run in found.values() if span.overlaps(run.began_at, run.last_at if run.ending else None)]
    collected.runs = sorted(chosen, key=lambda run: run.began_at)
    return collected


def kept_runs(archives: Path | None, workflow_id: str) -> dict[str, Path]:
    """The kept histories of a supervisor by run id."""
    if archives is None:
        return {}
    folder = archives.joinpath(*archive_folders(workflow_id))
    files = sorted(folder.glob(f"*{ARCHIVE_SUFFIX}"))
    return {run_id: path for path in files if (run_id := _run_id(path)) is not None}


def _run_id(path: Path) -> str | None:
    run_id = path.name.removesuffix(ARCHIVE_SUFFIX)
    try:
        return run_id if archive_file(run_id) == path.name else None
    except IdentifierInvalid:
        return None  # somebody else's file


def _read(path: Path | None, workflow_id: str) -> Run | None:
    try:
        return Run.from_json(workflow_id, gzip.decompress(path.read_bytes())) if path else None
    except (OSError, EOFError, zlib.error, HistoryInvalid):
        return None


async def _listed(client: Client | None, workflow_id: str, span: Span) -> list[str]:
    if client is None:
        return []
    found: list[str] = []
    try:
        newest = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=RPC_TIMEOUT)
        found.append(newest.run_id)  # visibility may not show it yet
    except RPCError as error:
        if error.status not in _GONE:
            raise
    query = "WorkflowId = '" + workflow_id.replace("\\", "\\\\").replace("'", "''") + "'"
    async for run in client.list_workflows(query, rpc_timeout=RPC_TIMEOUT):
        if span.overlaps(run.start_time.astimezone(UTC), run.close_time.astimezone(UTC) if run.close_time else None):
            found.append(run.run_id)
    return found


async def _fetch(client: Client | None, workflow_id: str, run_id: str) -> Run | None:
    if client is None:
        return None
    try:
        history = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history(rpc_timeout=RPC_TIMEOUT)
        return Run(workflow_id, history)
    except RPCError as error:
        if error.status not in _GONE:
            raise
        return None
    except HistoryInvalid:
        return None


def newest_chain(runs: Sequence[Run]) -> list[Run]:
    """The runs of the chain that began last, as far as they are at hand and follow each other without a hole."""
    if not runs:
        return []
    known = {run.run_id: run for run in runs}
    following = [runs[-1]]
    while (before := known.get(following[0].continued_from or "")) is not None:
        following.insert(0, before)
    return following
