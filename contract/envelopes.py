"""The two envelopes and the events page: tolerant readers of what a sprite says about a loop.

Unknown fields are accepted and kept, gates are an open map (D2); `schemaVersion`, `envelopeType`, the loop id and the
cursor are strict. What only shows what an artifact holds may be of any type, because agents and strangers write
artifacts: a value of the wrong type counts as absent, and never keeps the lines beside it from being read (D4). Field
meanings are contract.md's; additions of this project are optional, so that a service that knows only the base contract
is read as well.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

from contract.chain import read_chain
from contract.errors import EnvelopeInvalid

SCHEMA_VERSION: Literal["v1"] = "v1"
SNAPSHOT: Literal["loop_run_snapshot"] = "loop_run_snapshot"
EVENT: Literal["loop_run_event"] = "loop_run_event"
SEQUENCE_SOURCE = "cursor_event_line_offset"
MAX_CHAINS = 64
"""So many chains may be asked for in one request."""


def _else(default: Any, *kinds: type) -> BeforeValidator:
    """A value of another type than `kinds` is read as `default`."""
    return BeforeValidator(lambda value: value if type(value) in kinds else default)


def _whole(value: Any) -> int | None:
    whole = int(value) if type(value) is float and value.is_integer() else value
    return whole if type(whole) is int else None


def _or(default: Any) -> WrapValidator:
    """An object of another shape is read as `default`."""

    def read(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
        try:
            return read(value)
        except ValidationError:
            return default

    return WrapValidator(read)


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate") from None
    return text


_MAX_PATH_CHARS = 4096
_MAX_ID_CHARS = 128
SpriteId = Annotated[str, Field(min_length=1, max_length=_MAX_ID_CHARS), AfterValidator(_encodable)]
"""What a sprite calls itself: kept for the life of its supervision, so its size is bounded."""
_Text = Annotated[str | None, _else(None, str)]
_Object = Annotated[dict[str, Any] | None, _else(None, dict)]
_Whole = Annotated[int | None, BeforeValidator(_whole)]


class Wire(BaseModel):
    """A JSON object on the wire: camelCase, unknown fields kept."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, populate_by_name=True)


class Source(Wire):
    """Where an envelope comes from: the absolute repo path inside the sprite, and the loop."""

    repo_path: Annotated[str, Field(max_length=_MAX_PATH_CHARS), AfterValidator(_encodable)]
    loop_id: str


class Sequence(Wire):
    """The position of an envelope: for a snapshot the number of event lines, for an event its line number."""

    source: str
    value: int = Field(ge=0)


class Run(Wire):
    """What the contract derives about the run; lags by a run where approvals are consumed (superloop.md)."""

    run_id: Annotated[str, _else("unknown", str)] = "unknown"
    iteration: Annotated[int, BeforeValidator(lambda value: _whole(value) or 0)] = 0
    status: _Text = None
    summary: _Object = None


class RunProcess(Wire):
    """One live `superloop.sh run` process of the repo. `startTime` is text; with the pid it names the process."""

    pid: int
    start_time: str | None = None
    loop_id: str | None = None


class ProcessEvidence(Wire):
    """Additive `runtime.process`: what a scan for this repo's run processes found.

    `dead` only when the scan ran and found none. `runs` names every live run, because two may share a repo.
    """

    state: Literal["alive", "dead", "unknown"]
    pid: int | None = None
    start_time: str | None = None
    loop_id: str | None = None
    source: str | None = None
    runs: list[RunProcess] = Field(default_factory=list)


class Runtime(Wire):
    """The runtime's own files as parsed, or null."""

    superloop_state: Any = None
    active_run: Any = None
    approval: Any = None
    heartbeat: Any = None
    process: Annotated[ProcessEvidence | None, _or(ProcessEvidence(state="unknown"))] = None


class Artifact(Wire):
    """One artifact file: repo-relative path, size in bytes, number of newlines, SHA-256, mtime in epoch seconds."""

    path: _Text = None
    exists: Annotated[bool, _else(False, bool)] = False
    size_bytes: _Whole = None
    line_count: _Whole = None
    sha256: _Text = None
    mtime_epoch: _Whole = None


class LineCursor(Wire):
    """Contract cursor: physical lines consumed, lines in the file; chain and byte offset are additive."""

    event_line_offset: int = Field(ge=0)
    event_line_count: int = Field(ge=0)
    updated_at: str | None = None
    chain: Annotated[str | None, BeforeValidator(read_chain)] = None
    byte_offset: int | None = None


class Health(Wire):
    """Derived health facts of a snapshot; gates and stuck come from the last summary entry."""

    event_count: _Whole = None
    last_event_at: _Text = None
    last_event_name: _Text = None
    last_summary_at: _Text = None
    has_pending_approval: Annotated[bool, _else(False, bool)] = False
    gates: _Object = None
    stuck: Any = None


class SnapshotEnvelope(Wire):
    """Envelope `loop_run_snapshot`."""

    schema_version: Literal["v1"]
    envelope_type: Literal["loop_run_snapshot"]
    emitted_at: str
    trace_id: _Text = None
    source: Source
    sequence: Sequence
    run: Run
    runtime: Runtime
    artifacts: dict[str, Annotated[Artifact | None, _or(None)]] = Field(default_factory=dict)
    cursor: LineCursor
    health: Health = Field(default_factory=Health)
    sprite_id: SpriteId | None = None

    @staticmethod
    def read(body: object, *, loop_id: str) -> SnapshotEnvelope:
        """Validate a parsed body as the snapshot of `loop_id`; raises EnvelopeInvalid."""
        return _read(SnapshotEnvelope, body, loop_id=loop_id, what="snapshot")


class Event(Wire):
    """The event inside an event envelope; `raw` is the whole line as JSON, empty where it is no object."""

    timestamp: _Text = None
    name: _Text = None
    role: _Text = None
    status: _Text = None
    message: _Text = None
    payload: Any = None
    raw: Annotated[dict[str, Any], _else({}, dict)]


class EventEnvelope(Wire):
    """Envelope `loop_run_event`; `cursor.eventLineOffset` is the 1-based physical line."""

    schema_version: Literal["v1"]
    envelope_type: Literal["loop_run_event"]
    emitted_at: str
    trace_id: _Text = None
    source: Source
    sequence: Sequence
    cursor: LineCursor
    run: Run
    event: Event


class QuarantinedLine(Wire):
    """A terminated line that is no event (D4): its number, why, and its hash `h` (hex) for the chain."""

    line: int = Field(ge=1)
    reason: str
    h: str | None = None


class LineChain(Wire):
    """The chain behind a line (an addition)."""

    line: int = Field(ge=0)
    chain: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class EventsPage(Wire):
    """The answer of `GET /ops/events`. `chains`: those asked for by `chainAt` that the log has."""

    ok: Literal[True]
    schema_version: Literal["v1"]
    trace_id: _Text = None
    source: Source
    events: list[EventEnvelope]
    cursor: LineCursor
    quarantined: list[QuarantinedLine] = Field(default_factory=list)
    chains: list[LineChain] | None = None
    sprite_id: SpriteId | None = None
    snapshot_etag: str | None = None

    @staticmethod
    def read(body: object, *, loop_id: str, after_line: int) -> EventsPage:
        """Validate a parsed body as the page of `loop_id` after `after_line`; raises EnvelopeInvalid.

        Besides the shape: events belong to the loop, lie after `after_line`, ascend, and end at or before the cursor.
        """
        page = _read(EventsPage, body, loop_id=loop_id, what="events page")
        page.check_order(after_line, loop_id)
        return page

    def check_order(self, after_line: int, loop_id: str) -> None:
        """Raise EnvelopeInvalid unless the page's lines ascend strictly within (after_line, cursor]."""
        line = after_line
        for envelope in self.events:
            if envelope.source.loop_id != loop_id:
                raise EnvelopeInvalid(f"events page of loop {loop_id!r} holds an event of {envelope.source.loop_id!r}")
            if envelope.cursor.event_line_offset <= line:
                raise EnvelopeInvalid(f"events page: line {envelope.cursor.event_line_offset} follows line {line}")
            line = envelope.cursor.event_line_offset
        if self.cursor.event_line_offset < line:
            raise EnvelopeInvalid(f"events page: cursor {self.cursor.event_line_offset} lies before line {line}")


class LoopStatus(Wire):
    """One loop in `GET /ops/loops`; status is null while the loop has no snapshot yet."""

    loop_id: str
    status: str | None = None


class LoopsPage(Wire):
    """The answer of `GET /ops/loops` (an addition): the loops of this sprite."""

    ok: Literal[True]
    schema_version: Literal["v1"]
    loops: list[LoopStatus]
    repo_path: str | None = None
    sprite_id: SpriteId | None = None


_M = TypeVar("_M", SnapshotEnvelope, EventsPage)


def _read(model: type[_M], body: object, *, loop_id: str, what: str) -> _M:
    if not isinstance(body, dict):
        raise EnvelopeInvalid(f"{what} must be a JSON object, not {type(body).__name__}")
    version = body.get("schemaVersion")
    if version != SCHEMA_VERSION:
        raise EnvelopeInvalid(
            f"{what} has schemaVersion {str(version)[:40]!r}; this manager speaks {SCHEMA_VERSION!r} only: "
            "update the older side"
        )
    try:
        read = model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise EnvelopeInvalid(f"{what}: {where or 'body'}: {first['msg']}") from None
    if read.source.loop_id != loop_id:
        raise EnvelopeInvalid(f"{what} is about loop {read.source.loop_id!r}, but {loop_id!r} was asked for")
    return read
