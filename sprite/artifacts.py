"""Reading the runtime's JSON artifacts: patient with half-written ones, and only once as long as they do not change."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sprite.errors import ArtifactUnreadable
from sprite.files import FileIdentity, identity, open_regular, read_range
from sprite.jsonvalue import compact

PATIENCE_S = 0.25
"""How long one snapshot waits in all for artifacts to be whole (D16); the runtime leaves them empty for 2 to 18 ms."""

_REREAD_PAUSE_S = 0.01
_MAX_BYTES = 256 * 1024 * 1024


class Patience:
    """A budget of waiting, shared by everything that one answer reads."""

    def __init__(self, total_s: float = PATIENCE_S) -> None:
        self._deadline = time.monotonic() + total_s

    def wait(self) -> bool:
        """Pause briefly; False, at once, when the budget is used up."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(_REREAD_PAUSE_S, left))
        return True


@dataclass(frozen=True)
class ArtifactStat:
    """The facts of an artifact as an envelope shows them; all zero and None for a missing file."""

    path: str
    exists: bool = False
    size_bytes: int = 0
    line_count: int = 0
    sha256: str | None = None
    mtime_epoch: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The member of the envelope's `artifacts`."""
        return {
            "path": self.path,
            "exists": self.exists,
            "sizeBytes": self.size_bytes,
            "lineCount": self.line_count,
            "sha256": self.sha256,
            "mtimeEpoch": self.mtime_epoch,
        }


@dataclass(frozen=True)
class JsonArtifact:
    """One artifact at one instant: its facts, and what is kept of its JSON (as text, so that nobody shares it)."""

    stat: ArtifactStat
    text: str = "null"

    @property
    def value(self) -> Any:
        """The kept JSON, parsed afresh; None for a missing file."""
        return json.loads(self.text)


@dataclass(frozen=True)
class _Cached:
    file: FileIdentity
    artifact: JsonArtifact
    was_fresh: bool


class _Unfinished(Exception):
    """An artifact that is empty or not JSON: perhaps being written right now."""


class JsonArtifacts:
    """The JSON artifacts of one repo, cached by file identity. Safe to use from several threads."""

    def __init__(self, repo: Path) -> None:
        self._repo = repo
        self._cache: dict[str, _Cached] = {}
        self._lock = threading.Lock()

    def read(self, path: str, patience: Patience, keep: Callable[[Any], Any]) -> JsonArtifact:
        """The artifact at the repo-relative `path`; `keep` picks what is kept of its parsed JSON.

        A missing file gives null. An empty or half-written one is re-read as long as `patience` lasts (D16). `keep`
        raises ValueError for JSON that cannot be this artifact. Raises ArtifactUnreadable, naming the file.
        """
        while True:
            try:
                return self._read_once(path, keep)
            except _Unfinished as problem:
                if not patience.wait():
                    raise ArtifactUnreadable(f"{self._repo / path} {problem}, and stayed so") from None

    def _read_once(self, path: str, keep: Callable[[Any], Any]) -> JsonArtifact:
        try:
            with open_regular(self._repo / path) as descriptor:
                file = identity(descriptor)
                fresh = file.is_fresh
                with self._lock:
                    cached = self._cache.get(path)
                if cached is not None and cached.file == file and not cached.was_fresh:
                    return cached.artifact
                artifact = self._load(path, descriptor, file, keep)
        except FileNotFoundError:
            with self._lock:
                self._cache.pop(path, None)
            return JsonArtifact(ArtifactStat(path))
        with self._lock:
            self._cache[path] = _Cached(file, artifact, fresh)
        return artifact

    def _load(self, path: str, descriptor: int, file: FileIdentity, keep: Callable[[Any], Any]) -> JsonArtifact:
        if file.size > _MAX_BYTES:
            raise ArtifactUnreadable(f"{self._repo / path} is larger than {_MAX_BYTES} bytes")
        content = read_range(descriptor, 0, file.size)
        if len(content) != file.size:
            raise _Unfinished("is being truncated")
        parsed = _parse(content)
        try:
            text = compact(keep(parsed))
        except (ValueError, RecursionError) as error:
            raise ArtifactUnreadable(f"{self._repo / path} {error}") from None
        stat = ArtifactStat(
            path,
            exists=True,
            size_bytes=file.size,
            line_count=content.count(b"\n"),
            sha256=hashlib.sha256(content).hexdigest(),
            mtime_epoch=file.mtime_ns // 1_000_000_000,
        )
        return JsonArtifact(stat, text)


def _parse(content: bytes) -> Any:
    if not content.strip():
        raise _Unfinished("is empty")
    try:
        return json.loads(content.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        raise _Unfinished("is not JSON") from None


def read_quietly(path: Path, patience: Patience | None = None) -> Any:
    """The parsed JSON at `path`, or None when there is none to be had: for hints that decide nothing alone."""
    patience = patience or Patience(0.1)
    while True:
        try:
            with open_regular(path) as descriptor:
                size = min(identity(descriptor).size, _MAX_BYTES)
                return _parse(read_range(descriptor, 0, size))
        except (FileNotFoundError, ArtifactUnreadable):
            return None
        except _Unfinished:
            if not patience.wait():
                return None


def any_json(value: Any) -> Any:
    """For `keep`: whatever it is."""
    return value


def json_object(value: Any) -> Any:
    """For `keep`: an object or null, else ValueError."""
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"holds no JSON object but {type(value).__name__}")
    return value


def last_entry(value: Any) -> Any:
    """For `keep`: of run-summary.json only `updated_at` and the last entry, so that its length costs nothing (D15)."""
    summary = json_object(value) or {}
    entries = summary.get("entries")
    if entries and not isinstance(entries, list):
        raise ValueError("holds entries that are no array")
    last = json_object(entries[-1]) if entries else None
    return {"updated_at": summary.get("updated_at"), "entry": last}
