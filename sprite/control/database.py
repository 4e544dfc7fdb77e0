"""The SQLite file of the ledger: short transactions that are on disk when they end, and one kind of error."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sprite.control.errors import StoreBusy, StoreUnusable
from sprite.errors import RETRY_AFTER_S

_BUSY_TIMEOUT_S = 5.0
_SCHEMA_VERSION = 1
"""Kept in the file; raised by what an older program would misread, which then leaves the file alone."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS claims (
    loop_id TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('claimed', 'begun', 'executed', 'failed', 'ambiguous')),
    intent TEXT NOT NULL,
    actor TEXT NOT NULL,
    trace_id TEXT,
    holder TEXT NOT NULL,
    claimed_at REAL NOT NULL,
    changed_at REAL NOT NULL,
    record TEXT,
    PRIMARY KEY (loop_id, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_change ON claims (loop_id, state, changed_at);
CREATE INDEX IF NOT EXISTS by_beginning ON claims (state) WHERE state = 'begun';
CREATE TABLE IF NOT EXISTS probes (id INTEGER PRIMARY KEY CHECK (id = 1), at REAL NOT NULL);
"""


class Database:
    """The file at `path`. Safe in threads and processes; raises OSError and sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def prepare(self) -> None:
        """Make the file, readable by its owner only, and its tables where they are missing.

        Raises:
            StoreUnusable: A newer version of this program has written it.
        """
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with self.connected() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > _SCHEMA_VERSION:
                raise StoreUnusable(
                    f"{self._path} was written by a newer version of this program (schema {version}, here "
                    f"{_SCHEMA_VERSION}): run that version"
                )
            connection.executescript(f"{_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION};")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One short transaction that has the file for itself from its first word on, and is on disk when it ends."""
        with self.connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """A connection; what is not committed when it ends has not been."""
        # Opened anew each time: a connection would go on writing to a file that has been removed meanwhile.
        self._path.stat()
        place = f"{self._path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(place, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            # Of the rollback journals the one whose end is flushed as well: what was committed survives a power cut.
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
        finally:
            connection.close()


@contextlib.contextmanager
def told(prefix: str = "", what: str = "the record of control requests") -> Iterator[None]:
    """Tell whatever is wrong with the files as StoreUnusable, with "no effect: " as its `prefix` where that is true."""
    try:
        yield
    except StoreUnusable as error:
        raise type(error)(prefix + error.message.removeprefix(prefix), **error.fields) from None
    except OSError as error:
        cause = f"{error.strerror or error}: {error.filename}"
        raise StoreUnusable(f"{prefix}{what} cannot be used ({cause}); make room or make it writable") from None
    except sqlite3.Error as error:
        raise _unusable(f"{prefix}{what} cannot be used ({error})", error) from None


def _unusable(said: str, error: sqlite3.Error) -> StoreUnusable:
    primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(f"{said}; try again", retryAfterSeconds=RETRY_AFTER_S)
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreUnusable(
            f"{said}: the file is damaged. Restore it, or move it aside: then no key is known any more, and what was "
            "asked for before must not be asked for again under its old key"
        )
    return StoreUnusable(f"{said}; make room or make it writable")
