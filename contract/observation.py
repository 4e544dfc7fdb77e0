"""Activity names and the models that activities and the workflow exchange.

They land in workflow history, so they hold digests, never raw bodies and never a secret. Fields may be added with a
default; none is ever renamed or removed, because old histories must stay readable.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from contract.intents import Expect, Intent
from contract.secrets import SecretReference


class ActivityName(StrEnum):
    """Names under which activities are registered, those of the transports by both of them."""

    OBSERVE = "observe"
    EXECUTE_CONTROL = "execute_control"
    LOOK_UP_CONTROL = "look_up_control"
    PROBE = "probe"
    DELIVER = "deliver"
    ARCHIVE = "archive"
    """Of the manager's side alone: no transport has it."""
    RECONCILE = "reconcile"
    CHAINS = "chains"


class FailureType(StrEnum):
    """`ApplicationError.type` of the failures that activities raise."""

    TRANSPORT_FAILURE = "TransportFailure"
    """Counted by `observe` itself and retried by Temporal."""
    TRANSPORT_EXHAUSTED = "TransportExhausted"
    """The transport's retries ran out; non-retryable. The message says how often, since when and why."""
    NOT_DELIVERED = "NotDelivered"
    """The receiver of notices did not take one. The message names its status or what went wrong, never the URL."""
    HISTORY_GONE = "HistoryGone"
    """The server's retention was over before the history was kept; non-retryable."""
    NOT_KEPT = "NotKept"
    """A history could not be written. The message says where and why."""


class Transport(StrEnum):
    """How a sprite is reached."""

    SPRITE_SERVICE = "sprite_service"
    LOCAL = "local"


class TransportMode(StrEnum):
    """Which transports may be used: whichever works, or only the one it is pinned to."""

    AUTO = "auto"
    SPRITE_SERVICE = "sprite_service"
    LOCAL = "local"


class History(BaseModel):
    """Base of everything in history: unknown fields of a newer writer are ignored."""

    # A secret given in the place of its reference must not come back in the error about it (D22).
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class Target(History):
    """The loop an activity is about. A mismatch of sprite, spriteId or repo path is refused (`WrongSprite`).

    `identified`: its service has shown the spriteId, so that one that shows none is another.
    """

    sprite: str
    loop_id: str
    sprite_id: str | None = None
    identified: bool = False
    repo_path: str | None = None
    service_url: str | None = None
    token: SecretReference | None = None
    edge_auth: SecretReference | None = None


class CursorPosition(History):
    """Physical lines consumed in an epoch, and the chain at that line (hex; None before anything was read).

    `h` is the first 16 hex digits of the hash of that line itself, by which a service that shows no chain is held to
    its log; None where the line is no event.
    """

    epoch: int = 1
    line: int = 0
    chain: str | None = None
    h: str | None = None


class ChainAt(History):
    """The chain (hex) behind a line of the log."""

    line: int
    chain: str


class LogImage(History):
    """What a snapshot shows of the log's bytes: one that kept its size and not its hash was edited in place."""

    line_count: int
    size_bytes: int
    sha256: str


class ObserveInput(History):
    """One observation that returns only upon news or after `observe_max_s`.

    `known` is the digest of the last observation (None: anything is news). `first_read_delay_s` postpones the first
    reading; `return_first` returns after it even without news. `interval_s` is the polling interval of a prompt
    observer (an intent or a confirmation is open); None means the steady pace: long poll while the loop runs, else
    one short read per `idle_poll_interval_s`. `image` is the log as last seen to stand still. The log is hashed again
    as a whole `scrub_after_s` after the start (None: never) and every `scrub_interval_s` from then on.
    """

    target: Target
    transport: Transport
    observer: int
    cursor: CursorPosition
    known: str | None = None
    return_first: bool = False
    first_read_delay_s: float = 0.0
    interval_s: float | None = None
    observe_max_s: float = 3600.0
    idle_poll_interval_s: float = 60.0
    running_poll_interval_s: float = 2.0
    long_poll_wait_s: float = 25.0
    stale_after_s: float = 300.0
    transport_failure_limit: int = 3
    max_events: int = 2_000
    max_bytes: int = 384 * 1024
    image: LogImage | None = None
    scrub_after_s: float | None = None
    scrub_interval_s: float = 3600.0


class EventDigest(History):
    """What decisions need of one event line; `h` is the first 16 hex digits of the line's hash."""

    line: int
    h: str
    name: str
    timestamp: str
    run_id: str = "unknown"
    iteration: int = 0
    role: str | None = None
    status: str | None = None
    message: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)


class QuarantinedDigest(History):
    """A line that is no event (D4): its number, the reason, and its hash (first 16 hex digits) if known."""

    line: int
    reason: str
    h: str | None = None


class ApprovalDigest(History):
    """approval.json: the request and, once made, the decision. `sha256` is that of the file's bytes."""

    status: str | None = None
    run_id: str | None = None
    iteration: int | None = None
    requested_at: str | None = None
    sha256: str | None = None
    promise: bool | None = None
    gates: dict[str, Any] = Field(default_factory=dict)
    decision_status: str | None = None
    decision_by: str | None = None
    decision_at: str | None = None


class ProcessRun(History):
    """One live `superloop.sh run` of the repo; pid and start time together name a process."""

    pid: int
    start_time: str | None = None
    loop_id: str | None = None


class ProcessDigest(History):
    """Process evidence. `absent`: the service does not offer it; then a missing active-run.json is weak evidence."""

    state: Literal["alive", "dead", "unknown", "absent"] = "absent"
    pid: int | None = None
    start_time: str | None = None
    loop_id: str | None = None
    source: str | None = None
    runs: list[ProcessRun] = Field(default_factory=list)


class Freshness(StrEnum):
    """Liveness by heartbeat; only a running loop can be stale (D1). `NO_HEARTBEAT`: the runtime writes none."""

    FRESH = "fresh"
    STALE = "stale"
    NO_HEARTBEAT = "no_heartbeat"


class SnapshotDigest(History):
    """What decisions need of a snapshot. Ages are seconds on the sprite's clock at `emitted_at`."""

    emitted_at: str
    status: str
    run_id: str = "unknown"
    iteration: int = 0
    event_count: int = 0
    last_event_name: str | None = None
    last_event_age_s: float | None = None
    state_present: bool = False
    state_active: bool = False
    state_loop_id: str | None = None
    state_iteration: int | None = None
    active_run_present: bool = False
    active_run_pid: int | None = None
    active_run_loop_id: str | None = None
    process: ProcessDigest = Field(default_factory=ProcessDigest)
    approval: ApprovalDigest | None = None
    gates: dict[str, Any] = Field(default_factory=dict)
    promise_matched: bool | None = None
    completion_ok: bool | None = None
    summary_run_id: str | None = None
    freshness: Freshness = Freshness.NO_HEARTBEAT
    heartbeat_age_s: float | None = None


class Contact(StrEnum):
    """What the other side said. Everything but OK is a condition of its own, never a transport failure."""

    OK = "ok"
    LOOP_NOT_FOUND = "loop_not_found"
    NOT_READY = "not_ready"
    RUNTIME_ERROR = "runtime_error"
    UNAUTHORIZED = "unauthorized"
    WRONG_SPRITE = "wrong_sprite"


class LogReset(History):
    """The log is no longer the one the cursor came from (D8): re-ingest from line 1 under a new epoch."""

    reason: Literal["cursor_ahead", "events_rewritten"]
    at_line: int
    line_count: int | None = None
    chain: str | None = None
    detail: str = ""


class Observation(History):
    """The result of `observe`.

    `digest` names the decision-relevant state (statuses, gates, process state, approval hash, freshness class,
    contact); it is handed back as `known`. `at_head`: `cursor` has reached every line the snapshot counted.
    `contact_at` is the worker's clock at the last answer. `unverifiable_from`: first line whose hash a foreign
    service could not show. `image`: the log as seen to stand still. `scrubbed`: it was hashed again as a whole.
    """

    observer: int
    transport: Transport
    contact: Contact
    contact_at: datetime
    digest: str
    detail: str = ""
    cursor: CursorPosition
    events: list[EventDigest] = Field(default_factory=list)
    quarantined: list[QuarantinedDigest] = Field(default_factory=list)
    at_head: bool = False
    snapshot: SnapshotDigest | None = None
    reset: LogReset | None = None
    unverifiable_from: int | None = None
    sprite_id: str | None = None
    repo_path: str | None = None
    trace_id: str | None = None
    image: LogImage | None = None
    scrubbed: bool = False


class ObserveHeartbeat(History):
    """Heartbeat details of `observe`; they survive into the next attempt, so failures are counted across attempts."""

    last_contact_at: datetime | None = None
    line_count: int | None = None
    transport_failures: int = 0
    failing_since: datetime | None = None
    last_error: str | None = None


class ControlInput(History):
    """One intent for `execute_control`, which runs once: Temporal never retries it."""

    target: Target
    transport: Transport
    intent: Intent
    by: str
    key: str
    trace_id: str
    note: str | None = None
    expect: Expect | None = None


class ControlOutcomeKind(StrEnum):
    """What is known about a command after one try."""

    EXECUTED = "executed"
    """The runtime's command exited 0."""
    FAILED_COMMAND = "failed_command"
    """The command ran and exited non-zero."""
    REFUSED = "refused"
    """Refused before any effect (400, 404, 412, 422, 401/403); `code` says why."""
    IN_FLIGHT = "in_flight"
    """Another request with this key is being executed (409 `in_flight`)."""
    NOT_SENT = "not_sent"
    """The connection was never made; may be tried again or through the other transport under the same key."""
    MAYBE_SENT = "maybe_sent"
    """Sent or half sent without an answer: look first, never send again blindly."""
    AMBIGUOUS = "ambiguous"
    """The sprite answered, and itself does not know whether it happened."""


class ControlOutcome(History):
    """The result of `execute_control`, and of `look_up_control` when the key is known.

    `recovered`: nobody saw the command end; the sprite found its effect, for which exit code 0 stands.
    """

    kind: ControlOutcomeKind
    transport: Transport
    sent_at: datetime
    answered_at: datetime | None = None
    code: str | None = None
    message: str = ""
    http_status: int | None = None
    exit_code: int | None = None
    argv: list[str] = Field(default_factory=list)
    output: str = ""
    replayed: bool = False
    recovered: bool = False
    current: dict[str, Any] = Field(default_factory=dict)


class LookUpInput(History):
    """Ask what the sprite knows about an idempotency key."""

    target: Target
    transport: Transport
    key: str


class LookUpKind(StrEnum):
    """What the sprite knows about a key."""

    KNOWN = "known"
    UNKNOWN_KEY = "unknown_key"
    """It may be sent: never used, provably without effect, or a cancel that did a part and can be finished."""
    IN_FLIGHT = "in_flight"
    NOT_OFFERED = "not_offered"
    """A service of the base contract: it keeps no record that can be asked."""
    UNREACHABLE = "unreachable"


class LookUpResult(History):
    """The result of `look_up_control`; `outcome` is there when kind is KNOWN."""

    kind: LookUpKind
    outcome: ControlOutcome | None = None
    message: str = ""


class ProbeInput(History):
    """Wait until the sprite service answers again: two successes of snapshot and events at the cursor."""

    target: Target
    cursor: CursorPosition
    interval_s: float = 5.0
    max_interval_s: float = 60.0
    successes: int = 2
    probe_max_s: float = 3600.0


class ProbeResult(History):
    """`recovered` is False when `probe_max_s` passed without two successes in a row.

    `other_sprite`: what answers at the service's address is another sprite; `detail` says which.
    """

    recovered: bool
    attempts: int
    detail: str = ""
    other_sprite: bool = False
