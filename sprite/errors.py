"""What the sprite refuses or cannot do, each with the contract's error code.

SpriteError                    `.code`, `.message`, `.fields`: exactly what goes into an error body
├── LoopNotFound               no folder of this loop in the repo; a retry helps once the loop was started
├── NotReady                   the loop has a folder but no event yet; a retry helps
├── ArtifactUnreadable         an artifact stayed empty, half written or too large; a retry helps once it is whole
├── CursorAhead                the cursor lies beyond the log; a retry cannot help, re-ingest from line 1
├── EventsRewritten            the log is not the one the cursor came from; likewise
├── RepoInvalid                the repo is no usable directory; start again with the right path
├── StateFolderUnusable        the user's state folder cannot be written; start again once it can
└── ...                        refusals of control, in `sprite.control`
"""

from __future__ import annotations

from typing import Any, ClassVar

from contract.errors import ErrorCode

RETRY_AFTER_S = 1
"""When it makes sense to ask again for what is not there yet: the runtime's commands take about a second."""


class SpriteError(Exception):
    """Something the sprite refuses or cannot do.

    `message` says what was wrong, where, and what to do next; `fields` are additive members of the error body.
    """

    code: ClassVar[ErrorCode] = ErrorCode.RUNTIME_ERROR

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields: dict[str, Any] = fields


class LoopNotFound(SpriteError):
    """The repo has no folder for this loop."""

    code = ErrorCode.LOOP_NOT_FOUND


class NotReady(SpriteError):
    """The loop's folder is there, its first event is not written yet."""

    code = ErrorCode.NOT_READY


class ArtifactUnreadable(SpriteError):
    """An artifact could not be read as what it must be, and waiting a little did not help (D16)."""

    code = ErrorCode.RUNTIME_ERROR


class RepoInvalid(SpriteError):
    """The given repo is not a directory that can be served."""

    code = ErrorCode.RUNTIME_ERROR


class StateFolderUnusable(SpriteError):
    """The folder for our own state, outside the repo, cannot be made, read or written."""

    code = ErrorCode.RUNTIME_ERROR


class LogMismatch(SpriteError):
    """A cursor that does not belong to the log as it is; `fields["cursor"]` is the head of the log now (D8)."""

    reason: ClassVar[str]

    def __init__(self, cursor: int, *, line_count: int, byte_offset: int, chain: str) -> None:
        head = {"eventLineOffset": line_count, "eventLineCount": line_count, "chain": chain, "byteOffset": byte_offset}
        super().__init__(self.reason.format(cursor=cursor, count=line_count), cursor=head)


class CursorAhead(LogMismatch):
    """The cursor lies beyond the last terminated line."""

    code = ErrorCode.CURSOR_AHEAD
    reason = "cursor offset ({cursor}) exceeds available events ({count}); reset cursor or use --from-start"


class EventsRewritten(LogMismatch):
    """The chain at the cursor is not the one the client has: the log was rewritten or replaced."""

    code = ErrorCode.EVENTS_REWRITTEN
    reason = (
        "the event log is not the one this cursor came from: its hash chain differs at line {cursor} (the log has "
        "{count} lines now); reset cursor or use --from-start"
    )
