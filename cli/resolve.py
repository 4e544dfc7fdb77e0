"""From the name that was typed to the one supervisor that is meant, or a refusal that helps."""

from __future__ import annotations

import asyncio

from temporalio.client import WorkflowExecutionDescription, WorkflowExecutionStatus

from cli.errors import NotFound, UsageProblem
from cli.names import LoopName, near_names
from cli.session import Session
from cli.supervisors import Row, by_attention, describe, quoted, row_of, running_supervisors
from contract.status import SearchAttribute

_VISIBILITY_LAG_S = 0.4
"""A supervisor started a moment ago may not be visible yet."""


async def resolve(session: Session, name: LoopName) -> Row:
    """The running supervisor that `name` means.

    Raises UsageProblem when several may be meant (none is acted on), NotFound with near names when none is.
    """
    if name.workflow_id:
        description = await describe(session.client, name.workflow_id)
        row = row_of(description) if description else None
        if row and description and description.status is WorkflowExecutionStatus.RUNNING:
            return row
        raise await _not_found(session, name, description)
    condition = f"{SearchAttribute.LOOP_ID} = {quoted(name.loop_id)}"
    rows = await running_supervisors(session.client, condition)
    if not rows:
        await asyncio.sleep(_VISIBILITY_LAG_S)
        rows = await running_supervisors(session.client, condition)
    if len(rows) > 1:
        candidates = "\n".join(f"  {row.name}" for row in by_attention(rows))
        raise UsageProblem(f"{name.loop_id!r} names {len(rows)} loops; nothing was done. Say which:\n{candidates}")
    if not rows:
        raise await _not_found(session, name, None)
    return rows[0]


async def resolve_all(session: Session, names: tuple[LoopName, ...]) -> list[Row]:
    """Every supervisor that is named; all that run when none is."""
    if not names:
        return by_attention(await running_supervisors(session.client))
    return [await resolve(session, name) for name in names]


async def _not_found(session: Session, name: LoopName, ended: WorkflowExecutionDescription | None) -> NotFound:
    if ended:
        word = "released" if ended.status is WorkflowExecutionStatus.CANCELED else f"ended ({_word(ended.status)})"
        when = f" at {ended.close_time:%Y-%m-%d %H:%M:%SZ}" if ended.close_time else ""
        return NotFound(
            f"{name} is not supervised any more: {word}{when}. "
            f"To supervise it again: {session.command('supervise', '--help')}"
        )
    known = [row.name for row in await running_supervisors(session.client)]
    near = near_names(name, known)
    if near:
        hint = "Did you mean:\n" + "\n".join(f"  {candidate}" for candidate in near)
    elif known:
        hint = f"Those that are: {session.command('list')}"
    else:
        hint = f"None is, at {session.target.address}. To supervise one: {session.command('supervise', '--help')}"
    return NotFound(f"No loop {str(name)!r} is supervised. {hint}")


def _word(status: WorkflowExecutionStatus | None) -> str:
    return status.name.lower().replace("_", " ") if status else "unknown"
