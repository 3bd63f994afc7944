"""Judging a streamed reply by meaning beside its relay: one trip at a time, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from detectors.engine import Engine, Judged
from detectors.stages import STAGES
from detectors.values import Skipped, Verdict
from gateway.following import MAX_BEHIND, Cut, Follower, Trip
from gateway.metrics import Histogram
from gateway.semantics import Semantics

PAUSE: Final = 0.05
"""Seconds of an upstream's silence after which what it said is judged although it is less than a step."""


_BROKEN: Final = Verdict((), 0.0, (Skipped("fast", "error"),), 0)


class Awaited(Protocol):
    """What a stream's pieces come from."""

    async def ready(self, seconds: float, unless: Callable[[], bool] = ...) -> bool:
        """As `gateway.upstream.connection.Reply.ready`."""


class Beside:
    """Has what a follower heard judged. Close it when its stream is over.

    ``cut`` is what the stream is to be cut for; nothing that is not judged yet may go out any more then.
    """

    def __init__(
        self, follower: Follower, semantics: Semantics, engine: Engine, tenant: str, wake: Callable[[], None], lag: Histogram
    ) -> None:
        """
        Args:
            wake: makes whoever waits for the upstream look up.
            lag: where seconds from a trip's oldest word to its verdict are observed.
        """
        self._follower = follower
        self._semantics, self._engine, self._tenant = semantics, engine, tenant
        self._wake = wake
        self._lag = lag
        self._loop = asyncio.get_running_loop()
        self._oldest = 0.0  # when the oldest word came that no trip took yet
        self._trip: tuple[Trip, float, asyncio.Task[Judged]] | None = None
        self.cut: Cut | None = None
        self.stage_ns = [0] * len(STAGES)
        """What the trips cost, by stage."""

    def heard(self) -> None:
        """The follower heard something: send a trip where that is worth while."""
        if self._follower.behind and not self._oldest:
            self._oldest = self._loop.time()
        if self._trip is None and self._follower.behind >= self._follower.step:
            self._send()

    async def next(self, reply: Awaited, seconds: float, progress: Callable[[], Awaitable[None]]) -> bool:
        """Wait for the upstream's next piece, its end or an error; false after so many seconds, or once `cut` is set.

        ``progress`` is awaited whenever more was judged.
        """
        until = self._loop.time() + seconds
        while True:
            await self.catch_up(progress)
            if self.cut is not None:
                return False
            pausing = self._trip is None and self._follower.behind > 0
            left = until - self._loop.time()
            if await reply.ready(min(PAUSE, left) if pausing else left, self._has_news):
                return True
            if self._has_news():
                continue
            if pausing:
                self._send()
            elif self._loop.time() >= until:
                return False

    async def catch_up(self, progress: Callable[[], Awaitable[None]]) -> None:
        """Take what was judged, and wait for more while too much was not; until `cut` is set. ``progress`` as in `next`."""
        while True:
            if self._back():
                await progress()
            if self.cut is not None or self._trip is None or self._follower.behind <= MAX_BEHIND:
                return
            await asyncio.wait([self._trip[2]])

    async def finish(self) -> None:
        """The upstream's stream is over: have the rest judged, unless `cut` is set."""
        while self.cut is None and self._follower.behind:
            if self._trip is None:
                self._send(whole=True)
            assert self._trip is not None
            await asyncio.wait([self._trip[2]])
            self._back()

    def close(self) -> None:
        if self._trip is not None:
            self._trip[2].cancel()

    def _has_news(self) -> bool:
        return self._trip is not None and self._trip[2].done()

    def _send(self, whole: bool = False) -> None:
        trip = self._follower.trip(whole)
        task = self._loop.create_task(self._semantics.judge(self._engine, trip.segments, self._tenant))
        task.add_done_callback(lambda _: self._wake())
        self._trip = trip, self._oldest, task
        self._oldest = 0.0

    def _back(self) -> bool:
        """Take the verdict of a trip that is back."""
        if self._trip is None or not self._trip[2].done():
            return False
        trip, since, task = self._trip
        self._trip = None
        self._lag.observe((), self._loop.time() - since)
        verdict = _BROKEN
        if not task.exception():
            verdict = task.result().verdict
            self._follower.gather(trip, task.result())
            self.stage_ns = [a + b for a, b in zip(self.stage_ns, task.result().stage_ns, strict=True)]
        self.cut = self._follower.settle(trip, verdict)
        self.heard()
        return True
