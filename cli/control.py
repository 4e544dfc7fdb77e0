"""`ops-manager cancel|approve|reject LOOP`: show, ask, send, and tell what really happened."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import click
from temporalio.service import RPCError, RPCStatusCode

from cli import terminal
from cli.asking import expectation, headline, message, request_card
from cli.errors import Ambiguous, Interrupted, NotFound, Refused, UsageProblem
from cli.exit_codes import ExitCode, for_intent
from cli.follow import Followed, follow, reached
from cli.names import LOOP, LoopName
from cli.render import absence_sentence, words
from cli.resolve import resolve
from cli.session import Connection, Session, connection_options, with_session
from cli.supervisors import Absence, Row, ask_status, look_now
from cli.terminal import clean
from cli.times import full_moment, moment, span
from contract.errors import IntentInvalid
from contract.intents import Expect, Intent, IntentMessage
from contract.status import Attention, IntentRecord, IntentStage, StatusReport
from worker.connection import RPC_TIMEOUT

RECORDED_TIMEOUT_S = 120.0
"""Past the message's own end (60 s), the command's time limit and the supervisor's wait for the record."""
CONFIRMED_TIMEOUT_S = 180.0
"""The same for a cancel, whose confirmation alone may take a minute. An approval is consumed whenever a run begins:
that wait has no end of its own."""
PATIENT_S = 5.0
"""For the last question, whose answer decides the exit code."""
_HINT_AFTER_S = 3.0


@dataclass(frozen=True)
class Request:
    """What was typed."""

    intent: Intent
    by: str
    note: str | None
    key: str | None
    expect_run: str | None
    automated: bool
    assume_yes: bool
    wanted: IntentStage
    wait: bool
    timeout_s: float | None


def _control_command(intent: Intent, default_wait: IntentStage, help_text: str) -> click.Command:
    @click.command(name=intent.wire, help=help_text, short_help=help_text.partition(".")[0] + ".")
    @click.argument("loop", type=LOOP)
    @click.option("--by", metavar="NAME", help="Who asks. Default: $USER.")
    @click.option("--note", metavar="TEXT", help="Why, for the record.")
    @click.option("--yes", is_flag=True, help="Do not ask. Needed where no terminal is.")
    @click.option(
        "--wait-for",
        type=click.Choice([IntentStage.RECORDED.value, IntentStage.CONFIRMED.value]),
        default=default_wait.value,
        show_default=True,
        help="The stage to wait for.",
    )
    @click.option("--no-wait", is_flag=True, help="Send and return; nothing is known about the outcome then.")
    @click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Longest wait for the stage.")
    @click.option("--idempotency-key", metavar="KEY", help="Send under this key: one effect however often it is sent.")
    @click.option("--expect-run", metavar="RUN_ID", help="Act on this run only, whatever is shown.")
    @click.option("--automated", is_flag=True, help="A program decided this: refused while the picture is in doubt.")
    @connection_options
    def command(
        connection: Connection,
        loop: LoopName,
        by: str | None,
        note: str | None,
        yes: bool,
        wait_for: str,
        no_wait: bool,
        timeout: float | None,
        idempotency_key: str | None,
        expect_run: str | None,
        automated: bool,
    ) -> ExitCode:
        who = by or os.environ.get("USER") or os.environ.get("LOGNAME")
        if not who:
            raise UsageProblem("Say who asks: --by NAME ($USER is not set)")
        wanted = IntentStage(wait_for)
        request = Request(
            intent=intent,
            by=who,
            note=note,
            key=idempotency_key,
            expect_run=expect_run,
            automated=automated,
            assume_yes=yes,
            wanted=wanted,
            wait=not no_wait,
            timeout_s=timeout if timeout is not None else default_timeout_s(intent, wanted),
        )
        # What cannot be sent must not be asked about.
        _message(request, None, None)
        if not yes and not terminal.person_is_there():
            raise UsageProblem("Nothing was sent: this is no terminal to ask on. Add --yes to send without a question")
        return with_session(connection, lambda session: _act(session, loop, request))

    return command


def default_timeout_s(intent: Intent, wanted: IntentStage) -> float | None:
    """Seconds to wait when nobody says; None: as long as it takes."""
    if wanted is IntentStage.RECORDED:
        return RECORDED_TIMEOUT_S
    return CONFIRMED_TIMEOUT_S if intent is Intent.CANCEL_LOOP else None


def _message(request: Request, report: StatusReport | None, row: Row | None) -> IntentMessage:
    before = _sent_before(request, report)
    # Sent again, it is the same message: bound to what was shown the first time, whatever has happened since.
    expect = before.expect if before else expectation(request.intent, report, row) if row else None
    if request.expect_run is not None and before is None:
        expect = (expect or Expect()).model_copy(update={"run_id": request.expect_run})
    try:
        now = datetime.now(UTC)
        return message(request.by, request.note, request.key, expect, now, automated=request.automated)
    except IntentInvalid as error:
        raise UsageProblem(f"Nothing was sent: {error}") from None


def _sent_before(request: Request, report: StatusReport | None) -> IntentRecord | None:
    """What was sent under this key, unless nothing was done then: trying that again is a new message."""
    known = report.intents if report else []
    nothing_done = (IntentStage.REJECTED, IntentStage.EXPIRED)
    return next((sent for sent in known if sent.key == request.key and sent.stage not in nothing_done), None)


async def _act(session: Session, loop: LoopName, request: Request) -> ExitCode:
    row = await resolve(session, loop)
    # What is asked about, and what the message is bound to, must be what is there now: a resting loop is looked at once
    # a minute, and a run may have begun since.
    answer = await look_now(session.client, row)
    report = None if isinstance(answer, Absence) else answer
    _show(session, row, answer, request)
    if not request.assume_yes:
        _ask(request, row)
    sent = _message(request, report, row)
    await _send(session, row, request, sent)
    if isinstance(answer, Absence):
        return _queued(session, row, answer.detail, sent)
    if not request.wait:
        terminal.data(f"Sent, outcome unknown (key {sent.idempotency_key}). See: {_see(session, row)}")
        return ExitCode.DONE
    after = max((record.sequence for record in answer.intents), default=0)
    return await _wait(session, row, request, sent, after)


def _show(session: Session, row: Row, answer: StatusReport | Absence, request: Request) -> None:
    now = datetime.now(UTC)
    if isinstance(answer, Absence):
        terminal.warn(absence_sentence(answer, row.observed_at, now))
        terminal.say(f"{request.intent.wire.capitalize()} {row.name}, last seen {words(row.status)}")
    else:
        terminal.say(headline(request.intent, answer))
        terminal.say_rich(request_card(request.intent, answer, now))
    note = f', note "{clean(request.note)}"' if request.note else ""
    terminal.say(f"  as {clean(request.by)}{note}")


def _ask(request: Request, row: Row) -> None:
    # asyncio makes the first Ctrl-C a cancellation, which a question that blocks would never see.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yes = click.confirm(f"Send {request.intent.wire} to {row.name} as {clean(request.by)}?", err=True)
    except click.Abort:
        raise Interrupted("\nNothing was sent.") from None
    finally:
        signal.signal(signal.SIGINT, before)
    if not yes:
        raise Refused("Nothing was sent.")


async def _send(session: Session, row: Row, request: Request, sent: IntentMessage) -> None:
    body = sent.model_dump(mode="json", by_alias=True, exclude_none=True)
    try:
        handle = session.client.get_workflow_handle(row.workflow_id)
        await handle.signal(request.intent.value, body, rpc_timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotFound(f"Nothing was sent: {row.name} has just been released") from None
        if error.status not in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
            raise
        raise Ambiguous(
            f"Unknown: Temporal at {session.target.address} did not acknowledge the message, so it may have arrived. "
            f"Sending it again under the same key is safe: --idempotency-key {sent.idempotency_key}"
        ) from None


def _queued(session: Session, row: Row, detail: str, sent: IntentMessage) -> ExitCode:
    terminal.data(
        f"queued, NOT executed: {detail}. A worker that comes before {full_moment(sent.not_after)} handles it; after "
        f"that it expires and nothing is done (key {sent.idempotency_key}). Start one: {session.command('worker')}"
    )
    return ExitCode.UNREACHABLE


async def _wait(session: Session, row: Row, request: Request, sent: IntentMessage, after: int) -> ExitCode:
    followed = await follow(
        session,
        row,
        sent.idempotency_key or "",
        wanted=request.wanted,
        timeout_s=request.timeout_s,
        after_sequence=after,
        on_record=_stage_printer(),
        on_waiting=_hint_printer(),
    )
    record = followed.record
    if record and reached(record.stage, request.wanted):
        attention = await _attention(session, row) if record.stage is IntentStage.EXPIRED else Attention.NONE
        terminal.data(session.localized(clean(record.sentence or record.reason)))
        return for_intent(record.stage, request.wanted, attention)
    if followed.silent:
        return _lost_sight(session, row, sent, followed)
    return await _gave_up(session, row, request, sent, followed)


def _lost_sight(session: Session, row: Row, sent: IntentMessage, followed: Followed) -> ExitCode:
    """A worker was there when it was sent, and is not any more: it may have begun."""
    stage = f"last seen {words(followed.record.stage)}" if followed.record else "never seen to arrive"
    terminal.data(
        f"Unknown: sent, {stage}, and no worker answers now ({followed.silent}). Sending it again under the same key "
        f"is safe: --idempotency-key {sent.idempotency_key}. See: {_see(session, row)}"
    )
    return ExitCode.AMBIGUOUS


def _stage_printer() -> Callable[[IntentRecord], None]:
    printed = 0

    def show(record: IntentRecord) -> None:
        nonlocal printed
        if not printed and record.received > 1:
            terminal.say(f"  This key was sent before, first at {full_moment(record.received_at)}:")
        for stage in record.stages[printed:]:
            evidence = f": {clean(stage.evidence)}" if stage.evidence else ""
            terminal.say(f"  {moment(stage.at, datetime.now(UTC))} {words(stage.stage)}{evidence}")
        printed = len(record.stages)

    return show


def _hint_printer() -> Callable[[float], None]:
    hinted = False

    def hint(waited_s: float) -> None:
        nonlocal hinted
        if waited_s >= _HINT_AFTER_S and not hinted:
            hinted = True
            terminal.say("  waiting (Ctrl-C ends the wait, not the intent) ...")

    return hint


async def _attention(session: Session, row: Row) -> Attention:
    answer = await ask_status(session.client, row, within_s=PATIENT_S)
    return Attention.NONE if isinstance(answer, Absence) else answer.attention.code


async def _gave_up(session: Session, row: Row, request: Request, sent: IntentMessage, followed: Followed) -> ExitCode:
    stage = followed.record.stage if followed.record else IntentStage.RECEIVED
    answer = await ask_status(session.client, row, within_s=PATIENT_S)
    attention = Attention.NONE if isinstance(answer, Absence) else answer.attention.code
    why = "" if isinstance(answer, Absence) or not answer.attention.sentence else f" {answer.attention.sentence}"
    waited = f"within {span(request.timeout_s or 0)}"
    see = f"See: {_see(session, row)}"
    if stage in (IntentStage.RECEIVED, IntentStage.ACCEPTED):
        expiry = f"; it may still be executed until {full_moment(sent.not_after)}"
        terminal.data(f"NOT executed {waited}, stage {words(stage)}{expiry}.{session.localized(why)} {see}")
    elif stage is IntentStage.RECORDED:
        terminal.data(f"Recorded, but not confirmed {waited}. It goes on without this command. {see}")
    else:
        terminal.data(f"Unknown: {words(stage)}, no answer {waited}. Do not repeat. {see}")
    return for_intent(stage, request.wanted, attention)


def _see(session: Session, row: Row) -> str:
    return session.command("status", row.name)


cancel = _control_command(
    Intent.CANCEL_LOOP,
    IntentStage.CONFIRMED,
    "End the run of LOOP, or clear a crashed one. Waits until the process is seen gone.",
)
approve = _control_command(
    Intent.APPROVE_PENDING,
    IntentStage.RECORDED,
    "Approve the pending request of LOOP. Recorded is a good outcome: the next run consumes it.",
)
reject = _control_command(
    Intent.REJECT_PENDING,
    IntentStage.RECORDED,
    "Reject the pending request of LOOP. Recorded is a good outcome: the next run starts over.",
)
