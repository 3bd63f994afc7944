"""Exports: the log is its own queue. Each export remembers, for each chain, the next record to send.

A record is sent at least once: the position moves on only when the receiver has it, and a process that ends leaves its chain to
whoever runs next. The queue is bounded by the log's own retention; what it removes unsent is counted as lost.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from gateway.audit import files
from gateway.audit.formats import FORMATS, syslog
from gateway.audit.senders import Sender

BATCH: Final = 500
"""Records sent at once: about a quarter of a megabyte."""

IDLE_SECONDS: Final = 1.0
"""How often an export that has nothing to send looks again."""

RETRY_SECONDS: Final = 1.0
"""The pause after a failed attempt; it doubles up to `MAX_RETRY_SECONDS`."""

MAX_RETRY_SECONDS: Final = 60.0

MAX_FAILURES: Final = 3
"""Attempts to read an ended chain; a damaged file must not hold up the other chains for ever."""

_log = logging.getLogger(__name__)


class ExportStats(NamedTuple):
    """``behind``: records known to wait; ``lost``: records that retention removed before they were sent."""

    sent: int
    errors: int
    behind: int
    lost: int
    last_error: str


class Exporter:
    """One export of one worker: sends the worker's own chain as it grows, and the chains that ended processes left."""

    def __init__(
        self, name: str, folder: Path, kind: str, sender: Sender, own: Callable[[], tuple[str, int, int]]
    ) -> None:
        """``own`` gives the worker's chain, the number of its last record on the disk, and how often a write has failed."""
        self.name = name
        self._folder = folder
        self._format = FORMATS[kind]
        self._sender = sender
        self._own = own
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"portcullis-export-{name}", daemon=True)
        self._followed: dict[str, _Follower] = {}
        self._finished: set[str] = set()
        self._sent = self._errors = self._lost = 0
        self._last_error = ""
        self._host, self._pid = platform.node(), os.getpid()

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Send what can be sent within ``seconds``, and end."""
        self._stop.set()
        self._thread.join(seconds)

    @property
    def stats(self) -> ExportStats:
        behind = sum(follower.behind for follower in list(self._followed.values()))
        return ExportStats(self._sent, self._errors, behind, self._lost, self._last_error)

    def _run(self) -> None:
        failures = 0
        while True:
            ending = self._stop.is_set()
            try:
                busy = self._step()
                failures, self._last_error = 0, ""
            except Exception as error:  # whatever it is: a thread that ended would send nothing more, and say nothing
                busy = False
                failures += 1
                self._failed(error)
            if ending and not busy:
                break
            if not busy:
                pause = min(RETRY_SECONDS * 2 ** (failures - 1), MAX_RETRY_SECONDS) if failures else IDLE_SECONDS
                self._stop.wait(pause)
        self._sender.close()
        for follower in self._followed.values():
            follower.close()

    def _failed(self, error: Exception) -> None:
        self._errors += 1
        why = str(error.strerror or error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        if why != self._last_error:
            _log.error("export %s: %s", self.name, why)
        self._last_error = why

    def _step(self) -> bool:
        """Send a batch of each chain that has something; False where none has."""
        own, durable, errors = self._own()
        busy = False
        for name in files.chains(self._folder):
            if name in self._finished:
                continue
            follower = self._followed.get(name)
            if follower is None:
                follower = _follow(self._folder, name, self.name, ended=name != own)
                if follower is None:
                    continue
                self._followed[name] = follower
            if name == own:
                follower.grown(durable, errors)
            try:
                batch = follower.take(BATCH)
            except files.Unreadable as error:
                self._failed(error)
                if follower.failures < MAX_FAILURES or name == own:
                    continue
                self._lost += follower.behind
                batch = []
            self._lost += follower.lost
            follower.lost = 0
            if batch:
                self._sender.send([self._message(name, line, record) for line, record in batch])
                self._sent += len(batch)
                follower.sent()
                busy = True
            elif name != own:
                follower.close()
                del self._followed[name]
                self._finished.add(name)
        return busy

    def _message(self, chain: str, line: bytes, record: dict[str, Any]) -> bytes:
        message = self._format(chain, line, record)
        return syslog(message, record, self._host, self._pid) if self._sender.framed else message


def _follow(folder: Path, chain: str, export: str, ended: bool) -> _Follower | None:
    """Follow a chain, unless somebody else does or its process lives."""
    if ended:
        with files.locked(folder / chain / "lock") as ours:
            if not ours:
                return None
    lock = files.lock(folder / chain / f"export-{export}.lock")
    if lock is None:
        return None
    return _Follower(folder, chain, folder / chain / f"export-{export}.json", lock, ended)


class _Follower:
    """The place in one chain up to which an export has come. A batch that was taken is taken again until it is `sent`."""

    def __init__(self, folder: Path, chain: str, position: Path, lock: int, ended: bool) -> None:
        self._folder, self._chain, self._position, self._lock = folder, chain, position, lock
        self.lost = self.failures = 0
        self._write_errors = 0
        try:
            self._next = int(orjson.loads(position.read_bytes())["next"])
        except (OSError, ValueError, KeyError, TypeError):
            self._next = 0
        self.last = self._last_of_ended() if ended else -1
        self._lines: Iterator[tuple[int, bytes, dict[str, Any]]] | None = None
        self._batch: list[tuple[int, bytes, dict[str, Any]]] = []

    @property
    def behind(self) -> int:
        return max(0, self.last + 1 - self._next)

    def grown(self, last: int, write_errors: int) -> None:
        """The chain is on the disk up to ``last``. After a failed write what was read ahead may have been taken back."""
        if write_errors != self._write_errors:
            self._write_errors, self._lines = write_errors, None
        self.last = last

    def take(self, count: int) -> list[tuple[bytes, dict[str, Any]]]:
        """Up to ``count`` records from the position on."""
        if not self._batch and self.behind:
            self._batch = self._read(count)
        return [(line, record) for _, line, record in self._batch]

    def sent(self) -> None:
        """The batch is with the receiver: remember it."""
        self._next = self._batch[-1][0] + 1
        self._batch = []
        scratch = self._position.with_suffix(".new")
        scratch.write_bytes(orjson.dumps({"next": self._next}))
        scratch.replace(self._position)

    def close(self) -> None:
        os.close(self._lock)

    def _read(self, count: int) -> list[tuple[int, bytes, dict[str, Any]]]:
        if self._lines is None:
            self._lines = self._records()
        batch = []
        try:
            for one in self._lines:
                batch.append(one)
                if len(batch) == count or one[0] >= self.last:
                    break
            else:
                self._lines = None
        except files.Unreadable:
            self.failures += 1
            self._lines = None  # compressed or removed under our hands: what is there now is looked for anew
            raise
        if batch and batch[0][0] > self._next:
            self.lost += batch[0][0] - self._next
            _log.error("records %d to %d of chain %s were gone before they were sent", self._next, batch[0][0] - 1, self._chain)
        return batch

    def _records(self) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
        """Records from the position on. Ends at the end of the newest file; a new one means to begin again."""
        every = files.segments(self._folder, self._chain)
        begin = max((index for index, one in enumerate(every) if one.first <= self._next), default=0)
        for segment in every[begin:]:
            for line in files.lines(segment):
                try:
                    record = orjson.loads(line)
                    seq = int(record["seq"])
                except (ValueError, KeyError, TypeError):
                    continue  # broken: `audit verify` names it
                if seq >= self._next:
                    yield seq, line, record

    def _last_of_ended(self) -> int:
        for segment in reversed(files.segments(self._folder, self._chain)):
            if (line := files.last_line(segment)) is not None:
                try:
                    return int(orjson.loads(line)["seq"])
                except (ValueError, KeyError, TypeError):
                    return -1
        return -1
