"""Compression and retention of the audit log's files. One process at a time; whatever is removed is written down first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from gateway.audit import chain as chains
from gateway.audit import files
from gateway.audit.files import Segment


class Keep(NamedTuple):
    """How long and how much is kept, and whether what is complete is compressed."""

    seconds: float
    total_bytes: int
    compress: bool


def tidy(folder: Path, keep: Keep, now: float, write_down: Callable[[dict[str, Any]], None]) -> None:
    """Compress complete files and remove, oldest first, those that are too old or too many.

    A file that a live process writes is left alone. ``write_down`` is called with what is about to be removed and returns when
    that is on the disk and under a signed root; where it raises, nothing more is removed.
    """
    with files.locked(folder / "tidy.lock") as ours:
        if not ours:
            return
        complete = _complete(folder)
        if keep.compress:
            complete = [
                segment if segment.compressed else segment._replace(path=files.compress(segment)) for segment in complete
            ]
        for segment in _surplus(folder, complete, keep, now):
            write_down(_named(segment))
            segment.path.unlink()
            with contextlib.suppress(OSError):  # the lock and the positions of exports go with a chain's last file
                if not files.segments(folder, segment.chain):
                    for rest in segment.path.parent.iterdir():
                        rest.unlink()
                    segment.path.parent.rmdir()


def _complete(folder: Path) -> list[Segment]:
    """The files that nobody writes any more."""
    found: list[Segment] = []
    for name in files.chains(folder):
        every = files.segments(folder, name)
        for leftover in (folder / name).glob("*.part"):
            leftover.unlink()
        with files.locked(folder / name / "lock") as ended:
            found += every if ended else every[:-1]
    return found


def _surplus(folder: Path, complete: list[Segment], keep: Keep, now: float) -> list[Segment]:
    total = sum(
        segment.path.stat().st_size for name in files.chains(folder) for segment in files.segments(folder, name)
    )
    surplus: list[Segment] = []
    blocked: set[str] = set()
    for segment in sorted(complete, key=lambda one: (one.path.stat().st_mtime, one.chain, one.first)):
        stat = segment.path.stat()
        # A chain loses its files from the front only.
        if segment.chain not in blocked and (now - stat.st_mtime > keep.seconds or total > keep.total_bytes):
            surplus.append(segment)
            total -= stat.st_size
        else:
            blocked.add(segment.chain)
    return sorted(surplus, key=lambda one: (one.chain, one.first))


def _named(segment: Segment) -> dict[str, Any]:
    line = files.last_line(segment)
    last, head = segment.first - 1, ""
    if line is not None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            last, head = orjson.loads(line)["seq"], chains.split(line).hash.hex()
    return {"chain": segment.chain, "file": segment.path.name, "first": segment.first, "last": last, "head": head}
