"""Opening artifacts that others write: regular files only, with an identity that tells when one changed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sprite.errors import ArtifactUnreadable

# File times advance in ticks of some milliseconds (kernels) up to this (some file systems).
_COARSE_TIMES_NS = 100_000_000


class FileIdentity(NamedTuple):
    """What `stat` says about a file; equal identities mean nothing was written (within the clock's resolution)."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def is_fresh(self) -> bool:
        """Whether the last write is so recent that another one may leave this identity as it is."""
        return time.time_ns() - self.mtime_ns < _COARSE_TIMES_NS

    @property
    def inode_key(self) -> tuple[int, int]:
        """Which file it is, whatever its content."""
        return self.device, self.inode


def _identity_of(result: os.stat_result) -> FileIdentity:
    return FileIdentity(result.st_dev, result.st_ino, result.st_size, result.st_mtime_ns, result.st_ctime_ns)


def identity(descriptor: int) -> FileIdentity:
    """The identity of an open file."""
    return _identity_of(os.fstat(descriptor))


def identity_at(path: Path) -> FileIdentity | None:
    """The identity of the file at `path`; None when there is none (or it cannot be reached)."""
    try:
        return _identity_of(os.stat(path))
    except OSError:
        return None


@contextmanager
def open_regular(path: Path) -> Iterator[int]:
    """Open `path` for reading and give its descriptor.

    Raises FileNotFoundError when it is missing and ArtifactUnreadable when it is no regular file or may not be read:
    a pipe put in an artifact's place must not hang the service.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise ArtifactUnreadable(f"cannot read {path}: {error.strerror or error}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ArtifactUnreadable(f"{path} is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def read_range(descriptor: int, start: int, end: int) -> bytes:
    """The bytes [start, end) of an open file; fewer when the file ends before `end`."""
    parts: list[bytes] = []
    while start < end:
        part = os.pread(descriptor, end - start, start)
        if not part:
            break
        parts.append(part)
        start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
