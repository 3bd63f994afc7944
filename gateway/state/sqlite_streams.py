"""Streams in SQLite: a table of events, each with who holds it. Every call is one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.state.base import Backlog, Change, Event, Settled
from patterns.migrations import transaction


def emit(
    db: sqlite3.Connection, stream: str, bodies: Sequence[bytes], now: float, most: int, make_room: bool
) -> int | None:
    with transaction(db):
        (held,) = db.execute("SELECT count(*) FROM events WHERE stream = ?", (stream,)).fetchone()
        if held + len(bodies) > most and not make_room:
            return None
        rows = [(stream, now, body) for body in bodies]
        db.executemany("INSERT INTO events (stream, at, body, deliveries) VALUES (?, ?, ?, 0)", rows)
        over: int = max(0, held + len(bodies) - most)
        if over:
            oldest = "SELECT number FROM events WHERE stream = ? ORDER BY number LIMIT ?"
            db.execute(f"DELETE FROM events WHERE number IN ({oldest})", (stream, over))
            count = "INSERT INTO counters VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = value + ?2"
            db.execute(count, (_dropped(stream), over))
    return over


def claim(db: sqlite3.Connection, stream: str, who: str, count: int, idle_seconds: float, now: float) -> list[Event]:
    # Or as far ahead: it was taken before the clock was set back, and would be held until that time has come again.
    left = "SELECT number FROM events WHERE stream = ? AND (taken_at <= ? OR taken_at > ?) ORDER BY number LIMIT ?"
    fresh = "SELECT number FROM events WHERE stream = ? AND taken_at IS NULL ORDER BY number LIMIT ?"
    query = "SELECT number, body, deliveries FROM events WHERE number = ?"
    if db.execute("SELECT 1 FROM events WHERE stream = ? LIMIT 1", (stream,)).fetchone() is None:
        return []  # without the lock that a change takes
    with transaction(db):
        rows = db.execute(left, (stream, now - idle_seconds, now + idle_seconds, count)).fetchall()
        rows += db.execute(fresh, (stream, count - len(rows))).fetchall()
        take = "UPDATE events SET who = ?, taken_at = ?, deliveries = deliveries + 1 WHERE number = ?"
        db.executemany(take, [(who, now, number) for (number,) in rows])
        found = [db.execute(query, row).fetchone() for row in rows]
    return [Event(str(number), body, deliveries) for number, body, deliveries in found]


def settle(db: sqlite3.Connection, stream: str, who: str, ids: Sequence[str], changes: Sequence[Change]) -> Settled:
    held = "SELECT 1 FROM events WHERE number = ? AND stream = ? AND who = ?"
    version = "SELECT version FROM documents WHERE kind = ? AND id = ?"
    with transaction(db):
        if any(db.execute(held, (int(id), stream, who)).fetchone() is None for id in ids):
            return Settled.GONE
        if any((db.execute(version, one[:2]).fetchone() or (0,))[0] != one.version for one in changes):
            return Settled.CONFLICT
        write = "INSERT OR REPLACE INTO documents (kind, id, body, version) VALUES (?, ?, ?, ?)"
        db.executemany(write, [(one.kind, one.id, one.body, one.version + 1) for one in changes])
        db.executemany("DELETE FROM events WHERE number = ?", [(int(id),) for id in ids])
    return Settled.DONE


def backlog(db: sqlite3.Connection, stream: str, now: float) -> Backlog:
    query = "SELECT count(*), count(taken_at), min(at) FROM events WHERE stream = ?"
    held, pending, oldest = db.execute(query, (stream,)).fetchone()
    (dropped,) = db.execute("SELECT value FROM counters WHERE name = ?", (_dropped(stream),)).fetchone() or (0,)
    return Backlog(held - pending, pending, 0.0 if oldest is None else max(0.0, now - oldest), dropped)


def _dropped(stream: str) -> str:
    return f"dropped:{stream}"
