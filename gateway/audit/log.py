"""The audit log of one worker: takes decisions behind the requests' backs and events before they are answered.

A decision is encoded as it comes, while what it is made of is at hand and before its texts can linger. One thread does the
rest: it hashes, signs and writes. Decisions are written in batches and are on the disk within about `FLUSH_SECONDS`; an event
is on the disk when `event` returns.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from gateway.audit import files, records
from gateway.audit.export import Exporter
from gateway.audit.keys import private_key
from gateway.audit.retention import Keep, tidy
from gateway.audit.senders import open_sender
from gateway.audit.settings import AuditExport, AuditSettings
from gateway.audit.writer import AuditUnavailable, Rules, Writer
from gateway.config.settings import Settings
from gateway.records.decisions import AnyDecision

if TYPE_CHECKING:  # all of detection, which who makes a key does not need
    from gateway.live import Live

FLUSH_SECONDS: Final = 0.25
"""The longest that a decision waits for its batch: what a killed worker loses."""

BATCH: Final = 512
"""Decisions that make a batch before its time."""

MAX_QUEUED: Final = 65_536
"""Decisions that wait while the thread hangs in a write, some 32 MiB. What comes then is given up, counted, and named in the
log once it goes on."""

TICK_SECONDS: Final = 1.0

TIDY_SECONDS: Final = 60.0
"""How often files are looked at for compression and retention."""

EXPORT_SECONDS: Final = 3.0
"""How long exports may take to send the rest when the process ends; what is left is sent by the next one."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class AuditStats(NamedTuple):
    """What became of records since the start; ``last_root`` in UNIX seconds, 0 before the first."""

    chain: str
    records: int
    errors: int
    waiting: int
    dropped: int
    last_root: float
    last_error: str
    durable: tuple[int, str]


class AuditLog:
    """Begin with `start`; `add` and `event` may be called from then on, until `close`."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.audit_directory
        self._settings = settings.audit
        self.exporters: list[Exporter] = []
        self._writer: Writer | None = None
        self._queued: list[bytes] = []
        self._given_up: list[float] = []  # [how many, since, until], empty where none
        self._dropped = 0
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="portcullis-audit")
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def start(self) -> None:
        """
        Raises:
            AuditUnavailable: the folder cannot be written, or the certificates of an export cannot be read.
            BadKey: the key kept beside the log is damaged.
        """
        if not self._settings.enabled:
            return
        self._writer = await self._call(self._open)
        for exporter in self.exporters:
            exporter.start()
        self._tasks = [
            asyncio.create_task(self._run(), name="audit"),
            asyncio.create_task(self._tidy(), name="audit tidy"),
        ]

    def add(self, decision: AnyDecision) -> None:
        """Queue a decision."""
        if self._writer is None:
            return
        queued = self._queued
        if len(queued) >= MAX_QUEUED:
            self._dropped += 1
            before = self._given_up or [0, decision.time, 0]
            self._given_up = [before[0] + 1, before[1], decision.time]
            return
        queued.append(_body(decision))
        if len(queued) == BATCH:
            self._wake.set()

    async def event(self, kind: str, fields: dict[str, Any]) -> None:
        """Write down something that people did.

        Raises:
            AuditUnavailable: it is not on the disk; it is kept, and written when that is possible again.
        """
        writer = self._writer
        if writer is None:
            return
        if not await self._call(lambda: writer.record(kind, fields)):
            raise AuditUnavailable(writer.last_error)

    async def _removed(self, fields: dict[str, Any]) -> None:
        """Write down what retention is about to remove, under a signed root: whoever verifies believes nothing less.

        Raises:
            AuditUnavailable: it is not on the disk, or no root covers it.
        """
        writer = self._writer
        if writer is None:
            return
        if not await self._call(lambda: writer.record(records.REMOVED, fields) and writer.root()):
            raise AuditUnavailable(writer.last_error)

    @property
    def writable(self) -> bool:
        """False while records cannot be written, or the disk takes them so slowly that no more can wait."""
        return self._writer is None or (self._writer.writable and len(self._queued) < MAX_QUEUED)

    @property
    def stats(self) -> AuditStats:
        writer = self._writer
        if writer is None:
            return AuditStats("", 0, 0, 0, 0, 0.0, "", (-1, ""))
        waiting, dropped = writer.waiting + len(self._queued), writer.dropped + self._dropped
        seq, head = writer.durable
        return AuditStats(
            writer.name, writer.written, writer.errors, waiting, dropped, writer.last_root, writer.last_error, (seq, head.hex())
        )

    async def flush(self) -> bool:
        """Write what is queued now. False where it is not all on the disk."""
        writer = self._writer
        if writer is None:
            return True
        queued, self._queued = self._queued, []
        if self._given_up:
            count, since, until = self._given_up
            self._given_up = []
            queued.append(records.body(records.LOST, until, {"records": int(count), "since": since, "until": until}))
        return await self._call(lambda: writer.append(queued))

    async def close(self) -> None:
        """Write what is queued, close the chain, end."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is not None:
            await self.flush()
            if not await self._call(self._writer.close):
                _log.error("the audit log was not closed: %s", self._writer.last_error)
            await asyncio.gather(*[asyncio.to_thread(one.stop, EXPORT_SECONDS) for one in self.exporters])
        self._thread.shutdown(wait=False)

    def _open(self) -> Writer:
        try:
            self.exporters = [self._exporter(one) for one in self._settings.exports]
        except OSError as error:
            raise AuditUnavailable(f"audit.exports: ca_file: {error.strerror or error}") from None
        return _writer(self.folder, self._settings)

    def _exporter(self, wanted: AuditExport) -> Exporter:
        def own() -> tuple[str, int, int]:
            stats = self.stats
            return stats.chain, stats.durable[0], stats.errors

        secret = wanted.secret.get_secret_value().encode() if wanted.secret else None
        sender = open_sender(wanted.to, wanted.format, wanted.ca_file, secret)
        return Exporter(wanted.name, self.folder, wanted.format, sender, own)

    async def _run(self) -> None:
        ticked = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self._queued:
                await self.flush()
            if time.monotonic() - ticked >= TICK_SECONDS and self._writer is not None:
                ticked = time.monotonic()
                await self._call(self._writer.tick)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            await self.tidy()

    async def tidy(self) -> None:
        """Compress files that are complete, remove those that retention lets go; who removes writes it down first."""
        loop = asyncio.get_running_loop()
        wanted = self._settings
        keep = Keep(wanted.keep_seconds, wanted.keep_bytes, wanted.compress)

        def write_down(fields: dict[str, Any]) -> None:
            asyncio.run_coroutine_threadsafe(self._removed(fields), loop).result()

        try:
            await asyncio.to_thread(tidy, self.folder, keep, time.time(), write_down)
        except (OSError, AuditUnavailable) as error:
            _log.warning("the audit log was not tidied: %s", error)

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def write_down(settings: Settings, kind: str, fields: dict[str, Any]) -> None:
    """Write one record from outside of a gateway, in a chain of its own: for commands that change what a gateway goes by.

    Raises:
        AuditUnavailable: it cannot be written. BadKey: the key kept beside the log is damaged.
    """
    if settings.audit.enabled:
        writer = _writer(settings.audit_directory, settings.audit)
        if not (writer.record(kind, fields) and writer.close()):
            raise AuditUnavailable(writer.last_error)


def _writer(folder: Path, wanted: AuditSettings) -> Writer:
    given = wanted.signing_key
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = files.own_key(folder) if given is None else private_key(given.get_secret_value().encode(), "signing_key")
    except OSError as error:
        raise AuditUnavailable(f"audit: {folder}: {error.strerror or error}") from None
    return Writer(folder, key, Rules(wanted.root_seconds, wanted.rotate_bytes, wanted.rotate_seconds))


def configuration(live: Live, result: str) -> dict[str, Any]:
    """What an audit record says of a configuration: which patterns and policies act, and what all settings are, as a digest."""
    generation = live.engine.generation
    settings = live.settings.model_dump_json()  # secrets are shown as asterisks
    return {
        "result": result, "generation": generation.number, "digest": generation.digest, "patterns": len(generation.patterns),
        "policy": f"{live.default.policy.name} {live.default.policy.version}",
        "tenants": {name: f"{one.policy.name} {one.policy.version}" for name, one in live.tenants.items()},
        "settings": hashlib.sha256(settings.encode()).hexdigest(),
    }  # fmt: skip


def _body(decision: AnyDecision) -> bytes:
    try:
        return records.decision_body(decision)
    except Exception:
        # A fault of ours in a record must not take its request with it, and is written down in its place.
        _log.exception("a decision cannot be written to the audit log")
        fields = {"id": decision.id, "records": 1, "since": decision.time, "until": decision.time}
        return records.body(records.LOST, decision.time, fields)
