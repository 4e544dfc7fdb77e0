"""Reading a sprite: snapshots, event pages and the wait for news, for HTTP service, local transport and CLI."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract.clock import format_utc
from contract.errors import IdentifierInvalid
from contract.identifiers import check_loop_id
from sprite import identity, processes, snapshot
from sprite.artifacts import JsonArtifacts, Patience, any_json, json_object, last_entry, read_quietly
from sprite.errors import LoopNotFound, NotReady, RepoInvalid, SpriteError
from sprite.eventlog import PAGE_MAX_BYTES, EventLog
from sprite.events import events_page
from sprite.files import FileIdentity, identity_at
from sprite.processes import ProcessScan, ScanResult
from sprite.snapshot import ACTIVE_RUN_FILE, CONFIG_FILE, LOOPS_FOLDER, STATE_FILE, ArtifactPaths, Readings

WAIT_SCAN_INTERVAL_S = 2.0
"""How old a scan of all processes may be while waiting for news; in between only the known runs are looked at."""


class SpriteReader:
    """Reads one repo. Synchronous and safe to use from several threads; keeps only indexes and caches.

    Methods that take a loop id raise IdentifierInvalid for one that must not be used, before anything is read (D11),
    LoopNotFound without the loop's folder, NotReady without its events.jsonl, and ArtifactUnreadable when an artifact
    stays empty or half written (D16).
    """

    def __init__(self, repo: Path, *, state_dir: Path | None = None, process_scan: ProcessScan | None = None) -> None:
        """Raises RepoInvalid when `repo` is no directory, StateFolderUnusable when our state cannot be kept.

        `state_dir` replaces the user's state folder; `process_scan` replaces the scan for live runs.
        """
        self.repo = _checked_repo(repo)
        self.state_folder = identity.state_folder(self.repo, state_dir)
        self.sprite_id = identity.sprite_id(self.state_folder)
        self._scan_processes = process_scan or processes.scan_runs
        self._artifacts = JsonArtifacts(self.repo)
        self._logs: dict[str, EventLog] = {}
        self._lock = threading.Lock()
        self._last_scan: tuple[float, ScanResult] | None = None

    def snapshot(self, loop_id: str, *, trace_id: str | None = None) -> dict[str, Any]:
        """The snapshot envelope of a loop, with the additions `runtime.process` and `spriteId`."""
        return self._snapshot(loop_id, trace_id=trace_id)

    def snapshot_etag(self, loop_id: str) -> str:
        """A tag of what the snapshot would say now, be it that there is none and why; equal tags mean no news."""
        return self._etag(loop_id, max_scan_age_s=0.0)

    def etag_of(self, snapshot_envelope: dict[str, Any]) -> str:
        """The tag of a snapshot already made by `snapshot`."""
        return snapshot.etag_of(snapshot_envelope)

    def events_page(
        self,
        loop_id: str,
        *,
        cursor: int = 0,
        max_events: int = 0,
        max_bytes: int = PAGE_MAX_BYTES,
        chain: str | None = None,
        rehash: bool = False,
        chain_at: Sequence[int] = (),
        trace_id: str | None = None,
    ) -> dict[str, Any]:
        """The events after line `cursor`: the body of `GET /ops/events` with our additions.

        A page holds at most `max_events` events (0: as many as fit) and about `max_bytes`, but at least one line.
        `chain` (hex) is what the client has at its cursor. `rehash` hashes the whole log again before, `chain_at` asks
        for the chains at these lines too. Raises CursorAhead and EventsRewritten, both with the
        current head, when the cursor does not belong to the log (D8).
        """
        with self._loop(loop_id):
            log = self._log(loop_id)
            if rehash:
                log.rehash()
            page = log.page(cursor, max_events=max_events, max_bytes=max_bytes, chain_hex=chain)
            chains = log.positions(chain_at) if chain_at else None
        return events_page(
            page,
            source=self._source(loop_id),
            emitted_at=_now(),
            trace_id=trace_id,
            sprite_id=self.sprite_id,
            chains=chains,
        )

    def line_count(self, loop_id: str) -> int:
        """The number of terminated lines in the loop's log; costs what was appended since the last look."""
        with self._loop(loop_id):
            return self._log(loop_id).line_count()

    def rehash(self, loop_id: str) -> bool:
        """Hash the loop's whole log again; False when it was edited behind our back, and is now read anew (D8)."""
        with self._loop(loop_id):
            return self._log(loop_id).rehash()

    def loops(self) -> list[dict[str, Any]]:
        """`[{loopId, status}]` of every loop with a folder or in config.json; status is null without a snapshot."""
        scan, patience = self._scan(max_age_s=WAIT_SCAN_INTERVAL_S), Patience()
        return [
            {"loopId": loop_id, "status": self._status(loop_id, scan, patience)} for loop_id in sorted(self._loop_ids())
        ]

    async def wait_for_news(
        self,
        loop_id: str,
        *,
        cursor: int,
        snapshot_etag: str | None,
        timeout_s: float,
        poll_interval_s: float = 0.2,
    ) -> bool:
        """Wait until there are lines after `cursor` (or fewer than it), or another snapshot than `snapshot_etag`.

        False when `timeout_s` passed without either. While nothing happens only file times and known pids are looked
        at; every WAIT_SCAN_INTERVAL_S it looks properly. A loop that is missing counts as a log without lines.
        """
        check_loop_id(loop_id)
        deadline = time.monotonic() + timeout_s
        glimpsed: object = None
        looked_at = 0.0
        while True:
            glimpse = self._glimpse(loop_id)
            if glimpse != glimpsed or time.monotonic() - looked_at >= WAIT_SCAN_INTERVAL_S:
                glimpsed, looked_at = glimpse, time.monotonic()
                if await asyncio.to_thread(self._has_news, loop_id, cursor, snapshot_etag):
                    return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await asyncio.sleep(min(poll_interval_s, left))

    def _glimpse(self, loop_id: str) -> tuple[list[FileIdentity | None], list[bool]]:
        """What can be seen of a loop without opening anything."""
        paths = ArtifactPaths.of(loop_id)
        names = (paths.events, STATE_FILE, ACTIVE_RUN_FILE, paths.approval, paths.summary, paths.heartbeat)
        last = self._last_scan
        return [identity_at(self.repo / name) for name in names], _still_runs(last[1]) if last else []

    def _has_news(self, loop_id: str, cursor: int, snapshot_etag: str | None) -> bool:
        try:
            lines = self.line_count(loop_id)
        except SpriteError:
            lines = 0
        if lines != cursor:
            return True
        return snapshot_etag is not None and snapshot_etag != self._etag(loop_id, max_scan_age_s=WAIT_SCAN_INTERVAL_S)

    def _etag(self, loop_id: str, *, max_scan_age_s: float) -> str:
        try:
            return snapshot.etag_of(self._snapshot(loop_id, max_scan_age_s=max_scan_age_s))
        except SpriteError as error:
            return snapshot.etag_of_absence(error.code.value)

    def _snapshot(
        self,
        loop_id: str,
        *,
        trace_id: str | None = None,
        scan: ScanResult | None = None,
        max_scan_age_s: float = 0.0,
        patience: Patience | None = None,
    ) -> dict[str, Any]:
        with self._loop(loop_id):
            scan = scan or self._scan(max_age_s=max_scan_age_s)
            readings = self._readings(loop_id, scan, patience or Patience())
        return snapshot.snapshot_envelope(
            readings,
            repo_path=str(self.repo),
            loop_id=loop_id,
            emitted_at=_now(),
            trace_id=trace_id,
            sprite_id=self.sprite_id,
        )

    def _readings(self, loop_id: str, scan: ScanResult, patience: Patience) -> Readings:
        paths, read = ArtifactPaths.of(loop_id), self._artifacts.read
        return Readings(
            process=processes.evidence(scan, loop_id),
            state=read(STATE_FILE, patience, json_object),
            active_run=read(ACTIVE_RUN_FILE, patience, any_json),
            approval=read(paths.approval, patience, json_object),
            heartbeat=read(paths.heartbeat, patience, any_json),
            summary=read(paths.summary, patience, last_entry),
            log=self._log(loop_id).facts(),
        )

    def _scan(self, *, max_age_s: float) -> ScanResult:
        """A scan for live runs, at most `max_age_s` old; never one that names a process which ended since."""
        started = time.monotonic()
        last = self._last_scan
        if last is not None and started - last[0] < max_age_s and all(_still_runs(last[1])):
            return last[1]
        scan = self._scan_processes(self.repo)
        with self._lock:
            if self._last_scan is None or self._last_scan[0] < started:
                self._last_scan = (started, scan)
        return scan

    def _status(self, loop_id: str, scan: ScanResult, patience: Patience) -> str | None:
        try:
            status: str = self._snapshot(loop_id, scan=scan, patience=patience)["run"]["status"]
        except SpriteError:
            return None
        return status

    def _loop_ids(self) -> set[str]:
        found: set[str] = set()
        folders = self.repo / LOOPS_FOLDER
        if folders.is_dir():
            found.update(folder.name for folder in folders.iterdir() if folder.is_dir())
        config = read_quietly(self.repo / CONFIG_FILE)
        loops = config.get("loops") if isinstance(config, dict) else None
        if isinstance(loops, list):
            found.update(loop["id"] for loop in loops if isinstance(loop, dict) and isinstance(loop.get("id"), str))
        return {loop_id for loop_id in found if _is_usable(loop_id)}

    def _log(self, loop_id: str) -> EventLog:
        with self._lock:
            log = self._logs.get(loop_id)
            if log is None:
                log = self._logs[loop_id] = EventLog(self.repo / ArtifactPaths.of(loop_id).events)
            return log

    @contextmanager
    def _loop(self, loop_id: str) -> Iterator[None]:
        """Check the loop before its artifacts are read, and name what is missing as the reference does."""
        check_loop_id(loop_id)
        paths = ArtifactPaths.of(loop_id)
        if not (self.repo / paths.folder).is_dir():
            raise LoopNotFound(f"required artifact root missing: {self.repo / paths.folder}")
        missing = NotReady(f"required artifact missing: {self.repo / paths.events}")
        if not (self.repo / paths.events).exists():
            raise missing
        try:
            yield
        except FileNotFoundError:
            raise missing from None

    def _source(self, loop_id: str) -> dict[str, str]:
        return {"repoPath": str(self.repo), "loopId": loop_id}


def _checked_repo(repo: Path) -> Path:
    resolved = Path(repo).expanduser().resolve()
    if not resolved.is_dir():
        raise RepoInvalid(f"repo {resolved} is not a directory; give the folder that holds .superloop/")
    try:
        str(resolved).encode()
    except UnicodeEncodeError:
        raise RepoInvalid(f"repo {resolved!a} has a path that is not UTF-8, which no envelope can name") from None
    return resolved


def _still_runs(scan: ScanResult) -> list[bool]:
    return [processes.is_alive(run.pid, run.start_time) for run in scan.runs]


def _is_usable(loop_id: str) -> bool:
    try:
        return bool(check_loop_id(loop_id))
    except IdentifierInvalid:
        return False


def _now() -> str:
    return format_utc(datetime.now(UTC))
