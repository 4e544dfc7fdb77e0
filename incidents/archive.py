"""An incident in one file: histories, the event log and their comparison, in a zip that needs nothing else.

    manifest.json                what it is of, when and by which version it was made, its runs, the settings in force
    histories/NNN-<runId>.json   one run each, whole, as the Temporal CLI writes it: every one can be replayed
    log/events.jsonl             the event log line by line, if the sprite could be reached
    verify.json                  the log held against the histories, a report per continue-as-new chain

Settings are the supervisor's, which name secrets by reference only. Whatever secret was known to whoever exported is
taken out of everything else as well; the hash of a log line that held one is kept beside it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import lzma
import os
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from contract.observation import Target
from contract.reports import Report
from contract.supervision import SupervisorOptions
from incidents.collect import Collected, Span
from incidents.history import HistoryInvalid, Run
from incidents.log import EventLog, LoggedLine, dump_lines, load_lines
from incidents.verify import VerifyReport

FORMAT = 1
HIDDEN = "[hidden]"
SHORTEST_SECRET = 8
"""A shorter secret is a word like any other: hiding it would change what happened."""
MOST_BYTES = 1_000_000_000
"""Unpacked. A month of 5,000 events a day is a fifth of it; a file that claims more is not unpacked at all."""
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, TypeError, ValueError, RuntimeError,
    HistoryInvalid,
)  # fmt: skip
"""What reading somebody else's zip, or a damaged one, ends with."""


class ArchiveInvalid(Exception):
    """This file is no archive of an incident, or one of a newer version. The message says which."""


class RunEntry(Report):
    """One run in the archive. `source`: server or archives, the latter once the server's retention was over."""

    run_id: str
    first_run_id: str
    file: str
    started_at: datetime
    last_event_at: datetime
    events: int
    ending: str | None = None
    source: str = "server"


class LogEntry(Report):
    """The event log in the archive. `trouble` says why not all of it was read."""

    file: str = "log/events.jsonl"
    transport: str
    read_at: datetime
    lines: int
    trouble: str = ""


class Manifest(Report):
    """What an archive holds. `missing`: runs that are known of and whose history nobody has any more."""

    format: int = FORMAT
    made_at: datetime
    versions: dict[str, str] = Field(default_factory=dict)
    workflow_id: str
    sprite: str
    loop_id: str
    since: datetime | None = None
    until: datetime | None = None
    target: Target
    options: SupervisorOptions
    runs: list[RunEntry] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)
    log: LogEntry | None = None
    log_missing: str = ""


@dataclass
class Incident:
    """What is known of an incident, in memory."""

    manifest: Manifest
    runs: list[Run]
    log: EventLog | None = None
    verified: list[VerifyReport] = field(default_factory=list)


def manifest_of(
    collected: Collected, *, span: Span, made_at: datetime, versions: dict[str, str], log: EventLog | None, no_log: str
) -> Manifest:
    """The manifest of what was collected, which is at least one run."""
    runs = collected.runs
    newest = runs[-1].start
    return Manifest(
        made_at=made_at,
        versions=versions,
        workflow_id=runs[-1].workflow_id,
        sprite=newest.target.sprite,
        loop_id=newest.target.loop_id,
        since=span.since,
        until=span.until,
        target=newest.target,
        options=newest.options,
        runs=[_entry(number, run, collected.sources.get(run.run_id, "server")) for number, run in enumerate(runs, 1)],
        missing=collected.missing,
        log=None
        if log is None
        else LogEntry(transport=log.transport, read_at=log.read_at, lines=log.line_count, trouble=log.trouble),
        log_missing=no_log,
    )


def _entry(number: int, run: Run, source: str) -> RunEntry:
    return RunEntry(
        run_id=run.run_id,
        first_run_id=run.first_run_id,
        file=f"histories/{number:03d}-{run.run_id}.json",
        started_at=run.started_at,
        last_event_at=run.last_at,
        events=len(run.events),
        ending=run.ending,
        source=source,
    )


def without(incident: Incident, secrets: Sequence[str]) -> Incident:
    """The incident with everything that was a secret taken out."""
    hide = _Hiding(secrets)
    if not hide.anything:
        return incident
    runs = [Run.from_json(run.workflow_id, hide.history(run.to_json())) for run in incident.runs]
    log = incident.log
    if log is not None:
        log = log.model_copy(
            update={"lines": [hide.line(line) for line in log.lines], "trouble": hide.text(log.trouble)}
        )
    manifest = Manifest.model_validate_json(hide.text(incident.manifest.model_dump_json(by_alias=True)))
    verified = _REPORTS.validate_json(hide.text(_REPORTS.dump_json(incident.verified, by_alias=True).decode()))
    return Incident(manifest, runs, log, verified)


def write(incident: Incident, path: Path) -> None:
    """Write an archive at once: there is a whole file of that name afterwards, or the one that was there before.

    Raises OSError.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                _write_members(archive, incident)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _write_members(archive: zipfile.ZipFile, incident: Incident) -> None:
    archive.writestr("manifest.json", incident.manifest.model_dump_json(by_alias=True, indent=2))
    for entry, run in zip(incident.manifest.runs, incident.runs, strict=True):
        archive.writestr(entry.file, run.to_json())
    if incident.log is not None and incident.manifest.log is not None:
        archive.writestr(incident.manifest.log.file, dump_lines(incident.log.lines))
    archive.writestr("verify.json", _REPORTS.dump_json(incident.verified, by_alias=True, indent=2))


def read(path: Path) -> Incident:
    """Read an archive; raises ArchiveInvalid, and OSError when the file cannot be read at all."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_members(archive)
    except _BROKEN as error:
        raise ArchiveInvalid(f"{path} is no archive of an incident: {_why(error)[:200]}") from None


def _why(error: Exception) -> str:
    told = str(error)
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        told = f"{error.title} {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(told.split()) or type(error).__name__


def _read_members(archive: zipfile.ZipFile) -> Incident:
    size = sum(member.file_size for member in archive.infolist())
    if size > MOST_BYTES:
        raise ValueError(f"it unpacks to {size} bytes, and at most {MOST_BYTES} are read")
    manifest = _read_manifest(json.loads(archive.read("manifest.json")))
    runs = [Run.from_json(manifest.workflow_id, archive.read(entry.file)) for entry in manifest.runs]
    for run in runs:
        _ = run.carried  # with the start; whoever tells the incident relies on both
    log = None
    if manifest.log is not None:
        lines = load_lines(archive.read(manifest.log.file).decode())
        kept = manifest.log
        log = EventLog(
            transport=kept.transport, read_at=kept.read_at, line_count=kept.lines, trouble=kept.trouble, lines=lines
        )
    verified = _REPORTS.validate_json(archive.read("verify.json"))
    return Incident(manifest, runs, log, verified)


def _read_manifest(told: Any) -> Manifest:
    number = told.get("format") if isinstance(told, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise ValueError(f"a newer version made it (format {number}), this one reads format {FORMAT}")
    if number != FORMAT:
        raise ValueError(f"its manifest has format {number!r}, this version reads {FORMAT}")
    return Manifest.model_validate(told)


_REPORTS = TypeAdapter(list[VerifyReport])


class _Hiding:
    """Takes secrets out of texts, also where a history holds them in base64."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = sorted({secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True)

    @property
    def anything(self) -> bool:
        """Whether there is anything to hide."""
        return bool(self._secrets)

    def text(self, text: str) -> str:
        for secret in self._secrets:
            # In JSON a secret may be written with escapes.
            for form in {secret, json.dumps(secret)[1:-1]}:
                text = text.replace(form, HIDDEN)
        return text

    def line(self, line: LoggedLine) -> LoggedLine:
        told = line.model_dump_json()
        hidden = self.text(told)
        if hidden == told:
            return line
        kept = line.hash.hex() if line.hash is not None else None
        return LoggedLine.model_validate_json(hidden).model_copy(update={"h": kept, "hidden": True})

    def history(self, text: str) -> str:
        return json.dumps(self._hide_in(json.loads(text)))

    def _hide_in(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._payload(item) if key == "data" else self._hide_in(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._hide_in(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def _payload(self, value: Any) -> Any:
        if not isinstance(value, str):
            return self._hide_in(value)
        try:
            told = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError):
            return self.text(value)
        hidden = self.text(told)
        return value if hidden == told else base64.b64encode(hidden.encode()).decode()
