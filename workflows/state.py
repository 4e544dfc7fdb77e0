"""The state of one supervisor: everything that must survive continue-as-new, in one model.

Fields may be added with a default; none is renamed or removed, because running supervisors carry old states over.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from contract.divergence import DivergenceReport
from contract.intents import Intent
from contract.notices import PendingNotice
from contract.observation import (
    ChainAt,
    Contact,
    CursorPosition,
    History,
    LogImage,
    QuarantinedDigest,
    SnapshotDigest,
    Target,
    Transport,
    TransportMode,
)
from contract.status import (
    IntentRecord,
    IntentStage,
    Lifecycle,
    NoticesReport,
    OpenCondition,
    Transition,
    TransportChange,
)

MAX_INTENTS = 50
"""Closed intents remembered, newest last; their keys are the supervisor's own memory of what was sent."""
MAX_USED_KEYS = 500
KEY_AGE = timedelta(days=30)
"""So many keys, and for so long, are remembered beyond the records; the sprite's own record of them is kept longer."""
MAX_TRANSITIONS = 60
MAX_QUARANTINED = 20
"""Lines that were no events, remembered with their reasons, newest last; all of them are counted."""
RULES_VERSION = 1
"""Version of the rules that decide commands; adopted at continue-as-new, never in the middle of a run."""

OPEN_STAGES = frozenset({IntentStage.RECEIVED, IntentStage.ACCEPTED, IntentStage.EXECUTING})
"""Stages in which an intent still waits for its command or the command's answer."""
NOTHING_DONE = frozenset({IntentStage.REJECTED, IntentStage.EXPIRED})
"""Stages that say that the intent had no effect."""


class RunRef(History):
    """A run: its id and the line of its `loop_start`, because run ids have one-second resolution."""

    run_id: str
    line: int
    iteration: int = 0


class Decision(History):
    """An `approval_decision` that no run has consumed yet."""

    status: str
    by: str = "unknown"
    at: str | None = None
    line: int = 0


class Projection(History):
    """What we believe about the loop. `started` is the last `loop_start`; `run` what everything is bound to.

    They differ after `approval_consumed(R1)`, which makes the run a continuation of R1, and while a run that only
    found the approval still pending has put the loop back to waiting. `evidence`: what the lifecycle was concluded
    from when no event told it. `state_seen`: state.json was there for this loop since the last `loop_start`.
    """

    lifecycle: Lifecycle = Lifecycle.UNKNOWN
    reason: str = "not_observed_yet"
    since: datetime | None = None
    run: RunRef | None = None
    started: RunRef | None = None
    waiting_run: RunRef | None = None
    waiting_since: datetime | None = None
    decision: Decision | None = None
    evidence: str = ""
    state_seen: bool = False
    usage_limited: bool = False
    last_event_name: str | None = None
    transitions: list[Transition] = Field(default_factory=list)


class Suspicion(History):
    """Something seen once that counts only when seen again at least `crash_recheck_s` later."""

    kind: Literal["process_gone", "multiple_runs", "activeMismatch", "approvalCompletionConflict", "cursorRegression"]
    subject: str
    since: datetime


class ServiceDown(History):
    """The sprite's service has stopped answering. `bridged`: the local transport has answered in its place.

    `answers`: it does again, and `reason` says why it is not used all the same.
    """

    since: datetime
    reason: str
    bridged: bool = False
    answers: bool = False


class TransportState(History):
    """Which transport observes. `blind`: none that may be used answers; `attempt` counts the tries while blind.

    `recoveries` counts how often in a row the probe called the service well and nothing was observed through it since.
    `service_down` is there from the service's failure until something was observed through it again.
    `reconciled`: nothing was ingested that the service was not seen to agree with; otherwise `unreconciled_since` says
    since when. `reconciling`: it is being compared. `stable` is the last position ingested from it while reconciled.
    `recheck_at`: after a disagreement, when it may be compared again unasked; `disagreements` counts them in a row.
    `accepted_line`: the first differing line of a disagreement that somebody has accepted, 0 for another sprite.
    `until_agreed`: the pin ends when a reconciliation agrees.
    """

    active: Transport
    since: datetime | None = None
    reason: str = ""
    blind: bool = False
    blind_since: datetime | None = None
    attempt: int = 0
    recoveries: int = 0
    service_down: ServiceDown | None = None
    mode: TransportMode = TransportMode.AUTO
    pinned_by: str | None = None
    until_agreed: bool = False
    reconciled: bool = True
    unreconciled_since: datetime | None = None
    reconciling: bool = False
    reconciling_since: datetime | None = None
    stable: CursorPosition | None = None
    recheck_at: datetime | None = None
    accepted_line: int | None = None
    disagreements: int = 0
    changes: list[TransportChange] = Field(default_factory=list)

    @property
    def unproven(self) -> bool:
        """The local transport has taken over from the service, and has not answered yet."""
        return self.active is Transport.LOCAL and self.service_down is not None and not self.service_down.bridged


class Condition(History):
    """What the other side answers instead of a snapshot, and since when."""

    contact: Contact
    detail: str = ""
    since: datetime

    @property
    def is_empty(self) -> bool:
        """The sprite says that the loop has written nothing: an answer, not an obstacle."""
        return self.contact in (Contact.LOOP_NOT_FOUND, Contact.NOT_READY)


def is_intent(record: IntentRecord) -> bool:
    """Whether the message asks the runtime for something; others are for the supervisor alone."""
    return record.intent in Intent.__members__


def _turn(record: IntentRecord) -> tuple[bool, int]:
    return record.intent != "CANCEL_LOOP", record.sequence


def _awaits_evidence(record: IntentRecord) -> bool:
    # Who asked for no confirmation of a cancel gets none, but the end of the run has to be told as what it was.
    unasked = record.stage is IntentStage.EXECUTED_UNCONFIRMED and record.intent == "CANCEL_LOOP"
    waiting = record.stage in (IntentStage.EXECUTING, IntentStage.RECORDED, IntentStage.AMBIGUOUS)
    return (unasked or waiting) and not record.final


class UsedKey(History):
    """An idempotency key that somebody gave, whose record is no longer kept: what it stands for, and how that ended."""

    key: str
    intent: str
    by: str
    at: datetime
    stage: IntentStage


class SupervisorState(History):
    """Everything carried over continue-as-new. `seen` is the number of the observer whose result was applied last.

    `observer_since` is when the current observer was started: what it brings was read after that. `checkpoints` are
    positions of this epoch with their chains, thinned towards the past. `phase_line` is the last line that only a run
    at work writes; `inactive_from` the cursor when state.json was first seen inactive while the loop was running.
    `conditions` are the open ones, `opened` counts per kind how many have ever been. `outbox`: notices that nobody has
    taken yet, oldest first; `notices` is None where there is no webhook. `unkept_runs`: runs before this one whose
    history has still to be kept.
    """

    target: Target
    rules_version: int = RULES_VERSION
    cursor: CursorPosition = Field(default_factory=CursorPosition)
    known: str | None = None
    observer: int = 0
    observer_since: datetime | None = None
    seen: int = 0
    at_head: bool = False
    announced: bool = False
    unverifiable_from: int | None = None
    quarantined_count: int = 0
    quarantined: list[QuarantinedDigest] = Field(default_factory=list)
    observed_at: datetime | None = None
    last_contact_at: datetime | None = None
    projection: Projection = Field(default_factory=Projection)
    snapshot: SnapshotDigest | None = None
    suspicions: list[Suspicion] = Field(default_factory=list)
    divergences: list[DivergenceReport] = Field(default_factory=list)
    divergence_count: int = 0
    resolved_divergences: list[DivergenceReport] = Field(default_factory=list)
    checkpoints: list[ChainAt] = Field(default_factory=list)
    image: LogImage | None = None
    scrubbed_at: datetime | None = None
    phase_line: int = 0
    inactive_from: int | None = None
    condition: Condition | None = None
    transport: TransportState
    intents: list[IntentRecord] = Field(default_factory=list)
    used_keys: list[UsedKey] = Field(default_factory=list)
    messages: int = 0
    conditions: list[OpenCondition] = Field(default_factory=list)
    opened: dict[str, int] = Field(default_factory=dict)
    outbox: list[PendingNotice] = Field(default_factory=list)
    notices: NoticesReport | None = None
    unkept_runs: list[str] = Field(default_factory=list)

    def queue(self) -> list[IntentRecord]:
        """Intents whose command has not been decided yet: a cancel before everything else, then by arrival."""
        waiting = (record for record in self.intents if record.stage is IntentStage.RECEIVED and is_intent(record))
        return sorted(waiting, key=_turn)

    def overtaken(self, record: IntentRecord) -> bool:
        """Whether one that is queued would go before `record`, were that queued as well."""
        return any(_turn(queued) < _turn(record) for queued in self.queue())

    def confirming(self) -> list[IntentRecord]:
        """Intents whose evidence is still of interest, including late evidence for ambiguous ones."""
        return [record for record in self.intents if _awaits_evidence(record)]

    def trim(self) -> None:
        """Forget the oldest closed intents beyond the bound; neither one that is still open, nor the newest."""
        while len(self.intents) > MAX_INTENTS:
            forgotten = self._least_needed()
            if forgotten is None:
                return
            self._remember_key(self.intents.pop(forgotten))

    def _remember_key(self, record: IntentRecord) -> None:
        if not record.key_given or record.stage in NOTHING_DONE:
            return  # nothing was done under it, so it may be used again
        used = UsedKey(key=record.key, intent=record.intent, by=record.by, at=record.received_at, stage=record.stage)
        self.used_keys = [*self.used_keys[-MAX_USED_KEYS + 1 :], used]

    def used_key(self, key: str, now: datetime) -> UsedKey | None:
        """What a key was used for whose record is no longer kept; None for a new one, or one used too long ago."""
        return next((used for used in self.used_keys if used.key == key and now - used.at < KEY_AGE), None)

    def _least_needed(self) -> int | None:
        # Who has just sent something must find what became of it, however many are open.
        kept = enumerate(self.intents[:-1])
        closed = [at for at, r in kept if r.stage not in OPEN_STAGES and r.deadline is None]
        # What still waits for its evidence goes last: a heap of rejected typos must not push out an approval. And what
        # a program is refused goes first: it may ask every other second, and push out what people have done.
        unneeded = [at for at in closed if not _awaits_evidence(self.intents[at])]
        refused = (at for at in unneeded if self.intents[at].automated and self.intents[at].stage in NOTHING_DONE)
        return next(refused, next(iter(unneeded or closed), None))
