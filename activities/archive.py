"""`archive`: keep the history of a run of ours beyond the retention of the Temporal server.

The history is written as a whole or not at all, and one that is kept already, as far as it goes, is not written again;
so it does no harm to be asked twice, or by two workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import tempfile
import zlib
from pathlib import Path

from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

from contract.archives import ArchiveInput, ArchiveResult, archive_file, archive_folders
from contract.observation import ActivityName, FailureType

_CLOSING = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
    }
)


class ArchiveActivities:
    """Keeps histories below `folder`, which is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @activity.defn(name=ActivityName.ARCHIVE.value)
    async def archive(self, asked: ArchiveInput) -> ArchiveResult:
        """Keep a run as far as it goes now.

        Raises ApplicationError of type HistoryGone, not retried, when the server does not have it any more, and of
        type NotKept, retried, when it cannot be written.
        """
        path = self._folder.joinpath(*archive_folders(asked.workflow_id), archive_file(asked.run_id))
        handle = activity.client().get_workflow_handle(asked.workflow_id, run_id=asked.run_id)
        try:
            history = await handle.fetch_history()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            message = f"the history of run {asked.run_id} is not kept by the server any more"
            raise ApplicationError(message, type=FailureType.HISTORY_GONE.value, non_retryable=True) from None
        try:
            return await asyncio.to_thread(_keep, history, path)
        except OSError as error:
            message = f"the history of run {asked.run_id} cannot be kept in {path.parent}: {error.strerror}"
            category = (
                ApplicationErrorCategory.BENIGN
            )  # tried again, and shown with the activity; no traceback each time
            raise ApplicationError(message, type=FailureType.NOT_KEPT.value, category=category) from None


def _keep(history: WorkflowHistory, path: Path) -> ArchiveResult:
    events = len(history.events)
    complete = history.events[-1].event_type in _CLOSING
    if _kept_events(path) >= events:
        return ArchiveResult(event_count=events, complete=complete, already=True)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(gzip.compress(history.to_json().encode(), mtime=0))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    return ArchiveResult(event_count=events, complete=complete)


def _kept_events(path: Path) -> int:
    try:
        return len(json.loads(gzip.decompress(path.read_bytes()))["events"])
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError):
        return 0
