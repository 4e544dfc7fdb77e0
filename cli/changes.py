"""What changed between two looks at a loop, one line each: the feed of `watch` and of `up`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cli.render import attention_style, attention_words, lifecycle_style, outcome_words, stage_style, words
from cli.terminal import clean
from contract.status import Attention, IntentRecord, StatusReport, Transition


@dataclass(frozen=True)
class Change:
    """One change. `at`: when it happened, on the clock of whoever wrote the evidence; None: just seen."""

    at: datetime | None
    text: str
    style: str = ""


def changes(before: StatusReport | None, after: StatusReport) -> list[Change]:
    """What `after` tells that `before` did not; for a first look, where the loop stands."""
    if before is None:
        return [_standing(after), *_attention(None, after)]
    found = [*_transitions(before, after), *_progress(before, after), *_sight(before, after)]
    return [*found, *_divergences(before, after), *_intents(before, after), *_attention(before, after)]


def _standing(report: StatusReport) -> Change:
    run = f", run {report.run_id} iteration {report.iteration or 0}" if report.run_id else ""
    reason = f" ({report.reason})" if report.reason else ""
    through = words(report.transport.state)
    text = f"{words(report.lifecycle)}{reason}{run}, line {report.cursor.event_line_offset}, through {through}"
    return Change(report.since, clean(text), lifecycle_style(report.lifecycle))


def _transitions(before: StatusReport, after: StatusReport) -> list[Change]:
    """New transitions; the list is bounded, so what was seen is recognised by its last element, not by its length."""
    seen = [_key(transition) for transition in before.transitions]
    fresh = [transition for transition in after.transitions if _key(transition) not in seen]
    return [_transition(transition) for transition in fresh]


def _key(transition: Transition) -> tuple[object, ...]:
    return (transition.lifecycle, transition.at, transition.line, transition.run_id, transition.reason)


def _transition(transition: Transition) -> Change:
    run = f", run {transition.run_id}" if transition.run_id else ""
    iteration = f" iteration {transition.iteration}" if transition.iteration else ""
    line = f" (line {transition.line})" if transition.line else ""
    reason = f": {transition.reason}" if transition.reason else ""
    text = f"-> {words(transition.lifecycle)}{reason}{run}{iteration}{line}"
    return Change(transition.at, clean(text), lifecycle_style(transition.lifecycle))


def _progress(before: StatusReport, after: StatusReport) -> list[Change]:
    """A next iteration of the same run; the first of a run is told by its transition."""
    same_run = before.run_id == after.run_id and before.run_line == after.run_line
    if not same_run or before.iteration == after.iteration or not after.iteration:
        return []
    told = any(transition.iteration == after.iteration for transition in after.transitions[-1:])
    fresh = before.transitions[-1:] != after.transitions[-1:]
    return (
        [] if told and fresh else [Change(None, f"iteration {after.iteration}, line {after.cursor.event_line_offset}")]
    )


def _sight(before: StatusReport, after: StatusReport) -> list[Change]:
    found = []
    if before.transport.state != after.transport.state:
        why = f": {after.transport.reason}" if after.transport.reason else ""
        style = "bold red" if after.transport.state == "blind" else "yellow"
        text = f"transport {words(before.transport.state)} -> {words(after.transport.state)}{why}"
        found.append(Change(after.transport.since, clean(text), style))
    if before.cursor.epoch != after.cursor.epoch:
        text = f"the log was rewritten: epoch {after.cursor.epoch}, read anew from line 1"
        found.append(Change(None, text, "bold red"))
    if before.cursor.quarantined < after.cursor.quarantined:
        found.append(Change(None, f"{after.cursor.quarantined} lines are quarantined", "yellow"))
    return found


def _divergences(before: StatusReport, after: StatusReport) -> list[Change]:
    old = {(divergence.type, divergence.since) for divergence in before.divergence}
    new = {(divergence.type, divergence.since) for divergence in after.divergence}
    opened = [
        Change(divergence.since, clean(f"DIVERGED {divergence.id} {divergence.type}: {divergence.detail}"), "bold red")
        for divergence in after.divergence
        if (divergence.type, divergence.since) not in old
    ]
    closed = [
        Change(None, clean(f"no longer diverged: {divergence.id} {divergence.type}"), "green")
        for divergence in before.divergence
        if (divergence.type, divergence.since) not in new
    ]
    return opened + closed


def _intents(before: StatusReport, after: StatusReport) -> list[Change]:
    known = {record.sequence: len(record.stages) for record in before.intents}
    oldest = before.intents[0].sequence if before.intents else 0
    return [
        change
        for record in after.intents
        # One that is older than all that were remembered before cannot be new.
        if record.sequence >= oldest
        for change in _stages(record, known.get(record.sequence, 0))
    ]


def _stages(record: IntentRecord, told: int) -> list[Change]:
    found = []
    for index, stage in enumerate(record.stages[told:], start=told):
        last = index == len(record.stages) - 1
        outcome = outcome_words(stage.stage, record.sentence if last and record.sentence else stage.evidence)
        text = f"{record.intent} by {record.by} {outcome}"
        found.append(Change(stage.at, clean(text), stage_style(stage.stage)))
    return found


def _attention(before: StatusReport | None, after: StatusReport) -> list[Change]:
    old = before.attention.code if before else Attention.NONE
    new = after.attention
    if old is new.code:
        return []
    if new.code is Attention.NONE:
        return [Change(None, f"attention cleared ({attention_words(old)})", "green")]
    return [
        Change(new.since, clean(f"ATTENTION {attention_words(new.code)}: {new.sentence}"), attention_style(new.code))
    ]
