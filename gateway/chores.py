"""What a worker does over and over beside serving: look for what changed, write what is queued, remove what is old, learn."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from detectors.aside import yielded
from gateway.audit import witness
from gateway.console.traffic import SAMPLE_SECONDS
from gateway.learning.service import PASS_SECONDS
from gateway.state.base import StateUnavailable
from gateway.sync import status as sync_status
from gateway.telemetry.metrics import FLUSH_SECONDS
from patterns import cache as caching
from patterns.store import StoreError

if TYPE_CHECKING:
    from gateway.services import Services

KEYS_SECONDS: Final = 1.0
"""How often a worker looks whether keys changed: a revoked key stops working within about this time."""

FILE_SECONDS: Final = 2.0
"""How often a worker looks whether its configuration file changed."""

LOG_SECONDS: Final = 0.25
"""How late a request's log line is at most."""

WITNESS_SECONDS: Final = 10.0
"""How often the state is told how far the audit log has come: what can be cut off its end without the state knowing."""

FEEDS_SECONDS: Final = 5.0
"""How often a worker looks whether a feed is due."""

WORDING_SECONDS: Final = 2.0
"""How often a worker looks whether a reflection waits to be worded."""

STORE_SECONDS: Final = 0.5
"""How often a worker looks whether the pattern store changed."""

EXPIRE_SECONDS: Final = 60.0
"""How often old decisions are removed."""

TIDY_SECONDS: Final = 1800.0
"""How often files that nobody uses leave the cache, and those that serve are told from them."""

SYNC_REPORT_SECONDS: Final = 1.0
"""How often the worker that runs pattern sync leaves its state for the others and for `portcullis sync status`."""

PREPARE_SECONDS: Final = 5.0
"""How long after its start, or after a new key names another preset, a worker makes ready what streams need: what comes before
that makes what it needs itself."""

AGAIN_SECONDS: Final = 60.0
"""How often it is told that work still fails, after the first time."""

_EXPECTED: Final = (StateUnavailable, StoreError, OSError)
"""Faults of what work is done with, told in a line; of any other, where it happened is told as well."""

_log = logging.getLogger(__name__)


class Chores:
    """The periodic work of one worker."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Begin; each kind of work is done for the first time when its interval has passed."""
        for seconds, work, what in (
            (KEYS_SECONDS, self._refresh_keys, "asking the state"),
            (FLUSH_SECONDS, self._flush_metrics, "sharing metrics with the other workers"),
            (LOG_SECONDS, self._flush_log, "writing the request log"),
            (FILE_SECONDS, self._look_at_file, "looking at the configuration file"),
            (EXPIRE_SECONDS, self._expire, "removing old decisions"),
            (TIDY_SECONDS, self._tidy, "tidying the cache"),
            (WITNESS_SECONDS, self._testify, "telling the state how far the audit log has come"),
            (STORE_SECONDS, self._look_at_store, "reading the pattern store"),
            (PASS_SECONDS, self._report, "telling the learning loop what was counted"),
            (PASS_SECONDS, self._learn, "the learning loop"),
            (SAMPLE_SECONDS, self._sample, "sampling the traffic"),
            (FEEDS_SECONDS, self._pull_feeds, "pulling feeds"),
            (WORDING_SECONDS, self._word, "wording reflections"),
            (SYNC_REPORT_SECONDS, self._report_sync, "writing the state of pattern sync"),
            (PREPARE_SECONDS, self._services.prepare_streams, "preparing streams"),
        ):
            self._tasks.append(asyncio.create_task(self.every(seconds, work, what), name=work.__name__))

    async def every(self, seconds: float, work: Callable[[], Awaitable[None]], what: str) -> None:
        """Do ``work`` again and again, until `stop`. That it fails is told at the first time, at times while it goes on, and
        when it is over; ``what`` names it then."""
        # To cancel a task does not always end it: until Python 3.12 asyncio.wait_for, by which the client of Redis sends,
        # keeps a cancellation to itself that comes in the moment in which what it waits for is done.
        times, told_at = 0, float("-inf")
        while not self._stopping:
            await asyncio.sleep(seconds)
            try:
                await work()
            except Exception as error:  # or nobody would do it any more, nor know
                times += 1
                if (now := time.monotonic()) - told_at >= AGAIN_SECONDS:
                    told_at = now
                    trace = None if isinstance(error, _EXPECTED) else error
                    _log.error("%s fails (%d in a row, every %g s): %s", what, times, seconds, error, exc_info=trace)
            else:
                if times:
                    _log.info("%s works again; it had failed %d in a row", what, times)
                times, told_at = 0, float("-inf")

    async def stop(self) -> None:
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _refresh_keys(self) -> None:
        try:
            await self._services.keys.refresh()
            await self._services.state.ping()
        except StateUnavailable as error:
            self._services.state_error = str(error)
            raise
        self._services.state_error = ""

    async def _flush_metrics(self) -> None:
        self._services.exposition.flush()

    async def _testify(self) -> None:
        await witness.testify(self._services.state, self._services.audit)

    async def _sample(self) -> None:
        self._services.traffic.sample(time.time())

    async def _flush_log(self) -> None:
        self._services.request_log.flush()

    async def _look_at_file(self) -> None:
        if self._services.file_changed:
            await self._services.reload()

    async def _look_at_store(self) -> None:
        store = self._services.store
        if await asyncio.to_thread(lambda: store.behind):  # or every look would have the collector look, too
            await asyncio.to_thread(yielded, store.poll)
        if store.generation != self._services.served:
            await self._services.renew()

    async def _pull_feeds(self) -> None:
        if self._services.learning.leads:
            await self._services.feeds.run()

    async def _word(self) -> None:
        if self._services.learning.leads:
            await self._services.wording.run()

    async def _report(self) -> None:
        await self._services.learning.report(time.time())

    async def _learn(self) -> None:
        await self._services.learning.run(time.time())

    async def _expire(self) -> None:
        retention = self._services.live.settings.retention
        now = time.time()
        await self._services.state.expire(now, now - retention.decision_seconds, retention.decisions)

    async def _tidy(self) -> None:
        live = self._services.live
        done = await asyncio.to_thread(caching.tidy, live.settings.data_dir / "cache", live.cached, time.time())
        if done.removed:
            _log.info(
                "%d files (%.1f MB) that nothing uses any more left the cache; %d (%.1f MB) stay",
                done.removed, done.removed_bytes / 1e6, done.left, done.left_bytes / 1e6,
            )  # fmt: skip

    async def _report_sync(self) -> None:
        if self._services.sync is not None and self._services.sync.runs:
            sync_status.write(self._services.sync, time.time())
