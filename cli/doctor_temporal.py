"""Is Temporal what supervisors need: reachable, keeping history, knowing our attributes, polled by workers."""

from __future__ import annotations

from datetime import UTC, datetime

from temporalio.service import RPCError

from cli.checks import Finding, fail, ok, warn
from cli.exit_codes import ExitCode
from cli.session import Session
from cli.status import ANSWER_WITHIN_S
from cli.supervisors import RUNNING, Absence, Row, is_recent, last_poll, running_supervisors, worker_absence
from cli.times import ago, span
from contract.identifiers import control_task_queue, local_task_queue, notices_task_queue, observe_task_queue
from contract.observation import Transport
from contract.status import Attention
from worker.bootstrap import RETENTION, missing_search_attributes, read_retention
from worker.errors import SearchAttributesMissing

SKEW_WARN_S = 10.0
"""Messages of the command line end 60 s after they were sent; a clock this far off eats into that."""

_NEEDS_LOCAL = (Transport.LOCAL.value, "blind")


async def temporal_findings(session: Session) -> list[Finding]:
    """Everything about the server, the namespace and the workers."""
    target = session.target
    found = [ok("Temporal", f"{target.address} ({target.source}), namespace {target.namespace}")]
    found.append(await _retention(session))
    attributes = await _search_attributes(session)
    found.append(attributes)
    known = attributes.exit_code is ExitCode.DONE
    rows = await running_supervisors(session.client) if known else []
    found += await _queues(session, rows)
    if known:
        found += [*await _local_queues(session, rows), *await _stuck(session), _supervised(session, rows)]
    return found


async def _retention(session: Session) -> Finding:
    kept = await read_retention(session.client)
    days = f"closed runs are kept for {span(kept.total_seconds())}"
    if kept >= RETENTION or not kept:
        return ok("retention", days if kept else "the server does not say")
    fix = session.temporal_command("operator", "namespace", "update", "--retention", f"{RETENTION.days}d")
    return warn("retention", f"{days}: an incident is often looked into later", fix)


async def _search_attributes(session: Session) -> Finding:
    about = "search attrs"
    try:
        missing = await missing_search_attributes(session.client)
    except SearchAttributesMissing as error:
        return fail(
            about, str(error), "use another namespace, or remove it there if nothing uses it", ExitCode.UNREACHABLE
        )
    if not missing:
        return ok(about, "all there")
    names = ", ".join(key.name for key in missing)
    return fail(
        about, f"missing: {names}", f"a worker registers them: {session.command('worker')}", ExitCode.UNREACHABLE
    )


async def _queues(session: Session, rows: list[Row]) -> list[Finding]:
    queue = session.settings.task_queue
    serves = {
        "supervision": queue,
        "observation": observe_task_queue(queue),
        "control": control_task_queue(queue),
        "notices": notices_task_queue(queue),
    }
    absence = await worker_absence(session.client, rows, within_s=ANSWER_WITHIN_S)
    newest: datetime | None = None
    found = []
    for about, name in serves.items():
        poll = await last_poll(session.client, name)
        newest = max(filter(None, (newest, poll)), default=None)
        found.append(_queue(session, about, name, poll, absence))
    return [*found, *_skew(newest, datetime.now(UTC))]


def _queue(session: Session, about: str, name: str, poll: datetime | None, absence: Absence | None) -> Finding:
    """A poll proves little: the server remembers it for minutes. Where there is a supervisor, its answer does."""
    if is_recent(poll) and absence is None:
        return ok(about, f"a worker polls {name}")
    seen = f"the last poll was at {poll:%H:%M:%SZ}" if poll else "nobody polled in the last 5 minutes"
    why = f", and {absence.detail}" if absence and is_recent(poll) else ""
    fix = f"start one: {session.command('worker')}"
    return fail(about, f"no worker serves {name}: {seen}{why}", fix, ExitCode.UNREACHABLE)


def _skew(newest_poll: datetime | None, now: datetime) -> list[Finding]:
    """A poll cannot have begun in the future: then this clock is behind the server's."""
    ahead = (newest_poll - now).total_seconds() if newest_poll else 0.0
    if ahead < SKEW_WARN_S:
        return []
    return [warn("clock", f"this machine's clock is {span(ahead)} behind Temporal's", "set it: timedatectl")]


async def _local_queues(session: Session, rows: list[Row]) -> list[Finding]:
    """Who can take over when a service fails; a failure only where a loop has nothing else."""
    found = []
    for sprite in sorted({row.sprite for row in rows}):
        name = local_task_queue(session.settings.task_queue, sprite)
        about = f"local {sprite}"
        poll = await last_poll(session.client, name)
        if poll and is_recent(poll):
            found.append(ok(about, f"a worker polled {name} {ago(poll, datetime.now(UTC))}"))
        elif not any(row.transport in _NEEDS_LOCAL for row in rows if row.sprite == sprite):
            found.append(ok(about, "not served: without its service this sprite cannot be seen"))
        else:
            fix = f"on the machine that has the repo: {session.command('worker', '--repo', 'PATH', '--sprite', sprite)}"
            found.append(fail(about, f"no worker serves {name}, and a loop needs it", fix, ExitCode.TRANSPORT))
    return found


async def _stuck(session: Session) -> list[Finding]:
    """Supervisors whose workflow task keeps failing: the server marks them after a while."""
    try:
        count = await session.client.count_workflows(f"{RUNNING} AND TemporalReportedProblems IS NOT NULL")
    except RPCError:
        # A server that does not know the attribute does not mark them.
        return []
    if not count.count:
        return []
    fix = session.temporal_command("workflow", "list", "--query", "TemporalReportedProblems IS NOT NULL")
    return [fail("stuck", f"{count.count} supervisors cannot go on", f"see {fix}", ExitCode.UNREACHABLE)]


def _supervised(session: Session, rows: list[Row]) -> Finding:
    needing = [row.name for row in rows if row.attention is not Attention.NONE]
    if not needing:
        return ok("loops", f"{len(rows)} supervised, none needs a human")
    need = "1 needs" if len(needing) == 1 else f"{len(needing)} need"
    return warn("loops", f"{len(rows)} supervised, {need} a human", session.command("list", "--needs-me"))
