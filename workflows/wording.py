"""Sentences for people: what was done, by whom, to which run, on what evidence, and what to do next."""

from __future__ import annotations

import json
import shlex
from datetime import datetime

from contract.clock import parse_utc
from contract.divergence import DivergenceReport
from contract.intents import PLACEHOLDER, Expect, Intent
from contract.observation import ApprovalDigest, Target
from contract.reconciliation import Agreement, Comparison
from contract.status import IntentRecord

VERBS = {
    Intent.CANCEL_LOOP: ("cancel", "cancelled"),
    Intent.APPROVE_PENDING: ("approve", "approved"),
    Intent.REJECT_PENDING: ("reject", "rejected"),
}


def printable(text: str, limit: int) -> str:
    """At most `limit` characters of a stranger's text, without any that a terminal, UTF-8 or a database minds."""
    return "".join(char if char.isprintable() else "?" for char in text[:limit])


def clock(moment: datetime | str | None) -> str:
    """`03:12:07`, or `an unknown time`."""
    instant = parse_utc(moment) if isinstance(moment, str) else moment
    return instant.strftime("%H:%M:%S") if instant else "an unknown time"


def moment(at: datetime | None) -> str:
    """`2026-11-22 03:12:07Z`, or `never`: for what may lie days back."""
    return at.strftime("%Y-%m-%d %H:%M:%SZ") if at else "never"


def done_verb(intent: str) -> str:
    """`approved` for `APPROVE_PENDING`; the name itself when it is no intent of ours."""
    return VERBS[Intent(intent)][1] if intent in Intent.__members__ else intent


def run_name(record: IntentRecord) -> str:
    """`run R1 iteration 4`, as far as known."""
    if not record.run_id:
        return "the loop"
    return f"run {record.run_id}" + (f" iteration {record.iteration}" if record.iteration else "")


def nothing_done(reason: str, *, expired: bool) -> str:
    """A refusal: says first that nothing was done."""
    return f"Expired, nothing done: {reason}" if expired else f"Nothing done: {reason}"


def judged(line: int, expect: Expect) -> str:
    """On what an intent was accepted: as much of the log, and that approval.json."""
    sha256 = expect.approval_sha256
    return f"judged at line {line}" + (f", approval.json {sha256[:8]}" if sha256 else "")


def recorded(record: IntentRecord, target: Target) -> str:
    """In the runtime's records, not consumed yet: a good outcome that somebody has to follow up."""
    where = f"line {record.decision_line}" if record.decision_line else "approval.json"
    return (
        f"Recorded: {record.by} {done_verb(record.intent)} {run_name(record)} ({where}). No run has consumed it yet. "
        f"In the sprite: {run_command(target)}"
    )


def recorded_and_taken_up(record: IntentRecord, line: int) -> str:
    """A rejection that a run has read; it is confirmed only when that run works on."""
    return (
        f"Recorded: {record.by} {done_verb(record.intent)} {run_name(record)}. Run {record.effect_run_id} has taken it "
        f"up (line {line}), and has not begun an iteration yet."
    )


def recorded_in_vain(record: IntentRecord, line: int) -> str:
    """A decision that no run can take up any more."""
    return (
        f"Recorded: {record.by} {done_verb(record.intent)} {run_name(record)}. No run took it up before another "
        f"request or decision (line {line}) took its place."
    )


def cancel_command(target: Target) -> str:
    """What to type inside the sprite to end its run, or to clear what a killed one has left."""
    return f"superloop.sh cancel --repo {shlex.quote(target.repo_path or 'REPO')}"


def run_command(target: Target) -> str:
    """What to type inside the sprite so that a run picks the loop up."""
    return f"superloop.sh run --repo {shlex.quote(target.repo_path or 'REPO')} --loop {shlex.quote(target.loop_id)}"


def confirmed(record: IntentRecord, evidence: str) -> str:
    """The effect was seen; who brought it about is said as it was."""
    late = " (late: the wait for it had ended)" if record.late else ""
    done = f"{record.by} {done_verb(record.intent)} {run_name(record)}"
    if evidence.startswith("ended_by_itself"):
        done = f"{run_name(record)} was over before the cancel of {record.by} could end it"
    elif record.clears_crash:
        done = f"{record.by} cleared {run_name(record)}, which had crashed"
    return f"Confirmed: {done}; {evidence}{late}."


def unknown(record: IntentRecord, target: Target, reason: str) -> str:
    """It cannot be known whether it happened: the only use of `ambiguous`."""
    return f"Unknown: {_whole(reason)} Do not repeat; see: {status_command(target)}"


def _whole(sentence: str) -> str:
    # A stranger's words may end with a full stop or without.
    return f"{sentence.rstrip('. ')}."


def without_effect(record: IntentRecord, target: Target, looked_at: str, seen: str) -> str:
    """A cancel of which nothing came: whether it ever ran is not known, but what it has not done is."""
    return (
        f"Unknown: {_whole(record.reason)} At {clock(looked_at)} {seen}: whatever became of the command, it had had no "
        "effect by then, and an end of the run after that is not counted as its doing. Cancel again if that is still "
        f"wanted; see: {status_command(target)}"
    )


def after_lost_try(record: IntentRecord, then: str) -> str:
    """Why nothing can be known although the sprite, when asked, did not know of the intent."""
    return (
        f"sent {clock(record.lost_at)}, no answer; the sprite did not know of it when asked, but it may still arrive. "
        f"{then}"
    )


def loop_name(target: Target) -> str:
    """`sprite/loop`, quoted for a shell: a loop id may hold whatever a folder name may."""
    return shlex.quote(f"{target.sprite}/{target.loop_id}")


def status_command(target: Target) -> str:
    """What to type to see everything that is known."""
    return f"ops-manager status {loop_name(target)}"


def already_decided(approval: ApprovalDigest) -> str:
    """Somebody else was first."""
    return (
        f"{approval.decision_by or 'somebody'} already {approval.decision_status or approval.status} this "
        f"at {clock(approval.decision_at)}."
    )


def compared(comparison: Comparison, disagreement: DivergenceReport | None) -> str:
    """What a reconciliation found, with the lines and the chains."""
    whose = comparison.transport.value.replace("_", " ")
    lines = f"lines {comparison.from_line + 1} to {comparison.to_line} of {whose} (epoch {comparison.epoch})"
    named = f" See {disagreement.id}." if disagreement else ""
    ours = f"line {comparison.ingested_line}, chain {(comparison.ingested_chain or 'unknown')[:12]}"
    if comparison.agreement is Agreement.AGREED and comparison.ingested_line == 0:
        return f"agreed: nothing was ingested yet that {whose} could contradict (epoch {comparison.epoch})."
    if comparison.agreement is Agreement.AGREED:
        return f"agreed: {lines} are what was ingested ({ours})."
    if comparison.agreement is Agreement.UNVERIFIABLE:
        return f"not contradicted: {lines} cannot be proved ({comparison.detail}; {ours}).{named}"
    first = comparison.first_differing_line
    told = f" from line {first} on" if first else f" ({comparison.detail})" if comparison.detail else ""
    theirs = f"line {comparison.to_line}, chain {(comparison.chain or 'unknown')[:12]}"
    count = f", which has {comparison.line_count} lines" if comparison.line_count is not None else ""
    return f"DIVERGED{told}: ingested {ours}; {whose}{count}: {theirs} (epoch {comparison.epoch}).{named}"


def next_resolution(target: Target, divergence: DivergenceReport) -> str | None:
    """The command that closes it and changes the least; None where it closes by itself."""
    careful = {"events_rewritten": "current", "transport_disagreement": "local"}.get(divergence.type)
    return resolve_command(target, divergence, careful) if careful else None


def resolve_command(target: Target, divergence: DivergenceReport, accept: str) -> str:
    """What to type to close a divergence."""
    return f"ops-manager resolve {loop_name(target)} {divergence.id} --accept {accept} --by {PLACEHOLDER}"


def signal_command(target: Target, intent: Intent, expect: Expect) -> str:
    """A signal by the Temporal CLI, with the preconditions filled in from what is shown."""
    payload: dict[str, object] = {"by": PLACEHOLDER}
    guard = expect.model_dump(mode="json", by_alias=True, exclude_none=True)
    if guard:
        payload["expect"] = guard
    return (
        f"temporal workflow signal --workflow-id {shlex.quote(f'loop:{target.sprite}:{target.loop_id}')} "
        f"--name {intent.value} --input {shlex.quote(json.dumps(payload, separators=(',', ':')))}"
    )
