"""`ops-manager sprite snapshot|events`: the envelopes of a loop, read where its artifacts are."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from cli.errors import CommandError, NotFound, Refused, TransportProblem, UsageProblem
from cli.terminal import clean, say
from contract.envelopes import SCHEMA_VERSION
from contract.errors import IdentifierInvalid
from sprite.errors import LogMismatch, LoopNotFound, RepoInvalid, SpriteError
from sprite.jsonvalue import compact, sendable
from sprite.reader import SpriteReader

_REPO = click.option(
    "--repo", default=Path(), type=click.Path(path_type=Path), help="The repo that holds .superloop/ (default: here)."
)
_LOOP = click.option("--loop", "loop_id", required=True, help="The loop's id.")
_TRACE_ID = click.option("--trace-id", help="Shown as traceId in what is printed.")


@click.group()
def sprite_group() -> None:
    """Inside a sprite: print what is known about a loop, or serve it."""


@sprite_group.command("snapshot")
@_REPO
@_LOOP
@_TRACE_ID
@click.option("--pretty", is_flag=True, help="Indented, for people.")
def snapshot(repo: Path, loop_id: str, trace_id: str | None, pretty: bool) -> None:
    """Print the loop_run_snapshot envelope of a loop."""
    with _told_in_one_line():
        envelope = SpriteReader(repo).snapshot(loop_id, trace_id=trace_id)
    _write([_json(envelope, pretty=pretty)])


@sprite_group.command("events")
@_REPO
@_LOOP
@click.option("--cursor", type=click.IntRange(min=0), help="Print the events after this line.")
@click.option(
    "--cursor-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Go on where this file says, and keep it; made when missing.",
)
@click.option("--from-start", is_flag=True, help="From line 1 (the default), whatever --cursor-file says.")
@click.option("--max-events", type=click.IntRange(min=0), default=0, help="At most so many; 0 (the default): all.")
@_TRACE_ID
def events(
    repo: Path,
    loop_id: str,
    cursor: int | None,
    cursor_file: Path | None,
    from_start: bool,
    max_events: int,
    trace_id: str | None,
) -> None:
    """Print one loop_run_event envelope a line; lines that are no events are named on stderr.

    With --cursor-file the cursor moves only after the events were written out: none is ever lost, and after a crash
    some may come again.
    """
    if cursor is not None and (cursor_file is not None or from_start):
        raise UsageProblem("error: --cursor cannot be combined with --cursor-file or --from-start")
    with _told_in_one_line():
        reader = SpriteReader(repo)
        start = _Start(cursor or 0)
        if cursor_file is not None and not from_start:
            start = _read_cursor(cursor_file, loop_id, reader.repo)
        for page in _pages(reader, loop_id, start, max_events, trace_id):
            _write([_json(envelope) for envelope in page["events"]])
            for line in page["quarantined"]:
                say(f"warning: line {line['line']} of {loop_id} is no event: {clean(line['reason'])}")
            if cursor_file is not None:
                _keep_cursor(cursor_file, page)


@dataclass(frozen=True)
class _Start:
    """Where to begin: a line, and the chain there if known."""

    line: int
    chain: str | None = None


def _pages(
    reader: SpriteReader, loop_id: str, start: _Start, max_events: int, trace_id: str | None
) -> Iterator[dict[str, Any]]:
    """Pages from `start` until the log's end or `max_events` (0: no limit), each checked to continue the one before."""
    line, chain, printed = start.line, start.chain, 0
    while True:
        wanted = max_events - printed if max_events else 0
        page = reader.events_page(loop_id, cursor=line, chain=chain, max_events=wanted, trace_id=trace_id)
        yield page
        line, chain = page["cursor"]["eventLineOffset"], page["cursor"]["chain"]
        printed += len(page["events"])
        if line >= page["cursor"]["eventLineCount"] or printed == max_events > 0:
            return


def _read_cursor(file: Path, loop_id: str, repo: Path) -> _Start:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _Start(0)
    except OSError as error:
        raise UsageProblem(f"error: cannot read cursor file {file}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise UsageProblem(f"error: cursor file {file} is not JSON; remove it or use --from-start") from None
    if not isinstance(kept, dict):
        kept = {}
    cursor = kept.get("cursor")
    if not isinstance(cursor, dict):
        cursor = {}
    line = cursor.get("eventLineOffset")
    if type(line) is not int or line < 0:
        raise UsageProblem(f"error: cursor file {file} holds no cursor.eventLineOffset; remove it or use --from-start")
    if kept.get("schemaVersion", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise UsageProblem(f"error: cursor file {file} has another schemaVersion than {SCHEMA_VERSION}")
    if kept.get("loopId", loop_id) != loop_id:
        raise UsageProblem(f"error: cursor file {file} belongs to another loop than {loop_id}; give each its own")
    kept_repo = kept.get("repoPath", str(repo))
    if not isinstance(kept_repo, str) or os.path.realpath(kept_repo) != str(repo):
        raise UsageProblem(f"error: cursor file {file} belongs to another repo than {repo}; give each its own")
    chain = cursor.get("chain")
    return _Start(line, chain if isinstance(chain, str) else None)


def _keep_cursor(file: Path, page: dict[str, Any]) -> None:
    """Replace the cursor file, so that it is always whole: the old one or the new one."""
    kept = {
        "schemaVersion": SCHEMA_VERSION,
        "repoPath": page["source"]["repoPath"],
        "loopId": page["source"]["loopId"],
        "cursor": page["cursor"],
    }
    try:
        descriptor, temporary = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(json.dumps(kept) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, file)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageProblem(f"error: cannot write cursor file {file}: {error.strerror or error}") from None


def _json(envelope: dict[str, Any], *, pretty: bool = False) -> bytes:
    text = json.dumps(sendable(envelope), ensure_ascii=False, indent=2) if pretty else compact(envelope)
    return text.encode() + b"\n"


def _write(lines: list[bytes]) -> None:
    """Write data out at once, in UTF-8 whatever the locale."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    sys.stdout.flush()
    sys.stdout.buffer.write(b"".join(lines))
    sys.stdout.buffer.flush()


@contextmanager
def _told_in_one_line() -> Iterator[None]:
    """Turn what the sprite refuses into one line on stderr, in the reference's words, and an exit code."""
    try:
        yield
    except IdentifierInvalid as error:
        raise UsageProblem(f"error: {clean(error)}") from None
    except SpriteError as error:
        raise _ending_of(error)(f"error: {clean(error.message)}") from None


def _ending_of(error: SpriteError) -> type[CommandError]:
    if isinstance(error, LoopNotFound):
        return NotFound
    if isinstance(error, RepoInvalid):
        return UsageProblem
    return Refused if isinstance(error, LogMismatch) else TransportProblem
