"""Judging a streamed reply by meaning beside its relay, one trip at a time.

The cheap stages say what they think of a trip there and then, in some 100 microseconds, and mostly that is all; what they leave
open is read off the event loop. A stream has the encoder read as much as one text of a message may: beyond that a trip is told
what is known already, and that the encoder has no more room for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from detectors.engine import Engine, Judged
from detectors.semantic.windows import WINDOW
from detectors.stages import STAGES
from detectors.values import Skipped, Verdict
from gateway.screening.inspection import OFFLOAD_BYTES
from gateway.screening.semantics import Semantics
from gateway.streams.following import MAX_BEHIND, Cut, Follower, Trip
from gateway.telemetry.metrics import Histogram

_BROKEN: Final = Verdict((), 0.0, (Skipped("fast", "error"),), 0)

_log = logging.getLogger(__name__)


class Beside:
    """Has what a follower heard judged. Close it when its stream is over.

    ``cut`` is what the stream is to be cut for; nothing that is not judged yet may go out any more then. ``wake`` makes whoever
    waits for the upstream look up.
    """

    def __init__(self, follower: Follower, semantics: Semantics, engine: Engine, tenant: str, lag: Histogram) -> None:
        """``lag``: where seconds from a trip's oldest word to its verdict are observed."""
        self._follower = follower
        self._semantics, self._engine, self._tenant = semantics, engine, tenant
        self.wake: Callable[[], None] = lambda: None
        self._lag = lag
        self._loop = asyncio.get_running_loop()
        self._left = engine.cascade.windows * WINDOW  # code points that the encoder may still be asked for
        self._oldest = 0.0  # when the oldest word came that no trip took yet
        self._trip: tuple[Trip, float, asyncio.Task[Judged]] | None = None
        self.cut: Cut | None = None
        self.stage_ns = [0] * len(STAGES)
        """What the trips cost, by stage."""

    @property
    def news(self) -> bool:
        """Whether a trip is back that `catch_up` did not take yet."""
        return self._trip is not None and self._trip[2].done()

    @property
    def idle(self) -> bool:
        """Whether something was heard that is less than a step, and nothing is being judged."""
        return self._trip is None and self._follower.behind > 0

    @property
    def full(self) -> bool:
        """Whether so much waits to be judged that no more is to be read of the upstream."""
        return self._trip is not None and self._follower.behind > MAX_BEHIND

    def heard(self) -> bool:
        """The follower heard something: send a trip where that is worth while. Whether more is judged now than before."""
        if self._follower.behind and not self._oldest:
            self._oldest = self._loop.time()
        return self._trip is None and self._follower.behind >= self._follower.step and self.send()

    def send(self, whole: bool = False) -> bool:
        """Have judged what was not yet; ``whole``: no more will come. Whether more is judged now than before."""
        trip = self._follower.trip(whole)
        since, self._oldest = self._oldest, 0.0
        share = 1.0 if self._left > 0 else 0.0  # of the encoder's queue
        if sum(len(segment.text) for segment in trip.segments) > OFFLOAD_BYTES:
            judging = self._semantics.judge(self._engine, trip.segments, self._tenant, share=share)
        else:
            try:
                screening = self._engine.screen(trip.segments, self._tenant)
                if not screening.asked:
                    self._settle(trip, since, screening.close())
                    return True
            except Exception:
                # The text stays out of the log.
                _log.error("judging a stream failed", exc_info=False)
                self._settle(trip, since, None)
                return True
            judging = self._semantics.close(screening, self._tenant, share=share)
        task = self._loop.create_task(judging)
        task.add_done_callback(lambda _: self.wake())
        self._trip = trip, since, task
        return False

    async def catch_up(self, progress: Callable[[], Awaitable[None]]) -> None:
        """Take what was judged, and wait for more while too much was not; until `cut` is set. ``progress`` is awaited whenever
        more was judged."""
        while True:
            if self._back():
                await progress()
            if self.cut is not None or self._trip is None or not self.full:
                return
            await asyncio.wait([self._trip[2]])

    async def finish(self) -> None:
        """The upstream's stream is over: have the rest judged, unless `cut` is set."""
        while self.cut is None and self._follower.behind:
            if self._trip is None and self.send(whole=True):
                continue
            assert self._trip is not None
            await asyncio.wait([self._trip[2]])
            self._back()

    def close(self) -> None:
        if self._trip is not None:
            self._trip[2].cancel()

    def _back(self) -> bool:
        """Take the verdict of a trip that is back."""
        if self._trip is None or not self._trip[2].done():
            return False
        trip, since, task = self._trip
        self._trip = None
        self._settle(trip, since, None if task.exception() else task.result())
        if self.cut is None:
            self.heard()
        return True

    def _settle(self, trip: Trip, since: float, judged: Judged | None) -> None:
        self._lag.observe((), self._loop.time() - since)
        verdict = _BROKEN
        if judged is not None:
            verdict = judged.verdict
            if any("encoder" in stages for stages in judged.stages):
                self._left -= trip.until - self._follower.judged
            self._follower.gather(trip, judged)
            self.stage_ns = [a + b for a, b in zip(self.stage_ns, judged.stage_ns, strict=True)]
        self.cut = self._follower.settle(trip, verdict)
