"""Decisions, their labels and texts in SQLite: statements, for whoever holds the connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from gateway.records.decision_records import encode, encode_texts, labels
from gateway.records.decisions import AnyDecision, KeptTexts, first_id
from gateway.state.base import EXPIRE_STEP, Filter
from patterns.migrations import transaction

ROWS: Final = 64
"""Records encoded and written by one statement. The statement runs without the interpreter lock, so the event
loop waits for the encoding of these at most, some 150 µs; one statement for each record would fight it for
the lock each time."""


def append(db: sqlite3.Connection, decisions: Sequence[AnyDecision], kept: Sequence[KeptTexts]) -> None:
    """Keep decisions and texts, all or none; those that are known stay as they are."""
    texts = [(bytes.fromhex(each.id), each.expires_at, encode_texts(each)) for each in kept]
    with transaction(db):
        start, size = 0, ROWS
        while start < len(decisions):
            # Sizes are powers of two, so that there are few different statements and all stay prepared.
            while size > len(decisions) - start:
                size //= 2
            _insert_decisions(db, decisions[start : start + size])
            start += size
        db.executemany("INSERT OR IGNORE INTO texts VALUES (?, ?, ?)", texts)


def _insert_decisions(db: sqlite3.Connection, decisions: Sequence[AnyDecision]) -> None:
    values: list[bytes | str] = []
    found: list[tuple[str, bytes]] = []
    for decision in decisions:
        key = bytes.fromhex(decision.id)
        values += (key, decision.action, decision.tenant, decision.wire, encode(decision))
        if marks := labels(decision):
            found += [(label, key) for label in marks]
    places = ", ".join(["(?, ?, ?, ?, ?)"] * len(decisions))
    db.execute(f"INSERT OR IGNORE INTO decisions (id, action, tenant, wire, body) VALUES {places}", values)
    if found:
        db.executemany("INSERT OR IGNORE INTO labels VALUES (?, ?)", found)


def page_query(only: Filter, limit: int, cursor: str | None) -> tuple[str, list[Any]]:
    """The query of a page, one decision more than ``limit``, newest first, and its values."""
    low, high = only.bounds(cursor)
    source = "decisions"
    if only.category is not None:
        # CROSS: by way of the labels, not of all decisions. Then by id: by action it would take all of one for each label.
        source = "labels CROSS JOIN decisions INDEXED BY decisions_id USING (id)"
    elif only.action not in (None, "allow"):
        source = "decisions INDEXED BY decisions_action"
    asked = {
        "id >= ?": bytes.fromhex(low),
        "id < ?": bytes.fromhex(high),
        "label = ?": only.category,
        # As the index has it: that it applies must be seen without knowing the value.
        "action = ?" if only.action == "allow" else "action = ? AND action <> 'allow'": only.action,
        "tenant = ?": only.tenant,
        "wire = ?": only.wire,
    }
    given = {term: value for term, value in asked.items() if value is not None}
    query = f"SELECT body FROM {source} WHERE {' AND '.join(given)} ORDER BY id DESC LIMIT ?"
    return query, [*given.values(), limit + 1]


def forget_expired(db: sqlite3.Connection, now: float) -> None:
    """Remove what was kept up to ``now``, UNIX seconds."""
    for table in ("texts", "fleeting", "tallies"):
        db.execute(f"DELETE FROM {table} WHERE expires_at <= ?", (now,))


def least_kept(db: sqlite3.Connection, before: float, keep: int) -> bytes:
    """The least id that stays: all below it go."""
    query = "SELECT id FROM decisions ORDER BY id DESC LIMIT 1 OFFSET ?"
    newest_to_go = db.execute(query, (keep,)).fetchone()
    by_time = bytes.fromhex(first_id(before))
    return by_time if newest_to_go is None else max(by_time, newest_to_go[0] + b"\0")


def remove_step(db: sqlite3.Connection, least: bytes) -> int:
    """Remove some of the decisions below ``least`` with all that belongs to them; how many."""
    with transaction(db):
        query = "SELECT id FROM decisions WHERE id < ? ORDER BY id LIMIT 1 OFFSET ?"
        step = db.execute(query, (least, EXPIRE_STEP)).fetchone()
        below = (least if step is None else step[0],)
        db.execute("DELETE FROM labels WHERE id < ?", below)
        db.execute("DELETE FROM texts WHERE id < ?", below)
        return db.execute("DELETE FROM decisions WHERE id < ?", below).rowcount
