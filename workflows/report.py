"""The status report and the card: what a person or a program is shown of the state."""

from __future__ import annotations

import shlex

from contract.divergence import DivergenceReport
from contract.observation import TransportMode
from contract.status import (
    AsOf,
    Attention,
    AutomationReport,
    CursorReport,
    IntentRecord,
    Lifecycle,
    NoticesReport,
    PendingApproval,
    ProcessReport,
    StatusReport,
    TransportReport,
)
from workflows import transport
from workflows.attention import assess
from workflows.automation import doubts, lasting_doubts
from workflows.state import SupervisorState
from workflows.wording import moment, next_resolution, status_command

_SHOWN_INTENTS = 5
_MAX_TEXT_CHARS = 500
_MARKUP = frozenset("\\|`*_~<>[]#&")


def transport_word(state: SupervisorState) -> str:
    """`sprite_service`, `local`, `reconciling` or `blind`: the value of the search attribute `LoopTransport`."""
    return transport.word(state.transport)


def status_report(state: SupervisorState, *, local_only: bool, run_id: str, history_length: int) -> StatusReport:
    """Everything believed, with the point in history it describes."""
    projection, snapshot = state.projection, state.snapshot
    return StatusReport(
        sprite=state.target.sprite,
        loop_id=state.target.loop_id,
        sprite_id=state.target.sprite_id,
        repo_path=state.target.repo_path,
        lifecycle=projection.lifecycle,
        reason=projection.reason,
        since=projection.since,
        observed_at=state.observed_at,
        last_contact_at=state.last_contact_at,
        run_id=projection.run.run_id if projection.run else None,
        run_line=projection.run.line if projection.run else None,
        iteration=projection.run.iteration if projection.run else None,
        cursor=CursorReport(
            event_line_offset=state.cursor.line,
            epoch=state.cursor.epoch,
            chain=state.cursor.chain,
            unverifiable_from=state.unverifiable_from,
            at_head=state.at_head,
            quarantined=state.quarantined_count,
            quarantined_lines=list(state.quarantined),
        ),
        transport=_transport(state, local_only=local_only),
        attention=assess(state),
        divergence=[_with_command(state, opened) for opened in state.divergences],
        resolved_divergence=list(state.resolved_divergences),
        automation=AutomationReport(frozen=bool(doubts(state)), reasons=doubts(state)),
        pending_approval=_pending(state),
        gates=dict(snapshot.gates) if snapshot else {},
        promise_matched=snapshot.promise_matched if snapshot else None,
        gates_run_id=snapshot.summary_run_id if snapshot else None,
        process=ProcessReport.model_validate(snapshot.process.model_dump()) if snapshot else None,
        last_event_name=projection.last_event_name,
        last_event_age_s=snapshot.last_event_age_s if snapshot else None,
        transitions=list(projection.transitions),
        intents=list(state.intents),
        conditions=list(state.conditions),
        notices=_notices(state),
        as_of=AsOf(run_id=run_id, history_length=history_length),
    )


def _notices(state: SupervisorState) -> NoticesReport | None:
    return state.notices.model_copy(update={"pending": len(state.outbox)}) if state.notices else None


def _transport(state: SupervisorState, *, local_only: bool) -> TransportReport:
    known = state.transport
    since = {"blind": known.blind_since, "reconciling": known.reconciling_since}
    word = transport.word(known)
    return TransportReport(
        state=word,
        since=since.get(word, known.since),
        reason=known.reason,
        local_only=local_only,
        mode=known.mode,
        pinned_by=known.pinned_by,
        stable_line=known.stable.line if known.stable else None,
        changes=list(known.changes),
    )


def _with_command(state: SupervisorState, opened: DivergenceReport) -> DivergenceReport:
    """With what closes it ready to paste, where an operator has to."""
    return opened.model_copy(update={"next_command": next_resolution(state.target, opened)})


def _pending(state: SupervisorState) -> PendingApproval | None:
    approval = state.snapshot.approval if state.snapshot else None
    if approval is None or approval.status not in (None, "pending"):
        return None
    return PendingApproval(
        run_id=approval.run_id,
        iteration=approval.iteration,
        requested_at=approval.requested_at,
        sha256=approval.sha256,
        promise=approval.promise,
        gates=approval.gates,
    )


def card(state: SupervisorState) -> str:
    """The current details in Temporal's UI, as Markdown; costs no history event."""
    projection, attention = state.projection, assess(state)
    word = projection.lifecycle.value.replace("_", " ")
    reason = "" if projection.lifecycle is Lifecycle.COMPLETE else f" ({_escape(projection.reason)})"
    name = _escape(f"{state.target.sprite}/{state.target.loop_id}")
    lines = [f"### {name}: {word}{reason} since {moment(projection.since)}"]
    if projection.run:
        lines.append(f"- run {_escape(projection.run.run_id)} iteration {projection.run.iteration}")
    lines.append(f"- observed {moment(state.observed_at)} through {_through(state)}, line {state.cursor.line}")
    if attention.code is not Attention.NONE:
        lines.append(f"- **{_escape(attention.sentence)}**")
    else:
        lines.append("- Nobody is needed." if state.observed_at else "- Nothing was observed yet.")
    frozen = lasting_doubts(state) if state.observed_at else []
    if frozen:
        lines.append(f"- Automated intents are refused: {_escape('; '.join(frozen))}.")
    lines += ["", "```", _on_several_lines(attention.next_command or status_command(state.target)), "```"]
    if state.intents:
        lines += ["", *(_told(record) for record in reversed(state.intents[-_SHOWN_INTENTS:]))]
    return "\n".join(lines)


def _on_several_lines(command: str) -> str:
    # The UI cuts a long line off; a shell takes these for one. Only before an option: inside quotes it would not.
    lines: list[list[str]] = [[]]
    for word in map(shlex.quote, shlex.split(command)):
        if word.startswith("--"):
            lines.append([])
        lines[-1].append(word)
    return " \\\n  ".join(" ".join(words) for words in lines)


def _through(state: SupervisorState) -> str:
    word, mode = transport.word(state.transport), state.transport.mode
    through = {
        "blind": "nothing: blind",
        "sprite_service": "the sprite service",
        "local": "the local transport",
        "reconciling": "the local transport, reconciling with the sprite service",
    }[word]
    if mode is TransportMode.AUTO:
        return through
    # A service that is pinned is used only when it agrees.
    to = "" if mode == word else f" to {mode.value.replace('_', ' ')}"
    return f"{through} (pinned{to} by {_escape(state.transport.pinned_by or '')})"


def _told(record: IntentRecord) -> str:
    outcome = record.sentence or record.stage.value.replace("_", " ")
    return f"- {moment(record.received_at)} **{_escape(record.intent)}** by {_escape(record.by)}: {_escape(outcome)}"


def _escape(text: str) -> str:
    # The text of operators and agents must not become markup or break the list.
    text = " ".join(text.split())
    text = text if len(text) <= _MAX_TEXT_CHARS else text[: _MAX_TEXT_CHARS - 1] + "…"
    return "".join("\\" + char if char in _MARKUP else char for char in text)
