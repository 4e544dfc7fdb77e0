"""What an operator is shown before an intent is sent, and the message that is sent: bound to what was shown."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from rich.table import Table

from cli.render import gates_words, last_event_age, process_words, promise_words, words
from cli.supervisors import Row
from cli.terminal import clean
from cli.times import moment, span
from contract.clock import parse_utc
from contract.intents import Expect, Intent, IntentMessage
from contract.status import Lifecycle, StatusReport

NOT_AFTER = timedelta(seconds=60)
"""A message that could not be started by then does nothing: it must not act on tomorrow's run."""

_WORKING = (Lifecycle.STARTING, Lifecycle.RUNNING)


def expectation(intent: Intent, report: StatusReport | None, row: Row) -> Expect | None:
    """The preconditions of an intent on what `report` shows; without a report, the sprite alone.

    Where no request is shown, a decision is bound to the run that is: it must not hit a request nobody has seen.
    """
    if report is None:
        return Expect(sprite_id=row.sprite_id) if row.sprite_id else None
    pending = report.pending_approval if intent is not Intent.CANCEL_LOOP else None
    expect = Expect(
        sprite_id=report.sprite_id,
        run_id=pending.run_id if pending else report.run_id,
        iteration=pending.iteration if pending else None,
        approval_sha256=pending.sha256 if pending else None,
    )
    return expect if expect.model_dump(exclude_none=True) else None


def message(
    by: str, note: str | None, key: str | None, expect: Expect | None, now: datetime, *, automated: bool = False
) -> IntentMessage:
    """The message to send at `now`; raises contract.errors.IntentInvalid for a bad name, note or key."""
    given = {
        "by": by,
        "note": note,
        "idempotencyKey": key or str(uuid.uuid4()),
        "expect": expect.model_dump(mode="json", by_alias=True, exclude_none=True) if expect else None,
        "notAfter": (now + NOT_AFTER).isoformat(),
        "automated": automated or None,
    }
    return IntentMessage.read({name: value for name, value in given.items() if value is not None})


def headline(intent: Intent, report: StatusReport) -> str:
    """What would be done, in one line."""
    name = f"{report.sprite}/{report.loop_id}"
    if intent is not Intent.CANCEL_LOOP:
        if report.pending_approval is None:
            return f"{intent.wire.capitalize()} {name}: NO request is known to be pending"
        return f"{intent.wire.capitalize()} the pending request of {name}"
    if report.process and report.process.state == "dead" and report.lifecycle is Lifecycle.FAILED:
        return f"Cancel {name}: clears the crashed run, nothing is killed"
    if report.lifecycle in _WORKING:
        return f"Cancel {name}: ends its run"
    return f"Cancel {name}, which is {words(report.lifecycle)}"


def request_card(intent: Intent, report: StatusReport, now: datetime) -> Table:
    """Run, iteration, age, gates and promise of what the intent is about."""
    pending = report.pending_approval if intent is not Intent.CANCEL_LOOP else None
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")

    def add(label: str, value: str) -> None:
        grid.add_row(f"  {label}", clean(value))

    add("run", (pending.run_id if pending else report.run_id) or "none yet")
    add("iteration", str((pending.iteration if pending else report.iteration) or "unknown"))
    add("state", words(report.lifecycle) + (f" since {moment(report.since, now)}" if report.since else ""))
    if pending and pending.requested_at:
        add("requested", moment(parse_utc(pending.requested_at), now))
    age = last_event_age(report, now)
    add("age", f"last event {report.last_event_name or 'unknown'}" + (f", {span(age)} ago" if age is not None else ""))
    last = " (as last evaluated)" if report.gates and not pending else ""
    add("gates", gates_words(pending.gates if pending else report.gates) + last)
    add("promise", promise_words(pending.promise if pending else report.promise_matched) + last)
    if intent is Intent.CANCEL_LOOP and report.process and report.process.state != "absent":
        add("process", process_words(report.process))
    contact = report.last_contact_at or report.observed_at
    through = "not now: blind" if report.transport.state == "blind" else f"through {words(report.transport.state)}"
    add("seen", through + (f", last contact {moment(contact, now)}" if contact else ", never"))
    for divergence in report.divergence:
        add("DIVERGED", f"{divergence.id} {divergence.type}: {divergence.detail}")
    return grid
