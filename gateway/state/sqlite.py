"""The state in one SQLite file, which all workers of a machine share.

One thread of this process owns the connection and does all the work that comes with it, encoding too, so the
event loop never waits for the disk or for another worker's lock. Journal in WAL mode: readers and the one
writer do not block each other, a commit costs no fsync (synchronous=NORMAL), and what a killed process had
not committed is gone as a whole.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from gateway.keys import StoredKey, encode_key, read_key
from gateway.records.decision_records import decode, decode_texts
from gateway.records.decisions import AnyDecision, KeptTexts, Record, is_id
from gateway.state import sqlite_decisions, sqlite_streams
from gateway.state.base import (
    ANY,
    Backlog,
    Change,
    Event,
    Filter,
    KeyExists,
    Page,
    Settled,
    State,
    StateUnavailable,
    Versioned,
    checked_limit,
    cursor_at,
)
from patterns.migrations import migrate, transaction, write_ahead

MEMORY: Final = ":memory:"

BUSY_SECONDS: Final = 5.0
"""How long to wait for another worker's lock. Transactions last milliseconds; only a stuck process holds one
for seconds."""

CALL_SECONDS: Final = 15.0
"""How long a call may take in all: longer than `BUSY_SECONDS` and any query; a disk that hangs must not hang
the caller."""

PAGE_BYTES: Final = 16_384
"""Measured with records of 500 bytes: smaller and larger pages cost more CPU time, 4 KiB a quarter more."""

_NO_ROOM: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
"""A full disk, and a file that may not grow."""

_MIGRATIONS: Final = (
    """
    CREATE TABLE keys (id TEXT PRIMARY KEY, body BLOB NOT NULL, revoked_at REAL) STRICT;
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
    CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL) STRICT;
    CREATE TABLE decisions (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL, action TEXT NOT NULL, tenant TEXT NOT NULL, wire TEXT NOT NULL, body BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX decisions_id ON decisions (id, action, tenant, wire);
    CREATE INDEX decisions_action ON decisions (action, id) WHERE action <> 'allow';
    CREATE TABLE labels (label TEXT NOT NULL, id BLOB NOT NULL, PRIMARY KEY (label, id)) STRICT, WITHOUT ROWID;
    CREATE INDEX labels_id ON labels (id);
    CREATE TABLE texts (id BLOB PRIMARY KEY, expires_at REAL NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE INDEX texts_expires ON texts (expires_at);
    """,
    """
    CREATE TABLE documents (
        kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, id)
    ) STRICT;
    """,
    """
    CREATE TABLE fleeting (name TEXT PRIMARY KEY, expires_at REAL NOT NULL, value BLOB NOT NULL) STRICT;
    CREATE INDEX fleeting_expires ON fleeting (expires_at);
    CREATE TABLE tallies (name TEXT PRIMARY KEY, expires_at REAL NOT NULL, value INTEGER NOT NULL) STRICT;
    CREATE INDEX tallies_expires ON tallies (expires_at);
    """,
    """
    DROP TABLE tallies;
    CREATE TABLE tallies (
        name TEXT NOT NULL, who TEXT NOT NULL, expires_at REAL NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (name, who)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tallies_expires ON tallies (expires_at);
    """,
    """
    CREATE TABLE events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        stream TEXT NOT NULL, at REAL NOT NULL, body BLOB NOT NULL, who TEXT, taken_at REAL, deliveries INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX events_stream ON events (stream, number);
    """,
)
"""What takes the schema from version n to n + 1. Only ever appended to.

``decisions_id`` holds what is filtered by, so that a search reads the index alone; most decisions allow, so
they are left out of ``decisions_action``, which finds the others at once.
"""

_OUR_MISTAKES: Final = (
    sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.NotSupportedError,
    sqlite3.ProgrammingError,
)
"""What SQLite raises for a wrong call and not for a fault of its own."""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class SqliteState(State):
    """See `State`. ``path`` is a file's, whose folder is made when it is missing, or `MEMORY`."""

    def __init__(self, path: str) -> None:
        self.what = f"sqlite:{path}"
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="portcullis-state")

    async def ping(self) -> None:
        await self._call(lambda db: db.execute("SELECT count(*) FROM keys").fetchone())

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._disconnect)
            thread.shutdown(wait=False)

    # Keys

    async def put_key(self, key: StoredKey) -> None:
        def put(db: sqlite3.Connection) -> bool:
            with transaction(db):
                row = (key.id, encode_key(key))
                done = db.execute("INSERT OR IGNORE INTO keys VALUES (?, ?, NULL)", row).rowcount == 1
                _count_key_change(db)
            return done

        if not await self._call(put):
            raise KeyExists(key.id)

    async def key(self, key_id: str) -> StoredKey | None:
        query = "SELECT body, revoked_at FROM keys WHERE id = ?"
        row = await self._call(lambda db: db.execute(query, (key_id,)).fetchone())
        return None if row is None else read_key(key_id, *row)

    async def keys(self) -> list[StoredKey]:
        rows = await self._call(lambda db: db.execute("SELECT id, body, revoked_at FROM keys").fetchall())
        return sorted((read_key(*row) for row in rows), key=lambda key: (key.created_at, key.id))

    async def revoke_key(self, key_id: str, now: float) -> bool:
        def revoke(db: sqlite3.Connection) -> bool:
            with transaction(db):
                change = "UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?"
                done = db.execute(change, (now, key_id)).rowcount == 1
                _count_key_change(db)
            return done

        return await self._call(revoke)

    async def own_key(self, key_id: str, owner: str) -> StoredKey | None:
        def own(db: sqlite3.Connection) -> StoredKey | None:
            with transaction(db):
                row = db.execute("SELECT body, revoked_at FROM keys WHERE id = ?", (key_id,)).fetchone()
                if row is None:
                    return None
                key = read_key(key_id, *row)
                if key.readable and not key.owner:
                    key = replace(key, owner=owner)
                    db.execute("UPDATE keys SET body = ? WHERE id = ?", (encode_key(key), key_id))
                    _count_key_change(db)
            return key

        return await self._call(own)

    async def keys_version(self) -> int:
        query = "SELECT value FROM counters WHERE name = 'keys'"
        row = await self._call(lambda db: db.execute(query).fetchone())
        return 0 if row is None else int(row[0])

    # Decisions

    async def append(self, decisions: Sequence[AnyDecision], kept: Sequence[KeptTexts] = ()) -> None:
        await self._call(lambda db: sqlite_decisions.append(db, decisions, kept))

    async def decision(self, decision_id: str) -> Record | None:
        if not is_id(decision_id):
            return None
        query = "SELECT body FROM decisions WHERE id = ?"
        row = await self._call(lambda db: db.execute(query, (bytes.fromhex(decision_id),)).fetchone())
        return None if row is None else decode(row[0])

    async def decisions(self, only: Filter = ANY, limit: int = 100, cursor: str | None = None) -> Page:
        query, values = sqlite_decisions.page_query(only, checked_limit(limit), cursor)
        rows = await self._call(lambda db: db.execute(query, values).fetchall())
        found = tuple([decode(body) for (body,) in rows[:limit]])
        return Page(found, cursor_at(found[-1].id) if len(rows) > limit else None)

    async def kept_texts(self, decision_id: str, now: float) -> KeptTexts | None:
        if not is_id(decision_id):
            return None
        query = "SELECT body FROM texts WHERE id = ? AND expires_at > ?"
        row = await self._call(lambda db: db.execute(query, (bytes.fromhex(decision_id), now)).fetchone())
        return None if row is None else decode_texts(row[0])

    async def expire(self, now: float, before: float, keep: int) -> int:
        await self._call(lambda db: sqlite_decisions.forget_expired(db, now))
        least = await self._call(lambda db: sqlite_decisions.least_kept(db, before, keep))
        removed = 0
        while step := await self._call(lambda db: sqlite_decisions.remove_step(db, least)):
            removed += step
        return removed

    # Settings

    async def get(self, name: str) -> Versioned | None:
        query = "SELECT value, version FROM settings WHERE name = ?"
        row = await self._call(lambda db: db.execute(query, (name,)).fetchone())
        return None if row is None else Versioned(*row)

    async def swap(self, name: str, value: bytes, version: int) -> int | None:
        if version:
            change = "UPDATE settings SET version = version + 1, value = ?2 WHERE name = ?1 AND version = ?3"
        else:
            change = "INSERT OR IGNORE INTO settings SELECT ?1, ?2, 1 + ?3"
        done = await self._call(lambda db: db.execute(change, (name, value, version)).rowcount == 1)
        return version + 1 if done else None

    # Documents

    async def put(self, kind: str, id: str, body: bytes, version: int) -> int | None:
        if version:
            change = "UPDATE documents SET version = version + 1, body = ?3 WHERE kind = ?1 AND id = ?2 AND version = ?4"
        else:
            change = "INSERT OR IGNORE INTO documents SELECT ?1, ?2, 1 + ?4, ?3"
        done = await self._call(lambda db: db.execute(change, (kind, id, body, version)).rowcount == 1)
        return version + 1 if done else None

    async def document(self, kind: str, id: str) -> Versioned | None:
        query = "SELECT body, version FROM documents WHERE kind = ? AND id = ?"
        row = await self._call(lambda db: db.execute(query, (kind, id)).fetchone())
        return None if row is None else Versioned(*row)

    async def documents(self, kind: str, limit: int = 100, before: str | None = None) -> list[tuple[str, Versioned]]:
        bound = "" if before is None else "AND id < ?2"
        query = f"SELECT id, body, version FROM documents WHERE kind = ?1 {bound} ORDER BY id DESC LIMIT ?3"
        values = (kind, before, checked_limit(limit))
        rows = await self._call(lambda db: db.execute(query, values).fetchall())
        return [(id, Versioned(body, version)) for id, body, version in rows]

    async def remove(self, kind: str, id: str) -> bool:
        change = "DELETE FROM documents WHERE kind = ? AND id = ?"
        return await self._call(lambda db: db.execute(change, (kind, id)).rowcount == 1)

    # Fleeting values and tallies

    async def put_fleeting(self, values: Mapping[str, bytes], expires_at: float) -> None:
        rows = [(name, expires_at, value) for name, value in values.items()]

        def put(db: sqlite3.Connection) -> None:
            with transaction(db):
                db.executemany("INSERT OR REPLACE INTO fleeting VALUES (?, ?, ?)", rows)

        await self._call(put)

    async def fleeting(self, names: Sequence[str], now: float) -> list[bytes | None]:
        query = f"SELECT name, value FROM fleeting WHERE expires_at > ? AND name IN ({', '.join('?' * len(names))})"
        found = dict(await self._call(lambda db: db.execute(query, (now, *names)).fetchall()))
        return [found.get(name) for name in names]

    async def tally(self, who: str, values: Mapping[str, int], expires_at: float) -> list[tuple[int, int]]:
        change = (
            "INSERT INTO tallies VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET value = excluded.value WHERE excluded.value > value"
        )
        query = "SELECT sum(value), count(*) FROM tallies WHERE name = ?"
        rows = [(name, who, expires_at, value) for name, value in values.items()]

        def say(db: sqlite3.Connection) -> list[tuple[int, int]]:
            with transaction(db):
                db.executemany(change, rows)
                return [db.execute(query, (name,)).fetchone() for name in values]

        return await self._call(say)

    # Streams

    async def emit(self, stream: str, bodies: Sequence[bytes], now: float, most: int, *, make_room: bool) -> int | None:
        return await self._call(lambda db: sqlite_streams.emit(db, stream, bodies, now, most, make_room))

    async def claim(self, stream: str, who: str, count: int, idle_seconds: float, now: float) -> list[Event]:
        return await self._call(lambda db: sqlite_streams.claim(db, stream, who, count, idle_seconds, now))

    async def settle(self, stream: str, who: str, ids: Sequence[str], changes: Sequence[Change] = ()) -> Settled:
        return await self._call(lambda db: sqlite_streams.settle(db, stream, who, ids, changes))

    async def backlog(self, stream: str, now: float) -> Backlog:
        return await self._call(lambda db: sqlite_streams.backlog(db, stream, now))

    # The thread and its connection

    async def _call(self, work: Work[T]) -> T:
        if self._thread is None:
            raise StateUnavailable(self.what, "it was closed")
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)
        except TimeoutError:
            raise StateUnavailable(self.what, f"no answer within {CALL_SECONDS:.0f} s") from None

    def _run(self, work: Work[T]) -> T:
        try:
            if self._connection is None:
                self._connection = _open(self._path)
            return work(self._connection)
        except _OUR_MISTAKES:
            raise
        except (sqlite3.Error, OSError) as error:
            # A connection that failed is not trusted again: the next call opens another. In memory it is the data; and where
            # there is no room, another one could not be opened, while what is stored can be read by this one.
            if self._path != MEMORY and not self._has_no_room(error):
                self._disconnect()
            raise StateUnavailable(self.what, str(error)) from error

    def _has_no_room(self, error: Exception) -> bool:
        """Whether a write failed for want of room, of which nothing is left."""
        whole = self._connection is not None and not self._connection.in_transaction
        return whole and getattr(error, "sqlite_errorcode", None) in _NO_ROOM

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _open(path: str) -> sqlite3.Connection:
    if path != MEMORY:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its journals the mode of the file, so making it first keeps all of it private.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file; another keeps what it has
        write_ahead(db, BUSY_SECONDS)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA secure_delete = ON")  # texts that expired are overwritten, not merely unlinked
        migrate(db, _MIGRATIONS)
    except BaseException:
        db.close()
        raise
    return db


def _count_key_change(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO counters VALUES ('keys', 1) ON CONFLICT DO UPDATE SET value = value + 1")
