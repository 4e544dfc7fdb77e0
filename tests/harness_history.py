"""What Temporal wrote down of a supervisor, judged."""

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import WorkflowHistory

_NO_BUG = (
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW,
    # Something arrived while the workflow was leaving for a fresh run: the server asks again, with what arrived.
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND,
    # A reset or a terminate ended the run while it was at work.
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND,
)
_NO_TIME = "TMPRL1101"
"""The SDK's mark of a task for which a crowded machine gave the worker no time."""


def failed_tasks(history: WorkflowHistory) -> list[str]:
    """The workflow tasks that failed by a bug, which stalls a supervisor until it is mended: where, cause, message."""
    failures = [
        (event.event_id, event.workflow_task_failed_event_attributes)
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    ]
    return [
        f"run {history.run_id} event {event_id}: {WorkflowTaskFailedCause.Name(failed.cause)}: {failed.failure.message}"
        for event_id, failed in failures
        if failed.cause not in _NO_BUG and _NO_TIME not in failed.failure.message
    ]
