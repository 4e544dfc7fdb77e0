"""The acts: each does one thing, waits until the supervisor has seen it, and returns the evidence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cli.demo.programme import Play
from cli.demo.report import ActMissing
from cli.exit_codes import ExitCode
from contract.clock import format_utc
from contract.intents import Intent
from contract.observation import Transport
from contract.status import IntentRecord, IntentStage, Lifecycle, StatusReport

Evidence = dict[str, Any]
OPERATOR = ("--by", "ana", "--yes")


@dataclass(frozen=True)
class Act:
    """One act: its name in the report, its title on the screen, and what happens."""

    name: str
    title: str
    perform: Callable[[Play], Awaitable[Evidence]]


def _time(instant: datetime | None) -> str | None:
    return format_utc(instant) if instant else None


def _seen(report: StatusReport) -> Evidence:
    return {
        "lifecycle": report.lifecycle.value,
        "reason": report.reason,
        "since": _time(report.since),
        "runId": report.run_id,
        "iteration": report.iteration,
        "line": report.cursor.event_line_offset,
        "chain": report.cursor.chain,
        "transport": report.transport.state,
    }


def _told(record: IntentRecord) -> Evidence:
    return {
        "intent": record.intent,
        "by": record.by,
        "stage": record.stage.value,
        "sentence": record.sentence,
        "argv": record.argv,
        "stages": [
            {"stage": stage.stage.value, "at": _time(stage.at), "evidence": stage.evidence, "line": stage.line}
            for stage in record.stages
        ],
    }


async def _iterations(play: Play) -> Evidence:
    play.stage.run_superloop()
    first = await play.until(lambda r: r.lifecycle is Lifecycle.RUNNING, "a running loop")
    second = await play.until(lambda r: (r.iteration or 0) >= 2, "a second iteration")
    return {"first": _seen(first), "second": _seen(second)}


async def _approval_pending(play: Play) -> Evidence:
    report = await play.until(lambda r: r.lifecycle is Lifecycle.AWAITING_APPROVAL, "a request for approval")
    return {**_seen(report), "attention": report.attention.sentence}


async def _approved_by_signal(play: Play) -> Evidence:
    if await play.signal_approval() != 0:
        raise ActMissing("a signal sent by the Temporal CLI")
    record = await play.intent_until(Intent.APPROVE_PENDING, lambda r: r.stage is IntentStage.RECORDED, "recorded")
    return _told(record)


async def _approval_consumed(play: Play) -> Evidence:
    play.stage.run_superloop()
    record = await play.intent_until(Intent.APPROVE_PENDING, lambda r: r.stage is IntentStage.CONFIRMED, "confirmed")
    report = await play.until(lambda r: r.lifecycle is Lifecycle.COMPLETE, "a completed loop")
    return {**_told(record), "end": _seen(report)}


async def _service_lost(play: Play) -> Evidence:
    play.stage.run_superloop()
    before = await play.until(lambda r: r.lifecycle is Lifecycle.RUNNING, "a running loop")
    pid = play.stage.kill("service")
    local = await play.until(lambda r: r.transport.state == Transport.LOCAL.value, "the local transport", 40)
    line = before.cursor.event_line_offset
    seen = await play.until(
        lambda r: r.transport.state == Transport.LOCAL.value and r.cursor.event_line_offset > line,
        "new lines through the local transport",
    )
    return {"killedPid": pid, "why": local.transport.reason, "before": _seen(before), "through": _seen(seen)}


async def _service_back(play: Play) -> Evidence:
    play.stage.serve()
    report = await play.until(
        lambda r: r.transport.state == Transport.SPRITE_SERVICE.value, "the sprite service again", 60
    )
    line = report.cursor.event_line_offset
    seen = await play.until(lambda r: r.cursor.event_line_offset > line, "new lines through the service")
    return {"since": _time(report.transport.since), "through": _seen(seen)}


async def _crash(play: Play) -> Evidence:
    # While a role works: the runtime truncates state.json before it writes it, and killed in between it leaves an empty
    # file, from which nobody can tell a crash.
    await play.until_on_stage(lambda: play.stage.role_works("implementer"), "a role at work")
    pid = play.stage.kill("run")
    report = await play.until(
        lambda r: (r.lifecycle, r.reason) == (Lifecycle.FAILED, "crashed"), "a crash that is recognised"
    )
    return {"killedPid": pid, **_seen(report), "attention": report.attention.sentence}


async def _crash_cleared(play: Play) -> Evidence:
    return await _cancel(play, "the crashed run cleared")


async def _cancelled(play: Play) -> Evidence:
    pid = play.stage.run_superloop()
    await play.until(lambda r: r.lifecycle is Lifecycle.RUNNING, "a running loop")
    evidence = await _cancel(play, "a cancel that is confirmed")
    await play.until_on_stage(lambda: play.stage.has_ended("run"), "the end of the cancelled run")
    return {"runPid": pid, **evidence}


async def _cancel(play: Play, what: str) -> Evidence:
    code = await play.command("cancel", play.loop, *OPERATOR)
    record = await play.intent_until(Intent.CANCEL_LOOP, lambda r: r.stage is IntentStage.CONFIRMED, what)
    if code != ExitCode.DONE:
        raise ActMissing(f"exit code 0 of ops-manager cancel (it was {code})")
    report = await play.until(lambda r: r.lifecycle is Lifecycle.STOPPED, "a stopped loop")
    return {**_told(record), "end": _seen(report)}


async def _waiting_again(play: Play) -> Evidence:
    play.stage.run_superloop()
    return await _approval_pending(play)


async def _completed(play: Play) -> Evidence:
    await _waiting_again(play)
    if await play.command("approve", play.loop, *OPERATOR, "--note", "looks good") != ExitCode.DONE:
        raise ActMissing("exit code 0 of ops-manager approve")
    play.stage.run_superloop()
    record = await play.intent_until(Intent.APPROVE_PENDING, lambda r: r.stage is IntentStage.CONFIRMED, "confirmed")
    report = await play.until(lambda r: r.lifecycle is Lifecycle.COMPLETE, "a completed loop")
    return {**_told(record), "end": _seen(report)}


ACTS = [
    Act("iterations", "A loop works; iterations go by", _iterations),
    Act("approval_pending", "It asks for approval", _approval_pending),
    Act("approved_by_signal", "Ana approves, with a signal from the Temporal CLI", _approved_by_signal),
    Act("approval_confirmed", "The next run consumes the approval", _approval_consumed),
    Act("service_lost", "The sprite's service is killed in mid-run", _service_lost),
    Act("service_back", "The service comes back", _service_back),
    Act("crash_recognised", "The run is killed", _crash),
    Act("crash_cleared", "The crashed run is cleared", _crash_cleared),
    Act("cancel_confirmed", "A run that hangs is cancelled", _cancelled),
    Act("completion", "One more run, approved, completes", _completed),
]
AT_WORK_AGAIN = Act("approval_pending_again", "One more run asks for approval", _waiting_again)
"""What stands in the place of the last act when the demo is to stay up."""
