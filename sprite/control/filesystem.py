"""On which file system a folder lies: the ledger's locks and flushes are trusted on local ones only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from sprite.errors import StateFolderUnusable
from sprite.identity import STATE_DIR_VARIABLE

Mount = tuple[str, str]
"""Mount point and type of file system."""

_NETWORK = frozenset(
    {
        "9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.cephfs", "fuse.gcsfuse",
        "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
        "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs", "webdav",
    }
)  # fmt: skip


def mounts() -> list[Mount]:
    """What is mounted where, in the order of mounting."""
    return [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]


def check_local_disk(folder: Path, mounted: Iterable[Mount] | None = None) -> None:
    """Raise StateFolderUnusable when `folder` lies on a network file system.

    There a lock may be seen by one machine only and a flushed write be lost: a command could run twice.
    """
    kind = _kind_of(os.path.realpath(folder), mounts() if mounted is None else mounted)
    if kind in _NETWORK:
        raise StateFolderUnusable(
            f"the state folder {folder} lies on a network file system ({kind}), where a command could run twice; "
            f"point {STATE_DIR_VARIABLE} at a folder on a local disk"
        )


def _kind_of(path: str, mounted: Iterable[Mount]) -> str:
    """The type of the innermost mount around `path`; of two at one place the later one hides the other."""
    around = [(point, kind.lower()) for point, kind in mounted if _holds(point, path)]
    return max(enumerate(around), key=lambda one: (len(one[1][0]), one[0]))[1][1] if around else ""


def _holds(point: str, path: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")
