"""Locks that every process of a sprite sees, and that vanish with the processes that hold them: `flock`.

Lock files are never removed, but for those of holders, whose names are used once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import uuid
from pathlib import Path

_HOLDER = "holder-{}.lock"


def try_lock(path: Path, kind: int = fcntl.LOCK_EX, *, create: bool = True) -> int | None:
    """A lock on `path` as a descriptor, None when somebody else's stands against it; raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def release(lock: int | None) -> None:
    """Give a lock back, also where a process left behind by a command still holds a copy of the descriptor."""
    if lock is not None:
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def is_locked(path: Path) -> bool:
    """Whether somebody holds `path`. Two who look do not take each other for a holder."""
    try:
        lock = try_lock(path, fcntl.LOCK_SH, create=False)
    except FileNotFoundError:
        return False
    release(lock)
    return lock is None


class Holder:
    """One living user of the ledger, by name; others can see that it is gone, also when it was killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = uuid.uuid4().hex
        self._lock: int | None = None
        self._creating = threading.Lock()

    def name(self) -> str:
        """The name to put on what this holder is about; from the first call on it is seen as living."""
        with self._creating:
            while self._lock is None:
                self._lock = self._try()
        return self._name

    def _try(self) -> int | None:
        """The lock on our own file; None when somebody is just sweeping it away."""
        path = self._path(self._name)
        lock = try_lock(path)
        if lock is not None and not _is_at(lock, path):
            release(lock)
            return None
        return lock

    def lives(self, name: str) -> bool:
        """Whether the holder of this name still is."""
        return bool(name) and (name == self._name or is_locked(self._path(name)))

    def close(self) -> None:
        """End this holder; what bears its name has lost its holder from now on."""
        with self._creating:
            if self._lock is None:
                return
            with contextlib.suppress(OSError):
                self._path(self._name).unlink(missing_ok=True)
            release(self._lock)
            self._lock = None
        self._name = uuid.uuid4().hex

    def sweep(self) -> None:
        """Remove what killed holders have left behind."""
        for path in self._folder.glob(_HOLDER.format("*")):
            with contextlib.suppress(OSError):
                # Under a lock, so that a holder that is just coming to life notices and makes its file anew.
                lock = try_lock(path, fcntl.LOCK_SH, create=False)
                if lock is not None:
                    path.unlink(missing_ok=True)
                release(lock)

    def _path(self, name: str) -> Path:
        return self._folder / _HOLDER.format(name)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
