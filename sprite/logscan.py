"""The bytes of an event log: read once, counted and hashed as they come, and checked to be still the same."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from sprite.files import FileIdentity, identity, read_range
from sprite.loglines import LogChanged, events_backwards

REHASH_INTERVAL_S = 3600.0
"""The whole log is hashed again at least this often, to find an edit that left size and both ends alone (D8)."""

_CHUNK = 1024 * 1024
_EDGE = 4096
_ATTEMPTS = 3
# A re-hash out of doubt may take one hundredth of the time, so that a log that is touched all day stays cheap.
_DOUBT_COST = 100.0
_LAST_EVENT_FIELDS = ("timestamp", "event", "type", "status", "run_id", "iteration")


class LogScan:
    """What is known of a log's bytes so far. Not thread-safe: its owner holds a lock.

    A log only ever grows, so on growth it is enough to see that the first and last bytes read before are still in
    their places. Whatever a growing log does not do (another inode, other times without growth) makes the whole
    prefix be hashed again; shrinking, or other bytes, make it another log (D8).
    """

    def __init__(self, *, max_line_bytes: int, rehash_interval_s: float) -> None:
        self._max_line_bytes = max_line_bytes
        self._rehash_interval_s = rehash_interval_s
        self._doubt_from = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget the log; the next `sync` reads it whole."""
        self.line_count = 0
        self.terminated_end = 0
        """Offset behind the last newline: what lies beyond is not visible yet (D3)."""
        self.read_end = 0
        self.last_event: dict[str, Any] | None = None
        self._hasher = hashlib.sha256()
        self._head = b""
        self._tail = b""
        self._seen: FileIdentity | None = None
        self._was_fresh = False
        self._doubtful = False
        self._hashed_at = time.monotonic()

    @property
    def sha256(self) -> str:
        """Of all bytes read, the unterminated rest included."""
        return self._hasher.hexdigest()

    @property
    def mtime_epoch(self) -> int | None:
        """The log's modification time at the last `sync`, in whole seconds."""
        return None if self._seen is None else self._seen.mtime_ns // 1_000_000_000

    def sync(self, descriptor: int) -> bool:
        """Take in what was appended. False when this was another log than before, which is then read anew.

        Raises LogChanged when the log does not hold still for a moment.
        """
        kept = True
        for _ in range(_ATTEMPTS):
            seen = identity(descriptor)
            if self._is_unchanged(seen) and not self._rehash_due():
                return kept
            if not self._continues(descriptor, seen):
                self.reset()
                kept = False
            if self._take_in(descriptor, seen):
                return kept
            self.reset()
            kept = False
        raise LogChanged

    def holds(self, descriptor: int) -> bool:
        """Whether what was read is still there: to be asked after reading lines, before they are given out."""
        seen = identity(descriptor)
        return self._is_unchanged(seen) or self._continues(descriptor, seen)

    def rehash(self, descriptor: int) -> bool:
        """Hash the whole prefix again and say if it is the one read before."""
        started = time.monotonic()
        hasher = hashlib.sha256()
        complete = _feed(hasher, descriptor, 0, self.read_end)
        self._hashed_at = time.monotonic()
        self._doubt_from = self._hashed_at + _DOUBT_COST * (self._hashed_at - started)
        self._doubtful = False
        return complete and hasher.digest() == self._hasher.digest()

    def _is_unchanged(self, seen: FileIdentity) -> bool:
        return seen == self._seen and not self._was_fresh

    def _rehash_due(self) -> bool:
        now = time.monotonic()
        return now - self._hashed_at >= self._rehash_interval_s or (self._doubtful and now >= self._doubt_from)

    def _continues(self, descriptor: int, seen: FileIdentity) -> bool:
        """Whether the file begins with the bytes read so far, as far as can be told without reading it all."""
        if self._seen is None or self.read_end == 0:
            return True
        if seen.size < self.read_end:
            return False
        if seen.inode_key != self._seen.inode_key:
            return self.rehash(descriptor)
        if seen != self._seen and seen.size == self._seen.size:
            self._doubtful = True
        if self._rehash_due():
            return self.rehash(descriptor)
        return (
            read_range(descriptor, 0, len(self._head)) == self._head
            and read_range(descriptor, self.read_end - len(self._tail), self.read_end) == self._tail
        )

    def _take_in(self, descriptor: int, seen: FileIdentity) -> bool:
        """Read on to the size seen; False when the file was rewritten meanwhile."""
        start, terminated, fresh = self.read_end, self.terminated_end, seen.is_fresh
        before = self._hasher.copy()
        try:
            self._read_on(descriptor, seen.size)
            found = next(events_backwards(descriptor, terminated, self.terminated_end, self._max_line_bytes), None)
        except LogChanged:
            return False
        if identity(descriptor) != seen and not self._reads_again(descriptor, before, start):
            return False
        if found is not None:
            self.last_event = {key: found[key] for key in _LAST_EVENT_FIELDS if key in found}
        self._seen = seen
        self._was_fresh = fresh
        return True

    def _reads_again(self, descriptor: int, before: hashlib._Hash, start: int) -> bool:
        """Whether what was just read is still there: it was appended to meanwhile, not rewritten."""
        return _feed(before, descriptor, start, self.read_end) and before.digest() == self._hasher.digest()

    def _read_on(self, descriptor: int, end: int) -> None:
        while self.read_end < end:
            content = read_range(descriptor, self.read_end, min(self.read_end + _CHUNK, end))
            if not content:
                raise LogChanged
            self._hasher.update(content)
            self.line_count += content.count(b"\n")
            newline = content.rfind(b"\n")
            if newline >= 0:
                self.terminated_end = self.read_end + newline + 1
            if len(self._head) < _EDGE:
                self._head = (self._head + content)[:_EDGE]
            self._tail = (self._tail + content)[-_EDGE:]
            self.read_end += len(content)


def _feed(hasher: hashlib._Hash, descriptor: int, start: int, end: int) -> bool:
    """Hash the bytes [start, end); False when the file ends earlier."""
    while start < end:
        content = read_range(descriptor, start, min(start + _CHUNK, end))
        if not content:
            return False
        hasher.update(content)
        start += len(content)
    return True
