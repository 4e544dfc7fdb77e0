"""The claim ledger: what was asked for and done under which idempotency key, shared by every process of a sprite.

One SQLite file in the sprite's state folder, outside the work tree, one row per (loop, key). A row is written durably
before what it announces: the claim before the wait for a turn, `begun` before the command. What is written says who
holds it, and a holder that was killed is seen to be gone:

- a *claimed* row without its holder was never begun: the key is as good as unused;
- a *begun* row without its holder is in flight as long as anybody holds the lock on commands, which the command
  inherits: a command may outlive the service that started it. Once the lock is free, `sprite.control.recovery` settles
  the row from what is on disk.

No transaction is open while anything waits or runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from contract.control import ControlRequest
from sprite.control.database import Database, told
from sprite.control.errors import Busy, InFlight, KeyReused, StoreUnusable
from sprite.control.filesystem import check_local_disk
from sprite.control.locks import Holder, is_locked, release, try_lock
from sprite.control.records import SETTLED, ControlRecord, State
from sprite.errors import RETRY_AFTER_S

_log = logging.getLogger(__name__)

LEDGER_FILE = "ledger.sqlite3"
COMMAND_LOCK = "command.lock"

KEEP_FOR_S = 90 * 24 * 3600.0
"""How long a key is remembered; the manager never repeats one after 30 days."""
KEEP_PER_LOOP = 5_000
"""How many executed keys a loop has at most; the manager remembers 500. What is ambiguous goes by age only."""

_LOCK_POLL_S = 0.05
_CHANGE = "UPDATE claims SET state = ?, holder = ?, changed_at = ?, record = ? WHERE loop_id = ? AND key = ?"
_FORGET_BUT_THE_LAST = """
DELETE FROM claims WHERE loop_id = ?1 AND state = ?2 AND changed_at < (
    SELECT changed_at FROM claims WHERE loop_id = ?1 AND state = ?2 ORDER BY changed_at DESC LIMIT 1 OFFSET ?3
)
"""


class Claim:
    """The right to run one command under a key, held until it is finished, failed or released."""

    def __init__(self, ledger: Ledger, loop_id: str, key: str, fingerprint: str, orphan: ControlRecord | None) -> None:
        self.key = key
        self.loop_id = loop_id
        self.fingerprint = fingerprint
        self.orphan = orphan
        """What an earlier holder began and left without a result; it has to be settled before anything is run."""
        self._ledger = ledger
        self._open = True

    def begin(self, record: ControlRecord) -> None:
        """Make durable that the command is about to be started."""
        self._ledger.begin(record)

    def finish(self, record: ControlRecord) -> None:
        """Make the result durable; without room for it this process remembers it and tries again."""
        self._open = False
        self._ledger.owe(record)
        self._ledger.pay()

    def settled(self) -> None:
        """The row has been written by whoever settled it; nothing is held any more."""
        self._open = False

    def abandon(self) -> None:
        """Give the claim back: nothing has been done by it, and what an orphan did is still to be found out."""
        if self._open:
            self._open = False
            self._ledger.give_back(self, orphaned=self.orphan is not None)

    def release(self) -> None:
        """Give up what is still held: from now on the row is an orphan. Idempotent."""
        if self._open:
            self._open = False
            self._ledger.give_back(self, orphaned=True)


class Ledger:
    """See the module. Safe in threads and processes; every method raises StoreUnusable when the file cannot be used.

    Args:
        clock: The time that records and their expiry go by, in seconds since 1970.

    Raises:
        StateFolderUnusable: The folder lies on a network file system.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._database = Database(folder / LEDGER_FILE)
        self._clock = clock
        self._owed: dict[tuple[str, str], ControlRecord] = {}
        self._returned: dict[tuple[str, str], bool] = {}
        self._paying = threading.RLock()
        check_local_disk(folder)
        with told():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database.prepare()
        self._holder = Holder(folder)
        self._holder.sweep()

    def close(self) -> None:
        """End this user of the ledger: what it still holds becomes an orphan."""
        with contextlib.suppress(StoreUnusable):
            self.pay()
        self._holder.close()

    def claim(self, request: ControlRequest, key: str, fingerprint: str) -> Claim | ControlRecord:
        """The claim of a key, or the record of one that was used for the same thing.

        Raises:
            KeyReused: The key stands for another request.
            InFlight: The first request waits for its turn, or its command may still run.
        """
        loop_id = request.loop_id
        with told("no effect: "):
            self.pay()
            with self._database.transaction() as connection:
                row = self._row(connection, loop_id, key)
                self._check_same(row, fingerprint)
                if row is not None and State(row["state"]) in SETTLED:
                    return _record(row)
                if row is not None and self._in_flight(row):
                    raise _in_flight(loop_id, key)
                orphan = _record(row) if row is not None and row["state"] == State.BEGUN else None
                if orphan is None:
                    self._insert(connection, request, key, fingerprint)
                    self._expire(connection, loop_id)
                else:
                    self._hold(connection, orphan, self._holder.name())
        return Claim(self, loop_id, key, fingerprint, orphan)

    def lookup(self, loop_id: str, key: str, *, in_slot: bool = False) -> ControlRecord | None:
        """What is stored under a key: settled, or begun without a result and a holder; None when nothing was done.

        Args:
            in_slot: The lock on commands is held by whoever asks.

        Raises:
            InFlight: It waits for its turn, or its command may still run.
        """
        with told():
            owed = self._owed.get((loop_id, key))
            if owed is not None:
                return owed
            with self._database.connected() as connection:
                row = self._row(connection, loop_id, key)
            if row is None or row["state"] == State.FAILED:
                return None
            if State(row["state"]) in SETTLED:
                return _record(row)
            if self._in_flight(row, in_slot=in_slot):
                raise _in_flight(loop_id, key)
            return None if row["state"] == State.CLAIMED else _record(row)

    def begun(self) -> list[ControlRecord]:
        """What was begun without a result: under the lock on commands, nothing of it runs, whoever holds it."""
        with told(), self._database.connected() as connection:
            rows = connection.execute("SELECT * FROM claims WHERE state = 'begun'").fetchall()
        found = []
        for row in rows:
            try:
                found.append(_record(row))
            except StoreUnusable:
                _log.exception("a damaged record is in nobody's way but its own key's")
        return found

    def known_of(self, claim: Claim) -> ControlRecord | None:
        """What an orphan has come to since it was claimed; None when it was found to have done nothing.

        To be asked under the lock on commands: whoever had it meanwhile has settled what was begun before.
        """
        with told(), self._database.connected() as connection:
            row = self._row(connection, claim.loop_id, claim.key)
        if row is None or row["state"] == State.CLAIMED:
            return None
        return _record(row)

    def disprove(self, record: ControlRecord) -> None:
        """Store that what was begun did nothing: who still waits for its turn with it goes on waiting."""
        with told(), self._database.transaction() as connection:
            row = self._row(connection, record.loop_id, record.key)
            holder = row["holder"] if row is not None and self._holder.lives(row["holder"]) else ""
            state = State.CLAIMED if holder else State.FAILED
            content = record.model_dump_json(by_alias=True)
            connection.execute(_CHANGE, (state, holder, self._clock(), content, record.loop_id, record.key))

    def update(self, record: ControlRecord) -> None:
        """Replace a settled record by one that knows more."""
        self.settle(record, record.state)

    @contextlib.contextmanager
    def command_slot(self, until: float, check: Callable[[], None]) -> Iterator[int]:
        """The right to run a command in this repo; yields the descriptor that the command must inherit.

        Args:
            until: How long to wait for it, by the monotonic clock.
            check: Called while waiting; what it raises ends the wait.

        Raises:
            Busy: Other commands kept it for that long; nothing was done.
        """
        while (lock := self._try_command_lock()) is None:
            check()
            if time.monotonic() >= until:
                raise Busy(
                    "no effect: another control command is running in this repo; try again",
                    retryAfterSeconds=RETRY_AFTER_S,
                )
            time.sleep(_LOCK_POLL_S)
        try:
            yield lock
        finally:
            release(lock)

    @contextlib.contextmanager
    def slot_to_look(self, loop_id: str, key: str) -> Iterator[None]:
        """The lock on commands, for as long as it takes to look what one did; raises InFlight when one runs."""
        lock = self._try_command_lock()
        if lock is None:
            raise _in_flight(loop_id, key)
        try:
            yield
        finally:
            release(lock)

    def check_writable(self) -> None:
        """Raise StoreUnusable unless a record could be written now."""
        with told(), self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO probes VALUES (1, ?)", (self._clock(),))

    def begin(self, record: ControlRecord) -> None:
        """Make durable that the command of a claim of ours is about to be started."""
        content = record.model_dump_json(by_alias=True)
        with told("no effect: "), self._database.transaction() as connection:
            holder = self._holder.name()
            changes = (State.BEGUN, holder, self._clock(), content, record.loop_id, record.key)
            if connection.execute(f"{_CHANGE} AND holder = ?", (*changes, holder)).rowcount != 1:
                raise StoreUnusable(f"the claim of idempotency key {record.key!r} is gone from the record")

    def settle(self, record: ControlRecord, state: State) -> ControlRecord:
        """Store what became of a request; returns what was stored."""
        record = record.model_copy(update={"state": state})
        changes = (state, "", self._clock(), record.model_dump_json(by_alias=True), record.loop_id, record.key)
        with told(), self._database.transaction() as connection:
            connection.execute(_CHANGE, changes)
        return record

    def owe(self, record: ControlRecord) -> None:
        """Remember a result that has to be written; until it is, this process answers from memory."""
        self._owed[record.loop_id, record.key] = record

    def pay(self) -> None:
        """Write what is owed: results, and claims that were given back."""
        with self._paying:
            for place, record in list(self._owed.items()):
                self.settle(record, record.state)
                del self._owed[place]
            for place, orphaned in list(self._returned.items()):
                self._give_back(place, "state" if orphaned else f"'{State.FAILED}'")
                del self._returned[place]

    def give_back(self, claim: Claim, *, orphaned: bool) -> None:
        """Let go of a claim; what cannot be written now is owed, and the end of this process lets go of it as well."""
        self._returned[claim.loop_id, claim.key] = orphaned
        with contextlib.suppress(StoreUnusable):
            self.pay()

    def _give_back(self, place: tuple[str, str], state: str) -> None:
        with told(), self._database.transaction() as connection:
            connection.execute(
                f"UPDATE claims SET state = {state}, holder = '', changed_at = ? "  # noqa: S608 - one of two constants
                "WHERE loop_id = ? AND key = ? AND holder = ?",
                (self._clock(), *place, self._holder.name()),
            )

    def _in_flight(self, row: sqlite3.Row, *, in_slot: bool = False) -> bool:
        if row["state"] == State.FAILED:
            return False
        given_back = (row["loop_id"], row["key"]) in self._returned and row["holder"] == self._holder.name()
        if self._holder.lives(row["holder"]) and not given_back:
            return True
        return row["state"] == State.BEGUN and not in_slot and is_locked(self._folder / COMMAND_LOCK)

    def _check_same(self, row: sqlite3.Row | None, fingerprint: str) -> None:
        if row is None or row["fingerprint"] == fingerprint or row["state"] == State.FAILED:
            return
        if row["state"] == State.CLAIMED and not self._holder.lives(row["holder"]):
            return
        raise _key_reused(row)

    def _row(self, connection: sqlite3.Connection, loop_id: str, key: str) -> sqlite3.Row | None:
        found = connection.execute("SELECT * FROM claims WHERE loop_id = ? AND key = ?", (loop_id, key)).fetchone()
        return found if isinstance(found, sqlite3.Row) else None

    def _insert(self, connection: sqlite3.Connection, request: ControlRequest, key: str, fingerprint: str) -> None:
        now = self._clock()
        connection.execute(
            "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                request.loop_id,
                key,
                fingerprint,
                State.CLAIMED,
                request.intent.wire,
                request.by,
                request.trace_id,
                self._holder.name(),
                now,
                now,
            ),
        )

    def _hold(self, connection: sqlite3.Connection, record: ControlRecord, holder: str) -> None:
        connection.execute(
            "UPDATE claims SET holder = ? WHERE loop_id = ? AND key = ?", (holder, record.loop_id, record.key)
        )

    def _expire(self, connection: sqlite3.Connection, loop_id: str) -> None:
        """Forget what is old, and of one loop what is too much: never what is begun, never the ambiguous by number."""
        old = self._clock() - KEEP_FOR_S
        connection.execute("DELETE FROM claims WHERE changed_at < ? AND state != ?", (old, State.BEGUN))
        for state in (State.EXECUTED, State.FAILED):
            connection.execute(_FORGET_BUT_THE_LAST, (loop_id, state, KEEP_PER_LOOP - 1))

    def _try_command_lock(self) -> int | None:
        with told("no effect: "):
            return try_lock(self._folder / COMMAND_LOCK, fcntl.LOCK_EX)


def _record(row: sqlite3.Row) -> ControlRecord:
    try:
        return ControlRecord.model_validate_json(row["record"] or "")
    except ValidationError:
        raise StoreUnusable(
            f"the record of idempotency key {row['key']!r} is damaged: use another key once you know what the first "
            "request did"
        ) from None


def _in_flight(loop_id: str, key: str) -> InFlight:
    return InFlight(
        f"a request with idempotency key {key!r} waits or is being executed for loop {loop_id!r}: ask again for its "
        "result",
        retryAfterSeconds=RETRY_AFTER_S,
    )


def _key_reused(row: sqlite3.Row) -> KeyReused:
    return KeyReused(
        f"idempotency key {row['key']!r} was used for another request (intent or expect differ); no effect: "
        "use a new key for a new request",
        first={"loopId": row["loop_id"], "intent": row["intent"]},
    )
