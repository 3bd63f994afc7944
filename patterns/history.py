"""What a pattern store held before: the revisions of a pattern, the generations, and what lies between two of them.

Only reads, within the lock of the `patterns.store.Store` that it belongs to.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from typing import Final, NamedTuple

import orjson

from patterns.clock import ZERO, Stamp
from patterns.entries import TOMBSTONE, Entry, store_digest, written_pattern
from patterns.schema import Pattern
from patterns.snapshot import Counts, Diff, Snapshot, changes


class UnknownGeneration(LookupError):  # noqa: N818 - reads as the condition that it is
    """There is no generation of this number."""


class Generation(NamedTuple):
    """One generation as it is listed. ``at`` is in UNIX seconds; ``author`` and ``reason`` are of its latest entry."""

    number: int
    digest: str
    at: float
    author: str
    reason: str
    changes: int


class Revision(NamedTuple):
    """An entry, and the generation that brought it here."""

    generation: int
    entry: Entry


Read = Callable[[str, str, bytes], Entry | None]
"""Reads an entry by id, digest and body; None for one that this version cannot read."""

_BETWEEN: Final = """
    SELECT changed.id, old.generation, old.content, new.generation, new.content
    FROM (SELECT id, max(generation) AS last FROM revisions WHERE generation > ?1 AND generation <= ?2 GROUP BY id) AS changed
    JOIN revisions AS new INDEXED BY revisions_content ON new.id = changed.id AND new.generation = changed.last
    LEFT JOIN revisions AS old INDEXED BY revisions_content ON old.id = changed.id AND old.generation =
        (SELECT max(generation) FROM revisions INDEXED BY revisions_content WHERE id = changed.id AND generation <= ?1)
    ORDER BY changed.id
"""
"""Of each pattern that changed above one generation and up to another, what stood under both: from an index alone, which is a
tenth as large as what it tells of."""


def content_of(body: bytes) -> bytes | None:
    """Names the pattern in an encoded entry, whoever wrote it when; None for its removal."""
    pattern = written_pattern(body)
    return None if pattern == TOMBSTONE else hashlib.blake2b(pattern, digest_size=16).digest()


class History:
    """See the module."""

    def __init__(self, db: sqlite3.Connection, read: Read) -> None:
        self._db = db
        self._read = read

    def revisions(self, id: str) -> list[Revision]:
        """Every revision of a pattern, latest first."""
        query = "SELECT generation, digest, body FROM revisions WHERE id = ? ORDER BY generation DESC"
        rows = self._db.execute(query, (id,)).fetchall()
        return [Revision(number, entry) for number, name, body in rows if (entry := self._read(id, name, body))]

    def generations(self, limit: int, before: int | None) -> list[Generation]:
        """Generations, latest first, those below ``before``."""
        query = (
            "SELECT number, digest, at, author, reason, changes FROM generations WHERE number < ? ORDER BY number DESC LIMIT ?"
        )
        rows = self._db.execute(query, (2**62 if before is None else before, limit)).fetchall()
        return [Generation(*row) for row in rows]

    def generation(self, number: int) -> tuple[str, Stamp]:
        """A generation's digest, and the latest stamp that it knows.

        Raises:
            UnknownGeneration: there is none of this number.
            sqlite3.DatabaseError: it is damaged.
        """
        if number == 0:
            return store_digest(()), ZERO
        row = self._db.execute("SELECT digest, clock FROM generations WHERE number = ?", (number,)).fetchone()
        if row is None:
            (latest,) = self._db.execute("SELECT coalesce(max(number), 0) FROM generations").fetchone()
            raise UnknownGeneration(f"generation {number} is not known; the latest is {latest}")
        try:
            return row[0], Stamp(*orjson.loads(row[1]))
        except (ValueError, TypeError):
            raise sqlite3.DatabaseError(f"the clock of generation {number} cannot be read") from None

    def snapshot(self, number: int) -> Snapshot:
        """All of one generation. Raises: as `generation`."""
        name, clock = self.generation(number)
        query = "SELECT id, digest, body, max(generation) FROM revisions WHERE generation <= ? GROUP BY id"
        rows = self._db.execute(query, (number,)).fetchall()
        found = {id: entry for id, name_, body, _ in rows if (entry := self._read(id, name_, body))}
        return Snapshot(number, name, {id: e.pattern for id, e in found.items() if e.pattern is not None}, clock)

    def diff(self, a: int, b: int, most: int) -> Diff:
        """What leads from generation ``a`` to generation ``b``, at most ``most`` patterns of each kind of change.

        All changes are counted; read is only what is shown.

        Raises: as `generation`.
        """
        low, high = sorted((a, b))
        self.generation(low), self.generation(high)
        added: list[tuple[str, int]] = []
        removed: list[tuple[str, int]] = []
        changed: list[tuple[str, int, int]] = []
        for id, *sides in self._db.execute(_BETWEEN, (low, high)):
            before, was, after, now = sides if a < b else (*sides[2:], *sides[:2])
            if was == now:
                continue
            if was is None:
                added.append((id, after))
            elif now is None:
                removed.append((id, before))
            else:
                changed.append((id, before, after))
        pairs = {id: (self._pattern(id, before), self._pattern(id, after)) for id, before, after in changed[:most]}
        return Diff(
            {id: pattern for id, at in added[:most] if (pattern := self._pattern(id, at))},
            {id: pattern for id, at in removed[:most] if (pattern := self._pattern(id, at))},
            {id: changes(old, new) for id, (old, new) in pairs.items() if old and new},
            Counts(len(added), len(removed), len(changed)),
        )

    def _pattern(self, id: str, generation: int) -> Pattern | None:
        query = "SELECT digest, body FROM revisions WHERE id = ? AND generation = ?"
        entry = self._read(id, *self._db.execute(query, (id, generation)).fetchone())
        return entry.pattern if entry else None
