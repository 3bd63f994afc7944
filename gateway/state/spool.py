"""A queue on disk for records that a store does not take now: appended to, read back once, bounded.

A file of lines, one record each. A line that a killed process left unfinished is dropped when it is read; all others are whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gateway.records.decision_records import decode, decode_texts, encode, encode_texts
from gateway.records.decisions import AnyDecision, KeptTexts, Record

MAX_SPOOL: Final = 256 * 2**20
"""Bytes in the folder, whichever worker wrote them: some 250,000 decisions. A gateway at its utmost fills it in a minute, one
at 50 requests a second in over an hour."""

_DECISION, _TEXTS = b"D", b"T"


class SpoolFull(Exception):  # noqa: N818 - reads as the condition that it is
    """The queue holds as much as it may, or the disk takes no more."""


class Spool:
    """One process's queue.

    Its files are locked for as long as it lives, so what a process left that was killed, anybody may store: a process id does
    not tell, since in a container the next one has the same.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Path | None = None  # that is appended to
        self._locks: dict[Path, int] = {}  # of ours, and of those left behind that we store
        self._size = 0  # of the file that is appended to
        self._turn = threading.Lock()  # to append, or to say what is read: a file in which one is at work is not whole

    @property
    def size(self) -> int:
        """Bytes that wait in the folder: this process's, those of the workers beside it, and what others left behind."""
        size = 0
        for file in self._folder.glob("state-*.spool"):
            with contextlib.suppress(FileNotFoundError):  # it has just been stored
                size += file.stat().st_size
        return size

    def put(self, decisions: Iterable[AnyDecision], kept: Iterable[KeptTexts]) -> None:
        """Append records; they are on disk when this returns.

        Raises:
            SpoolFull: nothing was appended.
        """
        lines = [_DECISION + encode(one) + b"\n" for one in decisions]
        lines += [_TEXTS + encode_texts(one) + b"\n" for one in kept]
        data = b"".join(lines)
        with self._turn:
            if (waits := self.size) + len(data) > MAX_SPOOL:
                raise SpoolFull(f"the queue on disk holds {waits} bytes, as much as it may")
            try:
                file = self._file = self._file or self._begin()
                if os.write(self._locks[file], data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._locks[file])
            except OSError as error:
                if self._file is not None:  # or the next cut would be made before the end of what was appended since
                    with contextlib.suppress(OSError):
                        os.ftruncate(self._locks[self._file], self._size)
                raise SpoolFull(f"the queue on disk cannot be written: {error.strerror}") from None
            self._size += len(data)

    def _begin(self) -> Path:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            file = self._folder / f"state-{os.getpid()}-{secrets.token_hex(4)}.spool"
            if self._lock(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND):
                self._size = 0
                return file

    def _lock(self, file: Path, flags: int) -> bool:
        """Take a file for ours; False where another process has it, or had it and dropped it."""
        handle = os.open(file, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        if os.fstat(handle).st_nlink == 0:
            os.close(handle)
            return False
        self._locks[file] = handle
        return True

    def waiting(self) -> list[Path]:
        """The files to read: those of processes that have ended, and ours, to which nothing is appended from now on."""
        with self._turn:
            for file in sorted(self._folder.glob("state-*.spool")):
                if file not in self._locks:
                    with contextlib.suppress(OSError):  # another process has stored it, or it is none of ours
                        self._lock(file, os.O_RDONLY)
            if self._locks.keys() <= {self._file}:  # one by one, however long the state takes nothing
                self._file = None
            return [file for file in self._locks if file != self._file]

    def read(self, file: Path, batch: int) -> Iterator[tuple[list[Record], list[KeptTexts]]]:
        """What a file holds, in batches."""
        decisions: list[Record] = []
        kept: list[KeptTexts] = []
        with file.open("rb") as lines:
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
        os.close(self._locks.pop(file))
