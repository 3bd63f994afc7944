"""Writes one chain to the disk: what is acknowledged is on it, what is not is kept and tried again.

One thread at a time. A process that is killed loses what was not acknowledged and nothing else; its chain then ends without a
`records.CLOSE`, and whoever opens a chain next writes down how far it had come.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit import chain as chains
from gateway.audit import files, records
from gateway.audit.chain import Chain, Mark

BATCH: Final = 1_024
"""Records between two calls of fdatasync while many wait."""

MAX_WAITING: Final = 32 * 2**20
"""Bytes of records that wait for a disk that takes none: some 50,000. What comes then is given up, counted, and named in the
log once it can be written again."""

ROOT_RECORDS: Final = 8_192
"""Records under one root at most: what a single changed byte can put in doubt where hashes were made anew."""

MAX_BESIDE: Final = 1_024
"""Chains whose ends an opening record notes; each restart of a worker makes one, and retention removes them."""

_log = logging.getLogger(__name__)


class AuditUnavailable(Exception):  # noqa: N818 - reads as the condition that it is
    """The audit log cannot be written. The message says where and why."""


class Rules(NamedTuple):
    """When a root is signed and a file is begun."""

    root_seconds: float
    rotate_bytes: int
    rotate_seconds: float


class Writer:
    """One chain and the file that it is written to. ``monotonic`` tells how much time passed, ``clock`` what to write down."""

    def __init__(
        self,
        folder: Path,
        key: Ed25519PrivateKey,
        rules: Rules,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Raises:
            AuditUnavailable: the folder cannot be written.
        """
        self._folder = folder
        self._key = key
        self.rules = rules
        self._clock = clock
        self._monotonic = monotonic
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._given_up: list[float] = []  # [how many, since, until], empty where none
        self.written = self.errors = self.dropped = 0
        self.last_error = ""
        self.last_root = 0.0  # UNIX seconds
        self.durable = (-1, b"")  # number and hash of the last record on the disk
        self._lock = self._descriptor = -1
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.log_id(folder)
            files.publish(folder, key)
            self._open_chain()
        except OSError as error:
            self.abandon()
            raise AuditUnavailable(_why(folder, error)) from None

    @property
    def name(self) -> str:
        return self._chain.name

    @property
    def writable(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return not self.last_error

    @property
    def waiting(self) -> int:
        """Records that are not on the disk yet."""
        return len(self._waiting)

    def append(self, bodies: Sequence[bytes]) -> bool:
        """Take records (as `records.body` makes them) and write all that waits. True where all of it is on the disk."""
        at_once = bool(bodies) and not (self._waiting or self._given_up)
        if at_once and self._put(bodies):
            return True
        for body in bodies:
            if self._waiting_bytes + len(body) > MAX_WAITING:
                self._give_up(1)
            else:
                self._waiting.append(body)
                self._waiting_bytes += len(body)
        return not at_once and self._write_all()

    def record(self, kind: str, fields: dict[str, Any]) -> bool:
        """Take one record of now."""
        return self.append([records.body(kind, self._clock(), fields)])

    def tick(self) -> bool:
        """What time asks for: another attempt, a root, a new file. Call it about once a second."""
        if not self._still_there():
            self._fail(OSError(f"{self._path} was removed"))
            self._reopen()
        if not self._write_all():
            return False
        since_root = self._monotonic() - self._rooted
        if since_root >= self.rules.root_seconds or self._chain.unsigned >= ROOT_RECORDS:
            self.root()
        if self._size >= self.rules.rotate_bytes or self._monotonic() - self._began >= self.rules.rotate_seconds:
            self._rotate()
        return self.writable

    def root(self) -> bool:
        """Sign a root over what was written since the last one. False where that could not be written."""
        mark = self._chain.mark()
        if not self._attempt(lambda: self._write(self._chain.root(self._clock()), 1), mark):
            return False
        self._rooted, self.last_root = self._monotonic(), self._clock()
        return True

    def close(self) -> bool:
        """Write what waits, close the chain with a signed root, let go. False where that could not be written."""
        done = self._write_all() and self.root() and self._put([records.body(records.CLOSE, self._clock(), {})])
        self.abandon()
        return done

    def abandon(self) -> None:
        """Let go of the file and the lock as they are, as a killed process does."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1

    # Chains and files

    def _open_chain(self) -> None:
        now = self._clock()
        self._chain = Chain(files.new_chain(now), self._key)
        beside = _ends(self._folder)
        (self._folder / self._chain.name).mkdir(mode=0o700)
        lock = files.lock(self._folder / self._chain.name / "lock", wait=True)  # others look whether it is held, and let go
        self._lock = -1 if lock is None else lock
        self._open_file()
        public = chains.public_bytes(self._key.public_key()).hex()
        opening = records.body(records.OPEN, now, {
            "format": chains.FORMAT, "chain": self._chain.name, "log": files.log_id(self._folder),
            "host": platform.node(), "pid": os.getpid(), "public_key": public, "beside": beside,
        })  # fmt: skip
        self._write(self._chain.add([opening]), 1)
        self._rooted = self._monotonic()
        self.last_error = ""

    def _open_file(self) -> None:
        path = files.path_of(self._folder, self._chain.name, self._chain.seq)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._path, self._size = descriptor, path, 0
        self._began = self._monotonic()
        files.sync_folder(path.parent)
        files.sync_folder(self._folder)

    def _rotate(self) -> None:
        if not self.root():
            return
        try:
            self._open_file()
        except OSError as error:
            self._fail(error)
            return
        public = chains.public_bytes(self._key.public_key()).hex()
        fields = {"format": chains.FORMAT, "chain": self._chain.name, "public_key": public}
        self.append([records.body(records.SEGMENT, self._clock(), fields)])

    def _still_there(self) -> bool:
        return self._descriptor >= 0 and os.fstat(self._descriptor).st_nlink > 0 and self._path.exists()

    def _reopen(self) -> None:
        """Begin another chain where the file of this one was taken away."""
        self.abandon()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open_chain()
        except OSError as error:
            self.abandon()  # the next tick tries again
            self._fail(error)

    # Lines

    def _put(self, bodies: Sequence[bytes]) -> bool:
        """Write records. Where that fails, the chain and the file are as they were."""
        mark = self._chain.mark()
        return self._attempt(lambda: self._write(self._chain.add(bodies), len(bodies)), mark)

    def _attempt(self, write: Callable[[], None], mark: Mark) -> bool:
        try:
            write()
        except OSError as error:
            self._chain.back_to(mark)
            self._fail(error)
            return False
        self.last_error = ""
        return True

    def _write_all(self) -> bool:
        if self._given_up and self._waiting_bytes < MAX_WAITING // 2:
            count, since, until = self._given_up
            fields = {"records": int(count), "since": since, "until": until}
            if not self._put([records.body(records.LOST, self._clock(), fields)]):
                return False
            self._given_up = []
        while self._waiting:
            batch = list(islice(self._waiting, BATCH))
            if not self._put(batch):
                return False
            for body in batch:
                self._waiting.popleft()
                self._waiting_bytes -= len(body)
        return self.writable

    def _write(self, data: bytes, count: int) -> None:
        """Append lines and wait for the disk to have them; after an error the file is as it was, or will be."""
        if self._descriptor < 0:
            raise OSError("there is no file to write to")
        try:
            if os.fstat(self._descriptor).st_size != self._size:
                os.ftruncate(self._descriptor, self._size)  # what an earlier attempt left and could not take back
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fdatasync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)
        self.written += count
        self.durable = (self._chain.seq - 1, self._chain.head)

    def _fail(self, error: OSError) -> None:
        why, before = _why(self._folder, error), self.last_error
        self.errors += 1
        self.last_error = why  # before it is said: who reads the log must find it so
        if why != before:
            _log.error("the audit log cannot be written: %s", why)

    def _give_up(self, count: int) -> None:
        now = self._clock()
        self.dropped += count
        before = self._given_up or [0, now, now]
        self._given_up = [before[0] + count, before[1], now]


def _ends(folder: Path) -> dict[str, list[Any]]:
    """How far the newest chains of a log have come: by chain the number and the hash of its last record."""
    ends: dict[str, list[Any]] = {}
    for name in files.chains(folder)[-MAX_BESIDE:]:
        for segment in reversed(files.segments(folder, name)):
            line = files.last_line(segment)
            if line is not None:
                with contextlib.suppress(ValueError, KeyError, TypeError):  # damaged: verification names it
                    ends[name] = [orjson.loads(line)["seq"], chains.split(line).hash.hex()]
                break
    return ends


def _why(folder: Path, error: OSError) -> str:
    return f"{folder}: {error.strerror or error}"
