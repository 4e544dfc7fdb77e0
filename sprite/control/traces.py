"""What a command left behind: read from the artifacts, for the audit and for what crashed before it told its result."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from contract.intents import Intent
from sprite.control.evidence import Baseline
from sprite.control.findings import (
    Decision,
    Effect,
    Finding,
    Request,
    decisions_in_events,
    decisions_in_record,
    find_cancel,
    find_decision,
    was_taken_up,
)
from sprite.control.records import ControlRecord
from sprite.control.situation import read_object, read_situation
from sprite.errors import ArtifactUnreadable, LoopNotFound, NotReady, SpriteError
from sprite.files import identity, open_regular, read_range
from sprite.reader import SpriteReader
from sprite.snapshot import STATE_FILE, ArtifactPaths

Events = list[tuple[int, dict[str, Any]]]
"""Event lines with their numbers."""

_MOST_BYTES = 16 * 1024 * 1024


def events_after(reader: SpriteReader, loop_id: str, baseline: Baseline) -> tuple[Events, int]:
    """The events after the baseline with their line numbers, and the head of the log.

    Raises SpriteError, also where the log is not the one that the baseline was taken of.
    """
    line, chain = baseline.line, baseline.chain
    if line is None:
        raise ArtifactUnreadable("what the log held before the command is not known, so nothing in it is evidence")
    events: Events = []
    while True:
        page = reader.events_page(loop_id, cursor=line, chain=chain)
        events += [(one["cursor"]["eventLineOffset"], one["event"]["raw"]) for one in page["events"]]
        line, chain = page["cursor"]["eventLineOffset"], page["cursor"]["chain"]
        if line >= page["cursor"]["eventLineCount"]:
            return events, line


class Traces:
    """Reads what commands of one repo left behind. Nothing in here raises for what cannot be read: it finds less."""

    def __init__(self, reader: SpriteReader) -> None:
        self._reader = reader
        self._repo = reader.repo

    def facts(self, loop_id: str) -> dict[str, Any]:
        """Digests of what commands write, and the number of event lines; None where there is none, or it is unknown."""
        approval = self._repo / ArtifactPaths.of(loop_id).approval
        return {
            "approvalSha256": _digest(approval),
            "stateSha256": _digest(self._repo / STATE_FILE),
            "eventLines": self.line_count(loop_id),
        }

    def line_count(self, loop_id: str) -> int | None:
        """The lines that are no evidence because they were there before; None when that is not known."""
        try:
            return self._reader.line_count(loop_id)
        except (LoopNotFound, NotReady):
            return 0
        except SpriteError:
            return None

    def head(self, loop_id: str) -> tuple[int | None, str | None]:
        """As `line_count`, with the chain at that line (hex), by which another log is known; None without a line."""
        lines = self.line_count(loop_id)
        if not lines:
            return lines, None
        try:
            cursor = self._reader.events_page(loop_id, cursor=lines, max_events=1)["cursor"]
        except SpriteError:
            return None, None
        return cursor["eventLineOffset"], cursor["chain"]

    def decisions_bytes(self, loop_id: str) -> int:
        """The size of decisions.jsonl, 0 without one."""
        try:
            return self._decisions_file(loop_id).stat().st_size
        except OSError:
            return 0

    def find(self, record: ControlRecord) -> Finding:
        """What became of a command that was begun and whose result is missing; no process of it may be left."""
        events = self._events(record)
        if record.intent is not Intent.CANCEL_LOOP:
            return self._find_decision(record, events)
        try:
            situation = read_situation(self._repo)
        except SpriteError as error:
            return Finding(effect=Effect.UNKNOWN, reason="state_unreadable", evidence={"error": error.message})
        return find_cancel(record.loop_id, record.baseline, situation, situation.state_sha256, events)

    def _find_decision(self, record: ControlRecord, events: Events | None) -> Finding:
        path = ArtifactPaths.of(record.loop_id).approval
        try:
            now = Request.of(*read_object(self._repo, path))
        except SpriteError:
            now = Request(readable=False)
        recorded = [*self._decisions(record), *decisions_in_events(events or ())]
        result = record.answer.result
        return find_decision(
            record.intent,
            result.requested_by,
            result.note,
            record.baseline,
            now,
            recorded,
            taken_up=events is None or was_taken_up(events),
        )

    def _events(self, record: ControlRecord) -> Events | None:
        """The events since, None where they cannot be told: the log is unreadable, or not the one it was."""
        try:
            return events_after(self._reader, record.loop_id, record.baseline)[0]
        except (LoopNotFound, NotReady):
            return [] if record.baseline.line == 0 else None
        except SpriteError:
            return None

    def _decisions(self, record: ControlRecord) -> list[Decision]:
        """What decisions.jsonl tells since the baseline; all of it where it is not the file it was."""
        try:
            with open_regular(self._decisions_file(record.loop_id)) as descriptor:
                size = identity(descriptor).size
                start = record.baseline.decisions_bytes if record.baseline.decisions_bytes <= size else 0
                content = read_range(descriptor, start, min(size, start + _MOST_BYTES))
        except (FileNotFoundError, ArtifactUnreadable):
            return []
        return decisions_in_record(line for text in content.split(b"\n")[:-1] if (line := _object(text)) is not None)

    def _decisions_file(self, loop_id: str) -> Path:
        return self._repo / ArtifactPaths.of(loop_id).folder / "decisions.jsonl"


def _digest(path: Path) -> str | None:
    try:
        with open_regular(path) as descriptor:
            return hashlib.sha256(read_range(descriptor, 0, min(identity(descriptor).size, _MOST_BYTES))).hexdigest()
    except (FileNotFoundError, ArtifactUnreadable):
        return None


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
