"""Reports as an operator reads them: pure functions from models to text and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from rich.table import Table
from rich.text import Text

from cli.supervisors import Absence, Row
from cli.terminal import clean
from cli.times import ago, full_moment, moment, span
from contract.observation import ObserveHeartbeat, TransportMode
from contract.status import Attention, IntentRecord, IntentStage, Lifecycle, ProcessReport, StatusReport

SHOWN_INTENTS = 5
SHOWN_CHANGES = 3
_NARROW = 60
POLLER_MEMORY = timedelta(minutes=5)
"""For how long the server remembers a poller: without one, the last was longer ago than this."""

_CALM = {Attention.NONE, Attention.STOPPED}
_ASKING = {
    Attention.APPROVAL_WAITING,
    Attention.APPROVED_NOT_RESUMED,
    Attention.STALE,
    Attention.SERVICE_DOWN,
    Attention.LOOP_MISSING,
}
_LIFECYCLE_STYLES = {
    Lifecycle.RUNNING: "green",
    Lifecycle.STARTING: "green",
    Lifecycle.COMPLETE: "green",
    Lifecycle.AWAITING_APPROVAL: "yellow",
    Lifecycle.DECIDED: "yellow",
    Lifecycle.FAILED: "red",
    Lifecycle.STOPPED: "yellow",
}
_STAGE_STYLES = {
    IntentStage.RECORDED: "green",
    IntentStage.CONFIRMED: "green",
    IntentStage.EXECUTED_UNCONFIRMED: "yellow",
    IntentStage.REJECTED: "yellow",
    IntentStage.EXPIRED: "yellow",
    IntentStage.AMBIGUOUS: "red",
    IntentStage.FAILED_COMMAND: "red",
}


def words(value: str) -> str:
    """`awaiting approval` for `awaiting_approval`."""
    return value.replace("_", " ")


def attention_words(attention: Attention) -> str:
    """A reason for people: what waits for its next run may also be a rejection."""
    return "decision not resumed" if attention is Attention.APPROVED_NOT_RESUMED else words(attention)


def attention_style(attention: Attention) -> str:
    """How loud a reason is."""
    if attention in _CALM:
        return ""
    return "yellow" if attention in _ASKING else "bold red"


def lifecycle_style(lifecycle: Lifecycle) -> str:
    """The colour of a lifecycle."""
    return _LIFECYCLE_STYLES.get(lifecycle, "")


def stage_style(stage: IntentStage) -> str:
    """The colour of an intent's stage."""
    return _STAGE_STYLES.get(stage, "")


def absence_sentence(absence: Absence, as_of: datetime | None, now: datetime) -> str:
    """`NO WORKER since ..., shown as of ...`."""
    since = moment(absence.since, now) if absence.since else f"before {moment(now - POLLER_MEMORY, now)}"
    shown = f"shown as of {moment(as_of, now)}" if as_of else "nothing was ever observed"
    return f"NO WORKER since {since} ({absence.detail}), {shown}"


def absence_json(absence: Absence | None) -> dict[str, Any] | None:
    """`{since, detail}`, or None when a worker answers. `since` is null where the server remembers none."""
    return {"since": _json_time(absence.since), "detail": absence.detail} if absence else None


def _json_time(instant: datetime | None) -> str | None:
    return instant.isoformat().replace("+00:00", "Z") if instant else None


def row_json(row: Row, absence: Absence | None) -> dict[str, Any]:
    """One entry of `list -o json`."""
    return {
        "loop": row.name,
        "sprite": row.sprite,
        "loopId": row.loop_id,
        "spriteId": row.sprite_id,
        "workflowId": row.workflow_id,
        "status": row.status.value,
        "attention": row.attention.value,
        "transport": row.transport or None,
        "observedAt": _json_time(row.observed_at),
        "noWorker": absence_json(absence),
    }


def rows_table(rows: Iterable[Row], now: datetime, width: int) -> Table:
    """The table of `list`. NEWS: when something about the loop last changed, not when it was last looked at.

    In a narrow terminal what decides least is left out.
    """
    headings = ["LOOP", "STATUS", "ATTENTION", "THROUGH", "NEWS"][: None if width >= _NARROW else 3]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading not in ("LOOP", "ATTENTION"))
    for row in rows:
        attention = "-" if row.attention is Attention.NONE else attention_words(row.attention)
        cells = (
            clean(row.name),
            Text(words(row.status), lifecycle_style(row.status)),
            Text(attention, attention_style(row.attention)),
            words(clean(row.transport)) or "-",
            ago(row.observed_at, now) or "none yet",
        )
        table.add_row(*cells[: len(headings)])
    return table


def row_card(row: Row) -> Table:
    """What is known of a loop without its supervisor: search attributes only."""
    grid = _grid()
    _add(grid, "loop", row.name)
    _add(grid, "lifecycle", words(row.status), lifecycle_style(row.status))
    _add(grid, "attention", attention_words(row.attention), attention_style(row.attention))
    _add(grid, "transport", words(clean(row.transport)) or "unknown")
    _add(grid, "observed", full_moment(row.observed_at))
    return grid


def row_report(row: Row, absence: Absence) -> dict[str, Any]:
    """`status -o json` without a worker: the fields of a status report that search attributes can fill."""
    return {
        "sprite": row.sprite,
        "loopId": row.loop_id,
        "spriteId": row.sprite_id,
        "lifecycle": row.status.value,
        "reason": None,
        "since": None,
        "observedAt": _json_time(row.observed_at),
        "lastContactAt": None,
        "runId": None,
        "iteration": None,
        "cursor": None,
        "transport": {"state": row.transport} if row.transport else None,
        "attention": {"code": row.attention.value},
        "divergence": None,
        "intents": None,
        "conditions": None,
        "notices": None,
        "asOf": {"runId": row.run_id, "historyLength": None},
        "source": "search_attributes",
        "noWorker": absence_json(absence),
    }


def report_json(report: StatusReport) -> dict[str, Any]:
    """`status -o json` of a supervisor that answered."""
    return {**report.model_dump(mode="json", by_alias=True), "source": "workflow", "noWorker": None}


def with_contact(report: StatusReport, heartbeat: ObserveHeartbeat | None) -> StatusReport:
    """The report with the observer's latest contact: what is no news reaches the heartbeat only."""
    seen = heartbeat.last_contact_at if heartbeat else None
    if seen is None or (report.last_contact_at and report.last_contact_at >= seen):
        return report
    return report.model_copy(update={"last_contact_at": seen})


def status_card(report: StatusReport, heartbeat: ObserveHeartbeat | None, now: datetime) -> Table:
    """The card of `status`."""
    grid = _grid()
    _add(grid, "loop", f"{report.sprite}/{report.loop_id}")
    since = f" since {moment(report.since, now)}" if report.since else ""
    reason = f": {clean(report.reason)}" if report.reason else ""
    _add(grid, "lifecycle", words(report.lifecycle) + reason + since, lifecycle_style(report.lifecycle))
    _add_attention(grid, report, now)
    _add_run(grid, report, now)
    _add_sight(grid, report, heartbeat, now)
    _add_divergence(grid, report, now)
    _add_conditions(grid, report, now)
    _add_notices(grid, report, now)
    _add_intents(grid, report, now)
    _add(grid, "as of", f"workflow run {report.as_of.run_id}, history length {report.as_of.history_length}", "dim")
    return grid


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _add(grid: Table, label: str, value: str, style: str = "") -> None:
    grid.add_row(label, Text(clean(value), style))


def _add_attention(grid: Table, report: StatusReport, now: datetime) -> None:
    attention = report.attention
    if attention.code is Attention.NONE:
        known = "none: nobody is needed" if report.observed_at else "unknown: nothing was observed yet"
        _add(grid, "attention", known)
        return
    since = f" since {moment(attention.since, now)}" if attention.since else ""
    sentence = f"{attention_words(attention.code)}{since}: {attention.sentence}"
    _add(grid, "attention", sentence, attention_style(attention.code))


def _add_run(grid: Table, report: StatusReport, now: datetime) -> None:
    if report.run_id is None:
        _add(grid, "run", "none yet")
        return
    line = f" (since line {report.run_line})" if report.run_line else ""
    _add(grid, "run", f"{report.run_id}, iteration {report.iteration or 0}{line}")
    _add_gates(grid, report)
    if report.last_event_name:
        age = last_event_age(report, now)
        _add(grid, "last event", report.last_event_name + (f", {span(age)} ago" if age is not None else ""))
    if report.process and report.process.state != "absent":
        _add(grid, "process", process_words(report.process))


def _add_gates(grid: Table, report: StatusReport) -> None:
    """Of the last iteration that got that far, which may be one of an earlier run."""
    if not report.gates:
        _add(grid, "last gates", "none evaluated yet")
        return
    earlier = f" (of run {report.gates_run_id})" if report.gates_run_id not in (None, report.run_id) else ""
    promise = promise_words(report.promise_matched)
    _add(grid, "last gates", f"{gates_words(report.gates)}; promise {promise}{earlier}")


def last_event_age(report: StatusReport, now: datetime) -> float | None:
    """Seconds since the last event: its age on the sprite's clock when observed, advanced by the manager's."""
    if report.last_event_age_s is None or report.observed_at is None:
        return None
    return report.last_event_age_s + max(0.0, (now - report.observed_at).total_seconds())


def gates_words(gates: Mapping[str, Any]) -> str:
    """`tests ok, validation skipped`; `none evaluated` for an empty map (D2: it is an open map)."""
    return ", ".join(f"{clean(name)} {clean(value)}" for name, value in gates.items()) or "none evaluated"


def promise_words(matched: bool | None) -> str:
    """Whether the agent said that it is done."""
    return {True: "matched", False: "not matched", None: "unknown"}[matched]


def process_words(process: ProcessReport) -> str:
    """What the scan for run processes found."""
    if process.state != "alive":
        return {"dead": "no run process", "unknown": "unknown"}.get(process.state, process.state)
    others = len(process.runs) - 1
    more = f" and {others} more in this repo" if others > 0 else ""
    return f"alive, pid {process.pid}{more}"


def _add_sight(grid: Table, report: StatusReport, heartbeat: ObserveHeartbeat | None, now: datetime) -> None:
    observed = f"{moment(report.observed_at, now)} ({ago(report.observed_at, now)})" if report.observed_at else "never"
    contact = report.last_contact_at
    shown = f"{moment(contact, now)} ({ago(contact, now)})" if contact else "never"
    _add(grid, "observed", f"{observed}; last contact {shown}")
    transport = report.transport
    since = f" since {moment(transport.since, now)}" if transport.since else ""
    only = " (the only one)" if transport.local_only else ""
    why = f": {clean(transport.reason)}" if transport.reason else ""
    failing = ""
    if heartbeat and heartbeat.transport_failures:
        first = f" since {moment(heartbeat.failing_since, now)}" if heartbeat.failing_since else ""
        failing = (
            f"; {heartbeat.transport_failures} failures{first}: {clean(heartbeat.last_error or 'no reason given')}"
        )
    to = "" if transport.mode == transport.state else f" to {words(transport.mode)}"
    pinned = f" (pinned{to} by {clean(transport.pinned_by or '')})" if transport.mode is not TransportMode.AUTO else ""
    style = "bold red" if transport.state == "blind" else "yellow" if failing else ""
    _add(grid, "transport", f"{words(transport.state)}{only}{pinned}{since}{why}{failing}", style)
    for change in transport.changes[-SHOWN_CHANGES:]:
        by = f" by {clean(change.by)}" if change.by else ""
        _add(
            grid, "", f"{moment(change.at, now)} {words(change.from_state)} -> {words(change.to)}{by}: {change.reason}"
        )
    if report.automation.frozen and report.observed_at:
        _add(grid, "automation", f"frozen: {'; '.join(report.automation.reasons)}", "yellow")
    cursor = report.cursor
    head = "at the head" if cursor.at_head else "catching up" if report.observed_at else "nothing read yet"
    doubts = f", {cursor.quarantined} quarantined" if cursor.quarantined else ""
    if cursor.unverifiable_from:
        doubts += f", chain unverifiable from line {cursor.unverifiable_from}"
    chain = (cursor.chain or "none")[:16]
    _add(grid, "cursor", f"line {cursor.event_line_offset}, epoch {cursor.epoch}, chain {chain}, {head}{doubts}")


def _add_divergence(grid: Table, report: StatusReport, now: datetime) -> None:
    if not report.divergence:
        _add(grid, "divergence", "none")
    for divergence in report.divergence:
        _add(
            grid,
            "divergence",
            f"{divergence.id} {divergence.type} since {moment(divergence.since, now)}: {divergence.detail}".lstrip(),
            "bold red",
        )
    for closed in report.resolved_divergence[-SHOWN_CHANGES:]:
        by = f" by {closed.resolved_by}" if closed.resolved_by else ""
        told = f"{closed.id} {closed.type} resolved {moment(closed.resolved_at, now)}{by}: {closed.resolution}"
        _add(grid, "", told, "dim")


def _add_conditions(grid: Table, report: StatusReport, now: datetime) -> None:
    """What else is open: the most urgent is the attention already."""
    for number, condition in enumerate(report.conditions[1:]):
        since = f" since {moment(condition.since, now)}" if condition.since else ""
        told = f"{attention_words(condition.kind)}{since}: {condition.sentence}"
        _add(grid, "" if number else "also", told, attention_style(condition.kind))


def _add_notices(grid: Table, report: StatusReport, now: datetime) -> None:
    notices = report.notices
    if notices is None:
        return
    last = f", the last {moment(notices.last_delivered_at, now)}" if notices.last_delivered_at else ""
    told = f"{notices.delivered} delivered{last}; {notices.pending} waiting"
    if notices.last_error:
        since = f" since {moment(notices.failing_since, now)}" if notices.failing_since else ""
        told += f"; NOT taken{since}: {clean(notices.last_error)}"
    if notices.undelivered_count:
        told += f"; {notices.undelivered_count} given up"
    if notices.collapsed:
        told += f"; {notices.collapsed} dropped in pairs, too many waited"
    _add(grid, "notices", told, "yellow" if notices.last_error or notices.undelivered_count else "")


def _add_intents(grid: Table, report: StatusReport, now: datetime) -> None:
    if not report.intents:
        _add(grid, "intents", "none")
    for number, record in enumerate(reversed(report.intents[-SHOWN_INTENTS:])):
        _add(grid, "" if number else "intents", intent_line(record, now), stage_style(record.stage))


def intent_line(record: IntentRecord, now: datetime) -> str:
    """One intent on one line, what became of it first."""
    told = outcome_words(record.stage, record.sentence or record.reason)
    return f"{moment(record.received_at, now)} {record.intent} by {clean(record.by)}: {told}"


def outcome_words(stage: IntentStage, told: str) -> str:
    """The stage and what is told about it, without saying `recorded: Recorded: ...`."""
    told, name = clean(told), words(stage)
    if not told or told.lower().startswith(name):
        return told or name
    return f"{name}: {told}"
