"""A queue on disk for records that a store does not take now: appended to, read back once, bounded.

A file of lines, one record each. A line that a killed process left unfinished is dropped when it is read; all others are whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gateway.decision_records import decode, decode_texts, encode, encode_texts
from gateway.decisions import AnyDecision, KeptTexts, Record

MAX_SPOOL: Final = 256 * 2**20
"""Bytes: some 250,000 decisions. A gateway at its utmost fills it in a minute, one at 50 requests a second in over an hour."""

_DECISION, _TEXTS = b"D", b"T"


class SpoolFull(Exception):  # noqa: N818 - reads as the condition that it is
    """The queue holds as much as it may, or the disk takes no more."""


class Spool:
    """One process's queue."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / f"state-{os.getpid()}.spool"
        self._sealed = 0
        self._sizes: dict[Path, tuple[int, int]] = {}  # of this process's files: bytes and decisions

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum(size for size, _ in self._sizes.values())

    @property
    def records(self) -> int:
        """Decisions that wait."""
        return sum(count for _, count in self._sizes.values())

    def put(self, decisions: Iterable[AnyDecision], kept: Iterable[KeptTexts]) -> None:
        """Append records; they are on disk when this returns.

        Raises:
            SpoolFull: nothing was appended.
        """
        lines = [_DECISION + encode(one) + b"\n" for one in decisions]
        count = len(lines)
        lines += [_TEXTS + encode_texts(one) + b"\n" for one in kept]
        data = b"".join(lines)
        if self.size + len(data) > MAX_SPOOL:
            raise SpoolFull(f"the queue on disk holds {self.size} bytes, as much as it may")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                if os.write(handle, data) != len(data):
                    os.ftruncate(handle, self._sizes.get(self._file, (0, 0))[0])
                    raise SpoolFull("the disk is full")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise SpoolFull(f"the queue on disk cannot be written: {error.strerror}") from None
        size, before = self._sizes.get(self._file, (0, 0))
        self._sizes[self._file] = size + len(data), before + count

    def waiting(self) -> list[Path]:
        """The files to read: ours, to which nothing is appended from now on, and those of processes that have ended."""
        if self._file in self._sizes:
            self._sealed += 1
            sealed = self._file.with_name(f"state-{os.getpid()}.{self._sealed}.spool")
            self._file.rename(sealed)
            self._sizes[sealed] = self._sizes.pop(self._file)
        others = [file for file in sorted(self._folder.glob("state-*.spool")) if file not in self._sizes and not _alive(file)]
        return [*others, *self._sizes]

    def read(self, file: Path, batch: int) -> Iterator[tuple[list[Record], list[KeptTexts]]]:
        """What a file holds, in batches."""
        decisions: list[Record] = []
        kept: list[KeptTexts] = []
        with contextlib.suppress(FileNotFoundError), file.open("rb") as lines:  # another worker may have stored it
            for line in lines:
                try:
                    if line.startswith(_DECISION):
                        decisions.append(decode(line[1:]))
                    else:
                        kept.append(decode_texts(line[1:]))
                except (ValueError, TypeError, IndexError):
                    continue  # the end of what a killed process wrote
                if len(decisions) + len(kept) >= batch:
                    yield decisions, kept
                    decisions, kept = [], []
        if decisions or kept:
            yield decisions, kept

    def drop(self, file: Path) -> None:
        """Forget a file that was stored."""
        file.unlink(missing_ok=True)
        self._sizes.pop(file, None)


def _alive(file: Path) -> bool:
    try:
        os.kill(int(file.name.split("-")[1].split(".")[0]), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
