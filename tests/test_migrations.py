"""A database that several processes open in the same moment."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from patterns.migrations import migrate, write_ahead

OPENERS = 8


def _opened(file: Path, together: threading.Barrier) -> str:
    db = sqlite3.connect(file, timeout=10, isolation_level=None)
    try:
        together.wait(10)
        write_ahead(db, 10)
        migrate(db, ["CREATE TABLE one (a); CREATE TABLE two (b)"])
        return str(db.execute("PRAGMA journal_mode").fetchone()[0])
    finally:
        db.close()


def test_a_new_file_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(OPENERS) as pool:
        for number in range(20):
            together = threading.Barrier(OPENERS)
            modes = list(pool.map(_opened, [tmp_path / f"{number}.db"] * OPENERS, [together] * OPENERS))
            assert modes == ["wal"] * OPENERS


def test_whoever_holds_a_file_for_too_long_is_told_of(tmp_path: Path) -> None:
    holder, other = (sqlite3.connect(tmp_path / "held.db", timeout=0, isolation_level=None) for _ in range(2))
    holder.execute("CREATE TABLE one (a)")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        write_ahead(other, 0.05)
    holder.close()
    other.close()
