"""The shell around the ledger: looks at the series every few seconds and hands notices to the receivers."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import time
from collections import Counter, deque
from pathlib import Path
from typing import Final, TextIO

from gateway.notify.conditions import History, conditions, read
from gateway.notify.ledger import Ledger, Notice
from gateway.notify.receivers import Receiver, Undelivered, receivers
from gateway.telemetry.metrics import Exposition, Metrics
from gateway.telemetry.reporting import NotifySettings

LOOK_SECONDS: Final = 5.0
"""How often the series are looked at."""

MAX_WAITING: Final = 200
"""Notices that wait for one receiver; the oldest are dropped first, and counted."""

RETRY_SECONDS: Final = (1.0, 5.0, 15.0, 60.0, 300.0)
"""Pauses after failed deliveries, the last one again and again until `GIVE_UP_SECONDS`."""

GIVE_UP_SECONDS: Final = 3_600.0
"""How old a notice may become before it is no news."""

_log = logging.getLogger(__name__)


class Notifier:
    """Notifies while it runs. Of several workers the one that holds the lock does it, for all of them."""

    def __init__(self, settings: NotifySettings, exposition: Exposition, metrics: Metrics, folder: Path) -> None:
        self._exposition = exposition
        self._source = settings.source or os.environ.get("POD_NAME") or socket.gethostname()
        self._ledger = Ledger(self._source, settings.repeat_seconds, settings.per_minute)
        self._history = History()
        self._folder = folder
        self._lock: TextIO | None = None
        self._posts = [Post(receiver, self._source) for receiver in receivers(settings)]
        self._tasks: list[asyncio.Task[None]] = []
        metrics.count(
            "portcullis_notifications", "Notices, by receiver and what became of them.", ("receiver", "result"), self._counts
        )

    def start(self) -> None:
        """Begin to look. Needs a running event loop."""
        self._tasks = [asyncio.create_task(self._look(), name="notify")]
        self._tasks += [asyncio.create_task(post.run(), name=f"notify-{post.receiver.name}") for post in self._posts]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lock is not None:
            self._lock.close()

    async def _look(self) -> None:
        while True:
            if self._mine():
                now = time.time()
                self._history.add(read(self._exposition.series(), now))
                for notice in self._ledger.step(now, conditions(self._history)):
                    for post in self._posts:
                        post.add(notice)
            await asyncio.sleep(LOOK_SECONDS)

    def _mine(self) -> bool:
        """Whether this worker notifies; the lock goes to another one when its process ends."""
        if self._lock is not None:
            return True
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / "notify.lock").open("w")
        except OSError as error:
            _log.error("notifications: %s: %s", self._folder, error.strerror)
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._lock = file
        return True

    def _counts(self) -> dict[tuple[str, ...], float]:
        counts: dict[tuple[str, ...], float] = {}
        for post in self._posts:
            for result in ("sent", "failed", "dropped"):
                counts[post.receiver.name, result] = post.results[result]
        return counts


class Post:
    """Delivers notices to one receiver, in order, one at a time."""

    def __init__(self, receiver: Receiver, source: str) -> None:
        self.receiver = receiver
        self.results: Counter[str] = Counter()
        self._source = source
        self._waiting: deque[tuple[float, Notice]] = deque()
        self._wake = asyncio.Event()

    def add(self, notice: Notice) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.results["dropped"] += 1
        self._waiting.append((time.monotonic(), notice))
        self._wake.set()

    async def run(self) -> None:
        while True:
            while self._waiting:
                await self._deliver(*self._waiting.popleft())
            self._wake.clear()
            await self._wake.wait()

    async def _deliver(self, at: float, notice: Notice) -> None:
        failures = 0
        while True:
            try:
                await asyncio.to_thread(self.receiver.send, notice, self._source, time.time())
            except Exception as reason:
                # Whatever it was, the notices behind this one are still to be told.
                error = reason if isinstance(reason, Undelivered) else Undelivered(type(reason).__name__, final=True)
                self.results["failed"] += 1
                if failures == 0:
                    _log.error("a notice could not be delivered to %s: %s", self.receiver.name, error)
                if error.final or time.monotonic() - at > GIVE_UP_SECONDS:
                    self.results["dropped"] += 1
                    return
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
            else:
                self.results["sent"] += 1
                return
