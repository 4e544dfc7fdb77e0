"""Who this sprite is, and where it keeps what is not the repo's: the user's state folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sprite.errors import StateFolderUnusable

STATE_DIR_VARIABLE = "OPS_MANAGER_STATE_DIR"
_APPLICATION = "superloop-ops-manager"
_ID_FILE = "sprite_id"
_ID = re.compile(r"[A-Za-z0-9-]{8,64}")


def state_root() -> Path:
    """`$OPS_MANAGER_STATE_DIR`, else `$XDG_STATE_HOME/superloop-ops-manager`, else the same below `~/.local/state`."""
    own = os.environ.get(STATE_DIR_VARIABLE)
    if own:
        return Path(own)
    xdg = os.environ.get("XDG_STATE_HOME")
    # The XDG specification says that a relative path there is to be ignored.
    base = Path(xdg) if xdg and Path(xdg).is_absolute() else Path.home() / ".local" / "state"
    return base / _APPLICATION


def state_folder(repo: Path, state_dir: Path | None = None) -> Path:
    """The folder of one repo's state (mode 0700), made if need be; below `state_dir`, or the user's state folder.

    It lies outside the work tree, because an agent may clean that. Raises StateFolderUnusable.
    """
    resolved = repo.resolve()
    digest = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:16]
    label = re.sub(r"[^A-Za-z0-9._-]", "_", resolved.name)[:40]
    root = state_dir if state_dir is not None else state_root()
    folder = root / f"{label}-{digest}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from None
    return folder


def sprite_id(folder: Path) -> str:
    """The random id kept in `folder`, made on first use; processes that start at once all get the same one.

    Raises StateFolderUnusable when it can be neither read nor written, or is not an id.
    """
    file = folder / _ID_FILE
    try:
        with _locked(folder / f"{_ID_FILE}.lock"):
            if not file.exists():
                _write_atomically(file, f"{uuid.uuid4()}\n")
            text = file.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise _unusable(folder, error) from None
    if not _ID.fullmatch(text):
        raise StateFolderUnusable(
            f"{file} does not hold a sprite id; remove it to get a new one (supervisors will then refuse "
            "this sprite as another one until they are released and started again)"
        )
    return text


@contextmanager
def _locked(lock_file: Path) -> Iterator[None]:
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_atomically(file: Path, text: str) -> None:
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


def _unusable(folder: Path, error: OSError) -> StateFolderUnusable:
    return StateFolderUnusable(
        f"cannot use the state folder {folder}: {error.strerror or error}; make it writable or point "
        f"{STATE_DIR_VARIABLE} at one that is"
    )
