"""The encoder beside the event loop: what the cheap stages leave open is read in threads, and awaited here.

For a caller with segments and an engine there is one call, all of whose work is done in threads::

    judged = await semantics.judge(engine, segments, tenant)          # all stages, within the settings' deadline
    judged = await semantics.judge(engine, segments, tenant, 0.05)    # or within one of the caller's own, in seconds

A caller who has screened already (`Engine.screen`), and found that there is something left to read, awaits
``close(screening, tenant)``. Both always return a verdict: what could not be read in time is `Skipped` with the reason
``late``, ``overload`` (the queue is full) or ``error``, and the policy says what that means.

Windows of all requests share a queue, and each trip to a thread takes several: one of every request that waits, then the
next of each, so that a long document does not hold up short prompts. Each window still runs by itself: an eight-bit model
takes its scales from what runs together, and a verdict must not depend on company. The same window asked for twice at once
is read once; one read lately is not read again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from detectors.cache import VerdictCache
from detectors.engine import Engine, Judged, Screening
from detectors.semantic.judge import Reading, SemanticModel
from detectors.stages import Asked
from detectors.values import Segment
from gateway.config.settings import Detection

TRIP: Final = 8
"""Windows of one trip to a thread: some 20 ms of work, against some 50 µs that the trip itself costs."""

MAX_THREADS: Final = 64
"""Threads that a configuration may ask for; they are started when they are first needed."""

READINGS_BYTES: Final = 4 * 2**20
"""Readings kept per worker, about 10,000: of texts that grow at their end, all windows but the last are the same again."""

_log = logging.getLogger(__name__)


class Read(NamedTuple):
    """A reading and the nanoseconds that the encoder took for it."""

    reading: Reading
    encoder_ns: int


class Answer(NamedTuple):
    """Readings of the windows asked for, None for what could not be had; ``reason`` says why, where one is None."""

    readings: list[Reading | None]
    reason: str
    spent: tuple[int, int]


class _Job:
    """A window that somebody waits for."""

    __slots__ = ("done", "key", "model", "text", "waiters")

    def __init__(self, key: tuple[object, str | bytes], model: SemanticModel, text: str) -> None:
        self.key, self.model, self.text = key, model, text
        self.done: asyncio.Future[Read | None] = asyncio.get_running_loop().create_future()
        self.waiters = 0


class Semantics:
    """The encoder's queue of one worker. ``settings`` is asked anew for each request, so a reload acts at once."""

    def __init__(self, settings: Callable[[], Detection]) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(MAX_THREADS, "encoder")
        self._screener = ThreadPoolExecutor(1, "screener")
        self._twin: tuple[Engine, Engine] | None = None  # the engine last judged by, and its twin for the screener
        self._known: VerdictCache[Read] = VerdictCache(READINGS_BYTES, secrets.token_bytes(32))
        self._jobs: dict[tuple[object, str | bytes], _Job] = {}
        self._turns: deque[deque[_Job]] = deque()
        self._running = 0
        self.queued = 0
        self.read = self.shared = self.refused = self.late = self.failed = 0

    async def judge(
        self, engine: Engine, segments: Sequence[Segment], scope: str, seconds: float | None = None, share: float = 1.0
    ) -> Judged:
        """Judge segments by all stages; ``scope`` as `Engine.judge`, ``seconds`` bounds the wait for the encoder, ``share`` how
        far its queue may be filled by this: the rest is left to others.

        The cheap stages run in a thread of their own, one text after the other, so that a caller who has other things to
        do meanwhile can do them.
        """
        screening = await asyncio.get_running_loop().run_in_executor(self._screener, self._screen, engine, segments, scope)
        return await self.close(screening, scope, seconds, share)

    async def close(self, screening: Screening, scope: str, seconds: float | None = None, share: float = 1.0) -> Judged:
        """Have what a screening left open read, and close it."""
        model = screening.model
        if model is None or not screening.asked:
            return screening.close()
        answer = await self.ask(model, screening.asked, scope, seconds, share)
        return screening.close(answer.readings, answer.reason, answer.spent)

    async def ask(
        self, model: SemanticModel, asked: Sequence[Asked], scope: str, seconds: float | None = None, share: float = 1.0
    ) -> Answer:
        """Have windows read."""
        settings = self._settings()
        jobs: list[_Job | Read] = []
        fresh: deque[_Job] = deque()
        for window in asked:
            key = self._known.key((scope, model.serial), window.text)
            found: _Job | Read | None = self._jobs.get(key) or self._known.get(key)
            if found is None:
                found = self._jobs[key] = _Job(key, model, window.text)
                fresh.append(found)
            else:
                self.shared += 1
            jobs.append(found)
        if fresh and self.queued + len(fresh) > settings.queue * share:
            for job in fresh:
                del self._jobs[job.key]
                job.done.cancel()
            self.refused += len(fresh)
            fresh_jobs = set(fresh)
            return _answer([None if job in fresh_jobs else job for job in jobs], "overload")
        waiting = {job for job in jobs if isinstance(job, _Job)}
        for job in waiting:
            job.waiters += 1
        if fresh:
            self.queued += len(fresh)
            self._turns.append(fresh)
            self._start()
        timeout = settings.deadline_seconds if seconds is None else seconds
        try:
            if waiting:
                await asyncio.wait([job.done for job in waiting], timeout=timeout)
        finally:
            for job in waiting:
                job.waiters -= 1
        failed = any(job.done.done() and job.done.result() is None for job in waiting)
        answer = _answer(list(jobs), "error" if failed else "late")
        self.late += 0 if failed else answer.readings.count(None)
        return answer

    async def stop(self) -> None:
        """Let what runs finish, and drop what waits."""
        self._turns.clear()
        await asyncio.to_thread(self._screener.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    def _screen(self, engine: Engine, segments: Sequence[Segment], scope: str) -> Screening:
        """In the screener: the cheap stages."""
        if self._twin is None or self._twin[0] is not engine:
            self._twin = engine, engine.twin()
        return self._twin[1].screen(segments, scope)

    def _start(self) -> None:
        """Send trips while there are threads for them."""
        while self._running < self._settings().threads and (trip := self._next_trip()):
            self._running += 1
            future = asyncio.get_running_loop().run_in_executor(self._pool, _read_all, trip)
            future.add_done_callback(lambda done, trip=trip: self._finish(trip, done))  # type: ignore[misc]

    def _next_trip(self) -> list[_Job]:
        """The next window of each request in turn; those that nobody waits for any more are dropped."""
        trip: list[_Job] = []
        while self._turns and len(trip) < TRIP:
            request = self._turns.popleft()
            job = request.popleft()
            if request:
                self._turns.append(request)
            self.queued -= 1
            if job.waiters:
                trip.append(job)
            else:
                del self._jobs[job.key]
                job.done.cancel()
        return trip

    def _finish(self, trip: list[_Job], done: asyncio.Future[list[Read | None]]) -> None:
        self._running -= 1
        results = [None] * len(trip) if done.cancelled() or done.exception() else done.result()
        for job, result in zip(trip, results, strict=True):
            del self._jobs[job.key]
            if result is None:
                self.failed += 1
            else:
                self.read += 1
                self._known.put(job.key, result)
            job.done.set_result(result)
        self._start()


def _answer(found: Sequence[_Job | Read | None], reason: str) -> Answer:
    reads = [
        one if not isinstance(one, _Job) else one.done.result() if one.done.done() and not one.done.cancelled() else None
        for one in found
    ]
    searched = sum(read.reading.search_ns for read in reads if read)
    encoded = sum(read.encoder_ns for read in reads if read)
    return Answer([read.reading if read else None for read in reads], reason, (encoded, searched))


def _read_all(trip: list[_Job]) -> list[Read | None]:
    """In a thread: one window after the other, each by itself."""
    return [_read(job.model, job.text) for job in trip]


def _read(model: SemanticModel, text: str) -> Read | None:
    began = time.perf_counter_ns()
    try:
        reading = model.read(text)
    except Exception:
        # The text stays out of the log. A window that breaks the encoder makes its own verdict incomplete, no other one.
        _log.error("the encoder failed", exc_info=False)
        return None
    return Read(reading, time.perf_counter_ns() - began - reading.search_ns)
