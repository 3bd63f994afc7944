"""SQLite files that outlive the version which wrote them: transactions, and a schema that moves on step by step."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def write_ahead(db: sqlite3.Connection, seconds: float) -> None:
    """Let a database keep a write-ahead log, which it does from then on.

    SQLite does not wait for the lock that this takes of a new file, whatever the connection's timeout: another process that
    opens the file too may hold it for a moment.

    Raises:
        sqlite3.OperationalError: it is held for longer than ``seconds``, or as SQLite has it.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def migrate(db: sqlite3.Connection, steps: Sequence[str]) -> None:
    """Bring a database to the schema that ``steps`` make one after the other; each is statements with ``;`` between.

    Raises:
        sqlite3.OperationalError: a newer version wrote it, or as SQLite has it.
    """
    if _version(db) == len(steps):
        return  # without a lock, which another process may hold
    with transaction(db):
        version = _version(db)  # another process may have been first
        if version > len(steps):
            raise sqlite3.OperationalError(f"written by a newer version of Portcullis (schema {version}, not {len(steps)})")
        for script in steps[version:]:
            for statement in script.split(";"):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(steps)}")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing. The connection must be in autocommit mode (``isolation_level=None``)."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk may have ended it already
            db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)
