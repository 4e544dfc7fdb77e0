"""Who asked for what, what was run, and what it left behind: an append-only log beside the ledger (docs/security.md).

One JSON object a line, on disk before the command is started: without room for it nothing is run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract.control import CommandAnswer, ControlRequest
from sprite.control.database import told
from sprite.control.findings import Finding
from sprite.control.records import ControlRecord
from sprite.errors import SpriteError

AUDIT_FILE = "control-invocations.jsonl"
MAX_BYTES = 8 * 1024 * 1024
"""When the log is moved aside; a line is under 128 KiB: it may hold a note of 4,000 characters twice."""
KEPT = 4
"""How many logs that were moved aside are kept, as `<name>.1` (the youngest) and so on."""

_WHAT = "the audit log of control"


class Audit:
    """The log in `folder`. Safe in threads and processes; every method raises StoreUnusable when it cannot be written.

    Args:
        transport: Which way the requests came.
        sprite_id: Whose log this is.
    """

    def __init__(self, folder: Path, *, transport: str, sprite_id: str, max_bytes: int = MAX_BYTES) -> None:
        self._path = folder / AUDIT_FILE
        self._lock = folder / "audit.lock"
        self._max_bytes = max_bytes
        self._origin = {"transport": transport, "spriteId": sprite_id, "servicePid": os.getpid()}

    def begun(self, request: ControlRequest, key: str, argv: Sequence[str], before: dict[str, Any]) -> None:
        """The command is about to be started; raises StoreUnusable with the words "no effect"."""
        with told("no effect: ", _WHAT):
            self._append("begun", {**_asked(request, key), "argv": list(argv), "before": before})

    def ended(
        self, request: ControlRequest, key: str, answer: CommandAnswer, after: dict[str, Any], found: Finding
    ) -> None:
        """The command has ended, or nobody knows how; `found` says what it left behind."""
        result = answer.result
        told_by_command = {"status": result.status.value, "exitCode": result.exit_code, "output": result.command_output}
        self._append("ended", {**_asked(request, key), **told_by_command, "after": after, "evidence": _shown(found)})

    def settled(self, record: ControlRecord, state: str, after: dict[str, Any], found: Finding) -> None:
        """A command whose result was lost has been judged by what it left behind."""
        result = record.answer.result
        asked = {
            "loopId": record.loop_id,
            "intent": result.intent,
            "by": result.requested_by,
            "note": result.note,
            "key": record.key,
            "traceId": result.trace_id,
        }
        self._append("settled", {**asked, "state": state, "after": after, "evidence": _shown(found)})

    def refused(self, request: ControlRequest, key: str | None, error: SpriteError) -> None:
        """A request was not carried out."""
        self._append("refused", {**_asked(request, key), "code": error.code.value, "message": error.message})

    def check_writable(self) -> None:
        """Raise StoreUnusable unless the log can be opened for writing."""
        with told("", _WHAT), self._opened():
            pass

    def _append(self, phase: str, facts: dict[str, Any]) -> None:
        record = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "phase": phase, **facts, **self._origin}
        given = {name: value for name, value in record.items() if value is not None}
        line = json.dumps(given, ensure_ascii=True).encode() + b"\n"
        with told("", _WHAT), self._opened() as log:
            end = os.fstat(log).st_size
            torn = end > 0 and os.pread(log, 1, end - 1) != b"\n"
            _write_whole(log, b"\n" + line if torn else line)
            os.fsync(log)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """The log for one writer, moved aside before where it is full."""
        with _closing(self._lock) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._path.exists() and self._path.stat().st_size >= self._max_bytes:
                self._move_aside()
            with _closing(self._path) as log:
                yield log

    def _move_aside(self) -> None:
        for number in range(KEPT, 0, -1):
            younger = self._aside(number - 1) if number > 1 else self._path
            if younger.exists():
                younger.replace(self._aside(number))

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _asked(request: ControlRequest, key: str | None) -> dict[str, Any]:
    return {
        "loopId": request.loop_id,
        "intent": request.intent.wire,
        "by": request.by,
        "note": request.note,
        "key": key,
        "traceId": request.trace_id,
        "expect": request.expect.model_dump(mode="json", by_alias=True, exclude_none=True) if request.expect else None,
    }


def _shown(found: Finding) -> dict[str, Any]:
    return {"effect": found.effect.value, "reason": found.reason, **found.evidence}


@contextlib.contextmanager
def _closing(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_whole(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]
