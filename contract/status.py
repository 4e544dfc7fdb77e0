"""What the supervisor believes and tells: lifecycle, intents with their stages, attention, the status report.

The answers of the queries `status` and `intents`, as JSON in camelCase. Times are UTC; `since` is on the clock of
whoever wrote the evidence (the sprite's for events, the workflow's for the rest).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from contract.divergence import DivergenceReport
from contract.intents import Expect
from contract.observation import QuarantinedDigest, Transport, TransportMode
from contract.reconciliation import Comparison
from contract.reports import Report


class Lifecycle(StrEnum):
    """The lifecycle of a loop, bound to its current run (architecture.md, "Runs and lifecycle")."""

    NOT_STARTED = "not_started"
    STARTING = "starting"
    RUNNING = "running"
    AWAITING_APPROVAL = "awaiting_approval"
    DECIDED = "decided"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Attention(StrEnum):
    """Why a human is needed, most urgent first; also the value of the search attribute `LoopAttention`."""

    DIVERGED = "diverged"
    AMBIGUOUS = "ambiguous"
    WRONG_SPRITE = "wrong_sprite"
    UNAUTHORIZED = "unauthorized"
    BLIND = "blind"
    CRASHED = "crashed"
    FAILED = "failed"
    SPRITE_ERROR = "sprite_error"
    STALE = "stale"
    APPROVAL_WAITING = "approval_waiting"
    APPROVED_NOT_RESUMED = "approved_not_resumed"
    STOPPED = "stopped"
    SERVICE_DOWN = "service_down"
    LOOP_MISSING = "loop_missing"
    NONE = "none"


class IntentStage(StrEnum):
    """The life of an intent. REJECTED and EXPIRED: nothing was done. AMBIGUOUS: it cannot be known."""

    RECEIVED = "received"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EXECUTING = "executing"
    RECORDED = "recorded"
    CONFIRMED = "confirmed"
    EXECUTED_UNCONFIRMED = "executed_unconfirmed"
    AMBIGUOUS = "ambiguous"
    FAILED_COMMAND = "failed_command"
    EXPIRED = "expired"


class StageRecord(Report):
    """One stage an intent reached: when (workflow time), on what evidence, on which event line if any."""

    stage: IntentStage
    at: datetime
    evidence: str = ""
    line: int | None = None


class IntentRecord(Report):
    """One message an operator sent, accepted or not, with everything known about it.

    `intent` is the signal's name as sent. `sentence` is the one line to show a person. `late`: confirmed after the
    wait for it had ended. `received` counts how often a message with this key came. Evidence counts after
    `baseline_line`; `baseline_at` is the sprite's clock when the intent was judged. `final`: no later evidence counts.
    `recovered`: nobody saw the command end, the sprite found its effect; exit code 0 stands for that.
    `lost_at`: when the first try was sent whose answer got lost, so that it may have arrived. `automated`: a program
    decided it. `from_start` and `comparison` belong to a `RECONCILE`.
    """

    sequence: int
    intent: str
    by: str = "unknown"
    note: str | None = None
    key: str
    key_given: bool = False
    trace_id: str = ""
    received_at: datetime
    received: int = 1
    not_after: datetime | None = None
    no_confirm: bool = False
    expect: Expect | None = None
    stage: IntentStage = IntentStage.RECEIVED
    reason: str = ""
    sentence: str = ""
    stages: list[StageRecord] = Field(default_factory=list)
    run_id: str | None = None
    run_line: int | None = None
    iteration: int | None = None
    process_pid: int | None = None
    process_start_time: str | None = None
    baseline_line: int | None = None
    baseline_at: str | None = None
    decision_line: int | None = None
    effect_line: int | None = None
    effect_run_id: str | None = None
    effect_event: str | None = None
    transport: Transport | None = None
    argv: list[str] = Field(default_factory=list)
    exit_code: int | None = None
    output: str = ""
    replayed: bool = False
    recovered: bool = False
    late: bool = False
    deadline: datetime | None = None
    clears_crash: bool = False
    final: bool = False
    lost_at: datetime | None = None
    automated: bool = False
    from_start: bool = False
    comparison: Comparison | None = None


class Transition(Report):
    """One change of lifecycle: `at` is the event's own timestamp, or the observation's time when no event told it.

    `evidence` says what was concluded from when no event told it.
    """

    lifecycle: Lifecycle
    reason: str
    at: datetime | None
    run_id: str | None = None
    line: int | None = None
    iteration: int | None = None
    evidence: str = ""


class CursorReport(Report):
    """Lines consumed in this epoch and the chain there; `unverifiableFrom`: first line a service could not show.

    `quarantined` counts the lines that were no events (D4); `quarantinedLines` holds the last of them with reasons.
    """

    event_line_offset: int = 0
    epoch: int = 1
    chain: str | None = None
    unverifiable_from: int | None = None
    at_head: bool = False
    quarantined: int = 0
    quarantined_lines: list[QuarantinedDigest] = Field(default_factory=list)


class TransportChange(Report):
    """One change of the transport's state. `evidence`: the failure behind it; `by`: who asked for it, if anybody."""

    from_state: str = Field(alias="from")
    to: str
    at: datetime
    reason: str = ""
    evidence: str = ""
    by: str | None = None


class TransportReport(Report):
    """Which transport observations come through now. `state`: sprite_service, local, reconciling or blind.

    `reconciling`: the service answers again and is compared, local observes. `stableLine`: the last line ingested from
    the service while it was known to agree.
    """

    state: str
    since: datetime | None = None
    reason: str = ""
    local_only: bool = False
    mode: TransportMode = TransportMode.AUTO
    pinned_by: str | None = None
    stable_line: int | None = None
    changes: list[TransportChange] = Field(default_factory=list)


class AutomationReport(Report):
    """Whether intents with `automated: true` are refused now, and why."""

    frozen: bool = False
    reasons: list[str] = Field(default_factory=list)


class AttentionReport(Report):
    """Why a human is needed, in one sentence, and the next sensible command, ready to paste."""

    code: Attention = Attention.NONE
    sentence: str = ""
    since: datetime | None = None
    next_command: str | None = None


class OpenCondition(Report):
    """A reason for attention that holds, and of which a notice was given where there is a webhook.

    `subject`: what exactly it is about; another request, run or intent is another condition. `since` is as of when it
    holds, `openedAt` when the manager knew.
    """

    id: str
    kind: Attention
    subject: str
    since: datetime | None
    opened_at: datetime
    sentence: str
    next_command: str | None = None
    run_id: str | None = None
    iteration: int | None = None


class Undelivered(Report):
    """A notice that was given up: which, of what kind, and the last reason."""

    message_id: str
    kind: Attention
    given_up_at: datetime
    reason: str


class NoticesReport(Report):
    """How delivery goes. `lastError` and `failingSince` are there while the receiver does not take what is sent.

    `collapsed` counts notices that were dropped in pairs (an opening with its closing) because too many waited.
    """

    pending: int = 0
    delivered: int = 0
    last_delivered_at: datetime | None = None
    last_error: str | None = None
    failing_since: datetime | None = None
    collapsed: int = 0
    undelivered_count: int = 0
    undelivered: list[Undelivered] = Field(default_factory=list)


class PendingApproval(Report):
    """The approval request that waits for a human, as last observed."""

    run_id: str | None = None
    iteration: int | None = None
    requested_at: str | None = None
    sha256: str | None = None
    promise: bool | None = None
    gates: dict[str, Any] = Field(default_factory=dict)


class RunProcessReport(Report):
    """One live run process of the sprite's repo; pid and start time together name it."""

    pid: int
    start_time: str | None = None
    loop_id: str | None = None


class ProcessReport(Report):
    """The process evidence last observed. `state`: alive, dead, unknown, or absent where the service offers none."""

    state: str = "absent"
    pid: int | None = None
    start_time: str | None = None
    loop_id: str | None = None
    source: str | None = None
    runs: list[RunProcessReport] = Field(default_factory=list)


class AsOf(Report):
    """The point in workflow history that a report describes."""

    run_id: str
    history_length: int


class StatusReport(Report):
    """The answer of the query `status`. `gatesRunId`: the run whose iteration `gates` and `promiseMatched` are of.

    `conditions`: every reason for attention that holds, the most urgent first; `attention` is the first of them.
    `notices`: how their delivery goes, None where there is no webhook.
    """

    sprite: str
    loop_id: str
    sprite_id: str | None = None
    repo_path: str | None = None
    lifecycle: Lifecycle
    reason: str
    since: datetime | None = None
    observed_at: datetime | None = None
    last_contact_at: datetime | None = None
    run_id: str | None = None
    run_line: int | None = None
    iteration: int | None = None
    cursor: CursorReport = Field(default_factory=CursorReport)
    transport: TransportReport
    attention: AttentionReport = Field(default_factory=AttentionReport)
    divergence: list[DivergenceReport] = Field(default_factory=list)
    resolved_divergence: list[DivergenceReport] = Field(default_factory=list)
    automation: AutomationReport = Field(default_factory=AutomationReport)
    pending_approval: PendingApproval | None = None
    gates: dict[str, Any] = Field(default_factory=dict)
    promise_matched: bool | None = None
    gates_run_id: str | None = None
    process: ProcessReport | None = None
    last_event_name: str | None = None
    last_event_age_s: float | None = None
    transitions: list[Transition] = Field(default_factory=list)
    intents: list[IntentRecord] = Field(default_factory=list)
    conditions: list[OpenCondition] = Field(default_factory=list)
    notices: NoticesReport | None = None
    as_of: AsOf


class QueryName(StrEnum):
    """Names of the workflow's queries."""

    STATUS = "status"
    INTENTS = "intents"


class UpdateName(StrEnum):
    """Names of the workflow's updates."""

    OBSERVE_NOW = "OBSERVE_NOW"


class SearchAttribute(StrEnum):
    """Names of the search attributes a supervisor keeps."""

    LOOP_STATUS = "LoopStatus"
    LOOP_ATTENTION = "LoopAttention"
    LOOP_TRANSPORT = "LoopTransport"
    LOOP_OBSERVED_AT = "LoopObservedAt"
    SPRITE_ID = "SpriteId"
    LOOP_ID = "LoopId"


WORKFLOW_TYPE = "LoopSupervisor"
