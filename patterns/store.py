"""The pattern store: every revision of every pattern, in one SQLite file that all processes of a machine share.

What stands is a map from pattern id to entry (`patterns.entries`). Each change is a transaction that adds entries and one
*generation* above them, so that a process that dies at any point leaves the last whole generation behind, and every earlier
one can be read again. Entries come from here (`Store.revise`, signed with the machine's own key) or from elsewhere
(`Store.apply`: another replica, an import), and are taken only from signers that are trusted.

Synchronous; safe to use from several threads and several processes. The journal is a write-ahead log: readers never wait.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import orjson

from patterns.clock import MAX_AHEAD_MS, MAX_COUNTER, ZERO, Clock, FutureStamp, Stamp
from patterns.entries import Entry, EntryError, Signer, Trust, decode, digest, digest_of, encode, merge, named
from patterns.history import Generation, History, Revision, content_of
from patterns.migrations import migrate, transaction, write_ahead
from patterns.schema import WATCHING, Pattern
from patterns.snapshot import Diff, Snapshot

BUSY_SECONDS: Final = 10.0
"""How long to wait for another process's transaction; ten thousand entries take about one second."""

MOST_SHOWN: Final = 1000
"""Patterns of each kind of change that a difference shows, unless asked for another number."""

_SCHEMA: Final = (
    """
    CREATE TABLE revisions (
        id TEXT NOT NULL, generation INTEGER NOT NULL, digest TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (id, generation)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX revisions_generation ON revisions (generation);
    CREATE TABLE generations (
        number INTEGER PRIMARY KEY, digest TEXT NOT NULL, at REAL NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL,
        changes INTEGER NOT NULL, clock TEXT NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE revisions ADD COLUMN content BLOB;
    UPDATE revisions SET content = content_of(body);
    CREATE INDEX revisions_content ON revisions (id, generation, content);
    """,
    # With rows, not in an index of its own: there, what is longer than a quarter of a page takes a whole one besides.
    """
    CREATE TABLE rows (
        id TEXT NOT NULL, generation INTEGER NOT NULL, digest TEXT NOT NULL, body BLOB NOT NULL, content BLOB,
        PRIMARY KEY (id, generation)
    ) STRICT;
    INSERT INTO rows SELECT id, generation, digest, body, content FROM revisions ORDER BY id, generation;
    DROP TABLE revisions;
    ALTER TABLE rows RENAME TO revisions;
    CREATE INDEX revisions_generation ON revisions (generation);
    CREATE INDEX revisions_content ON revisions (id, generation, content);
    """,
)
"""What takes the schema from version n to n + 1. Only ever appended to."""

_log = logging.getLogger(__name__)


class StoreError(Exception):
    """The store could not do what it was asked: its file is gone, full, read-only, damaged or of a newer version."""


class Refused(NamedTuple):
    """An entry that was not taken, and why."""

    entry: Entry
    why: str


class Applied(NamedTuple):
    """What became of entries that were offered.

    ``generation`` is the one that holds them now; ``accepted`` changed the store; ``refused`` are
    those that were not taken. Entries that the store knew already, or that an even later one has replaced, are in neither.
    """

    generation: int
    accepted: tuple[Entry, ...]
    refused: tuple[Refused, ...]


Subscriber = Callable[[int, tuple[Entry, ...]], None]
"""Called with the new generation and the entries that it changed, on the thread that noticed. It must not block."""


class Store:
    """The pattern store of one machine."""

    def __init__(self, path: Path, trust: Trust, signer: Signer, node: str = "") -> None:
        """Open the store, or begin one.

        Args:
            path: the file; its folder is made when it is missing.
            trust: whose entries are taken.
            signer: signs what is changed here; it should be among those trusted. Both may be replaced later.
            node: this replica's name in stamps; left out, the signer's id.

        Raises:
            StoreError: the file cannot be opened or is none of ours.
        """
        self.trust = trust
        self.signer = signer
        self.path = path
        self.faults: dict[str, str] = {}
        self._lock = threading.RLock()
        self._subscribers: list[Subscriber] = []
        self._entries: dict[str, Entry] = {}
        self._names: dict[str, str] = {}  # by id: it and the digest of what stands, as a store's digest has them
        self._clock = Clock(node or signer.id)
        self._stamp = ZERO
        self.generation = 0
        self.digest = digest_of(())
        with _faults(path):
            self._db = _open(path)
            self._history = History(self._db, self._read)
            self._catch_up()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # What stands

    def entries(self) -> Mapping[str, Entry]:
        """The latest entry of every id, tombstones included: a view that is replaced, never changed."""
        return MappingProxyType(self._entries)

    def patterns(self) -> dict[str, Pattern]:
        """The patterns that stand, in whatever state, by id."""
        return {id: entry.pattern for id, entry in self._entries.items() if entry.pattern is not None}

    @property
    def behind(self) -> bool:
        """Whether other processes wrote something that was not taken over yet. One read of one row: for every second.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._lock, _faults(self.path):
            return self._newest() != self.generation

    def poll(self) -> bool:
        """Take over what other processes wrote; true where something changed.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._lock, _faults(self.path):
            return self._catch_up()

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Be told of every change; returns what ends the subscription."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    # Changes

    def apply(self, entries: Iterable[Entry], now: float) -> Applied:
        """Take entries from anywhere: verified, merged, and written as one generation, or as none where nothing changes.

        Args:
            now: UNIX seconds.

        Raises:
            StoreError: the file cannot be written. Nothing is changed then.
        """
        good: list[Entry] = []
        refused: list[Refused] = []
        entries = list(entries)
        refusals = self.trust.refusals(entries)  # outside of the lock: others read and write meanwhile
        with self._lock, _faults(self.path):
            for entry, refusal in zip(entries, refusals, strict=True):
                if refusal:
                    refused.append(Refused(entry, refusal))
                    continue
                try:
                    self._clock.observe(entry.stamp, now)
                except FutureStamp as error:
                    refused.append(Refused(entry, f"{entry.id}: stamp: {error}"))
                else:
                    good.append(entry)
            accepted = self._commit(good, now) if good else ()
            return Applied(self.generation, accepted, tuple(refused))

    def revise(
        self, changes: Mapping[str, Pattern | None], author: str, reason: str, now: float, after: Stamp = ZERO, *,
        takes_back: bool = False,
    ) -> Applied:  # fmt: skip
        """Change patterns here, as one generation: None removes. What stands that way already is left alone.

        Each becomes a revision with author, reason, time and parent, signed with this machine's key.

        Args:
            after: of a change made elsewhere that whoever asks knows of, though it may not have come here yet; what is made
                now is later.
            takes_back: it goes before whatever others do to these patterns who do not know of it yet. So does, in any case,
                what keeps a pattern from being matched.

        Raises:
            StoreError: the file cannot be written. Nothing is changed then.
        """
        with self._lock, _faults(self.path):
            self._catch_up()
            self._clock.set_right(now)
            with suppress(FutureStamp):
                self._clock.observe(after, now)
            made = []
            for id, pattern in changes.items():
                before = self._entries.get(id)
                standing = before.pattern if before else None
                if pattern is not None:
                    pattern = replace(pattern, revision=_next_revision(before, pattern))
                    if standing is not None and replace(standing, revision=pattern.revision) == pattern:
                        continue
                elif standing is None:
                    continue
                back = takes_back or (_matched(standing) and not _matched(pattern))
                made.append(self._signed(id, pattern, before, (author, reason), now, after, back))
            if made:
                made += [
                    self._signed(id, one.pattern, one, (one.author, one.reason), now)
                    for id, one in self._ahead(now) if id not in changes
                ]  # fmt: skip
            accepted = self._commit(made, now) if made else ()
            return Applied(self.generation, accepted, ())

    def rollback(self, generation: int, author: str, reason: str, now: float) -> Applied:
        """Let what stood under an earlier generation stand again: by new revisions, so that replicas follow.

        Raises:
            UnknownGeneration: there is none of this number.
            StoreError: as `revise`.
        """
        with self._lock:
            wanted = self.snapshot(generation).patterns
            standing = self.patterns()
            changes: dict[str, Pattern | None] = dict.fromkeys(standing.keys() - wanted.keys())
            changes.update({id: pattern for id, pattern in wanted.items() if not _alike(pattern, standing.get(id))})
            return self.revise(changes, author, reason, now, takes_back=True)

    # History

    def history(self, id: str) -> list[Revision]:
        """Every revision of a pattern that this store took, latest first."""
        with self._lock, _faults(self.path):
            return self._history.revisions(id)

    def generations(self, limit: int = 100, before: int | None = None) -> list[Generation]:
        """Generations, latest first; ``before`` continues a listing."""
        with self._lock, _faults(self.path):
            return self._history.generations(limit, before)

    def snapshot(self, generation: int) -> Snapshot:
        """All of one generation.

        Raises:
            UnknownGeneration: there is none of this number.
        """
        with self._lock, _faults(self.path):
            self._catch_up()
            return self._history.snapshot(generation)

    def diff(self, a: int, b: int, most: int = MOST_SHOWN) -> Diff:
        """What leads from generation ``a`` to generation ``b``, at most ``most`` patterns of each kind of change.

        Raises:
            UnknownGeneration: there is none of one of these numbers.
        """
        with self._lock, _faults(self.path):
            self._catch_up()
            return self._history.diff(a, b, most)

    # Within the lock

    def _signed(
        self, id: str, pattern: Pattern | None, before: Entry | None, said: tuple[str, str], now: float, after: Stamp = ZERO,
        back: bool = False,
    ) -> Entry:  # fmt: skip
        """A revision that stands over ``before``, whatever time that says; ``said`` are author and reason."""
        replaced = before.stamp if before else ZERO
        least = max(replaced.taken, after.taken)
        stamp = self._clock.tick(now, min(least + back, MAX_COUNTER))
        if stamp < max(replaced, after):
            stamp = self._clock.tick(now, min(least + 1, MAX_COUNTER))
        parent = digest(before) if before else ""
        return self.signer.sign(
            Entry(id=id, pattern=pattern, stamp=stamp, author=said[0], reason=said[1], parent=parent)
        )  # fmt: skip

    def _ahead(self, now: float) -> list[tuple[str, Entry]]:
        """What stands with a time that lies so far ahead that no other replica takes it: this machine's clock was wrong."""
        limit = int(now * 1000) + MAX_AHEAD_MS
        if self._stamp.wall_ms <= limit:
            return []
        return [(id, entry) for id, entry in self._entries.items() if entry.stamp.wall_ms > limit]

    def _commit(self, entries: Iterable[Entry], now: float) -> tuple[Entry, ...]:
        with transaction(self._db):
            self._catch_up()
            accepted = merge(self._entries, entries)
            if not accepted:
                return ()
            number = self.generation + 1
            changed = sorted(accepted.items())
            digests = {id: digest(entry) for id, entry in changed}
            names = {id: named(id, digest) for id, digest in digests.items()}
            whole = digest_of((self._names | names).values())
            latest = max(accepted.values(), key=lambda entry: entry.stamp[:3])
            clock = max(latest.stamp, self._stamp, key=lambda stamp: stamp[:3])
            self._db.executemany(
                "INSERT INTO revisions VALUES (?, ?, ?, ?, ?)",
                [(id, number, digests[id], body := encode(entry), content_of(body)) for id, entry in changed],
            )
            self._db.execute(
                "INSERT INTO generations VALUES (?, ?, ?, ?, ?, ?, ?)",
                (number, whole, now, latest.author, latest.reason, len(accepted), orjson.dumps(list(clock)).decode()),
            )
        self._take(number, whole, clock, accepted, names)
        return tuple(accepted.values())

    def _take(self, number: int, whole: str, clock: Stamp, changed: dict[str, Entry], names: dict[str, str]) -> None:
        """Let a written generation stand in memory, and tell who asked to be told."""
        replaced = [self._entries.get(id) for id in changed]
        self.faults = {id: fault for id, fault in self.faults.items() if id not in changed}
        self._entries = {**self._entries, **changed}
        self._names = {**self._names, **names}
        self.generation, self.digest, self._stamp = number, whole, clock
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(number, tuple(changed.values()))
            except Exception:
                _log.exception("a subscriber of the pattern store failed")
        while replaced:  # ten thousand that go at once keep all threads waiting
            replaced.pop()

    def _catch_up(self) -> bool:
        number = self._newest()
        if number == self.generation:
            return False
        query = "SELECT id, digest, body FROM revisions WHERE generation > ? AND generation <= ? ORDER BY generation"
        changed: dict[str, Entry] = {}
        names: dict[str, str] = {}
        for id, name, body in self._db.execute(query, (self.generation, number)):
            names[id] = named(id, name)
            if entry := self._read(id, name, body):
                changed[id] = entry
                self._observe(entry.stamp)
            else:
                changed.pop(id, None)
        whole, clock = self._history.generation(number)
        if unread := names.keys() - changed.keys():  # as after a restart: what one that cannot be read replaced does not act
            self._entries = {id: entry for id, entry in self._entries.items() if id not in unread}
        self._take(number, whole, clock, changed, names)
        return True

    def _newest(self) -> int:
        number: int = self._db.execute("SELECT coalesce(max(number), 0) FROM generations").fetchone()[0]
        return number

    def _observe(self, stamp: Stamp) -> None:
        # It was taken once, so it was not ahead then; our clock may have been set back since.
        self._clock.observe(stamp, max(time.time(), stamp.wall_ms / 1000))

    def _read(self, id: str, name: str, body: bytes) -> Entry | None:
        """An entry as stored. One that this version cannot read is left out and named in `faults`."""
        standing = self._entries.get(id)
        if standing is not None and self._names.get(id) == named(id, name):
            return standing  # reading ten thousand again would take a second
        try:
            return decode(body, id)
        except EntryError as error:
            if id not in self.faults:
                _log.error("an entry of the pattern store cannot be read and is left out: %s", error)
            self.faults[id] = str(error)
            return None


def _alike(pattern: Pattern, other: Pattern | None) -> bool:
    return other is not None and replace(other, revision=pattern.revision) == pattern


def _matched(pattern: Pattern | None) -> bool:
    return pattern is not None and pattern.state in WATCHING


def _next_revision(before: Entry | None, pattern: Pattern) -> int:
    if before is None or before.pattern is None:
        return pattern.revision
    return before.pattern.revision + 1


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite gives its journals the mode of the file, so making it first keeps all of it private.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.create_function("content_of", 1, content_of, deterministic=True)
    try:
        write_ahead(db, BUSY_SECONDS)
        db.execute("PRAGMA synchronous = FULL")  # changes are few and precious
        migrate(db, _SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path}: {error}") from error

