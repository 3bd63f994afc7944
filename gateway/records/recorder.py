"""Writes decisions to the state behind the requests' backs: queued at once, stored in batches, never lost
silently.

While the store is gone or full, records are kept up to a bound, then the oldest are dropped and counted. What
that means for requests (serve on, or refuse what cannot be recorded) is the caller's policy: it looks at
`Recorder.healthy`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final, NamedTuple

from gateway.records.decision_records import settle
from gateway.records.decisions import AnyDecision, KeptTexts, Record
from gateway.state.base import State, StateUnavailable

FLUSH_SECONDS: Final = 0.25
"""The longest that a record waits for its batch: what a killed worker loses, and how late the console sees
it."""

BATCH: Final = 512
"""Records in one transaction: enough to share its cost, few enough to hold up another writer for some
milliseconds only."""

MAX_FRESH: Final = 2 * BATCH
"""Decisions that wait as the hot path made them, with their texts in memory; a store that keeps up lets no
more wait."""

LARGE: Final = 64 * 2**10
"""Bytes of request or reply from which a decision does not wait with its texts: a thousand of them would be
64 MiB."""

MAX_WAITING: Final = 200_000
"""The weight (see `_weight`) of the records that wait without texts. An ordinary one weighs 10 and takes
about a kilobyte, so this is 25 megabytes and 20,000 records: some seconds of a worker at its utmost, an hour
at 5 a second."""

MAX_TEXTS: Final = 16 * 2**20
"""Code points of kept texts that wait."""

RETRY_SECONDS: Final = 0.5
"""The pause after a failed write; it doubles with each further one up to `MAX_RETRY_SECONDS`."""

MAX_RETRY_SECONDS: Final = 8.0

_log = logging.getLogger(__name__)


class RecorderStats(NamedTuple):
    """What became of records since the start. ``queued`` wait now; ``last_error`` is empty where none ever
    was."""

    queued: int
    written: int
    dropped: int
    texts_dropped: int
    write_errors: int
    last_error: str


class Recorder:
    """Takes decisions on the event loop and stores them from a task of its own. Begin with `start`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._fresh: deque[AnyDecision] = deque()
        self._waiting: deque[Record] = deque()  # older than all that is fresh, large ones aside
        self._weight = 0  # of what waits
        self._texts: deque[KeptTexts] = deque()
        self._texts_size = 0
        self._written = self._dropped = self._texts_dropped = self._write_errors = 0
        self._last_error = ""
        self._failures = 0  # since the last success
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write. Needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name="recorder")

    def add(self, decision: AnyDecision, kept: KeptTexts | None = None) -> None:
        """Queue a decision, and the texts to be kept with it. Not after `close`."""
        if decision.bytes_in >= LARGE or decision.bytes_out >= LARGE:
            self._wait([settle(decision)])
        else:
            self._fresh.append(decision)
        if kept is not None:
            self._texts.append(kept)
            self._texts_size += _size(kept)
            self._shed()
        fresh = len(self._fresh)
        if fresh >= BATCH:
            self._wake.set()
            if fresh > MAX_FRESH:
                self._wait([settle(self._fresh.popleft())])

    @property
    def healthy(self) -> bool:
        """False while records cannot be written, or come faster than they can be."""
        running = self._task is not None and not self._task.done()
        return running and self._failures == 0 and self._weight < MAX_WAITING // 2

    @property
    def stats(self) -> RecorderStats:
        return RecorderStats(
            queued=len(self._waiting) + len(self._fresh),
            written=self._written,
            dropped=self._dropped,
            texts_dropped=self._texts_dropped,
            write_errors=self._write_errors,
            last_error=self._last_error,
        )

    async def flush(self) -> bool:
        """Store what is queued now. False where the store could not; it stays queued."""
        async with self._writing:
            left = len(self._waiting) + len(self._fresh)
            while left > 0 or self._texts:
                batch = self._take()
                texts, self._texts = list(self._texts), deque()
                left -= len(batch)
                if not await self._write(batch, texts):
                    return False
            return True

    def _take(self) -> list[AnyDecision]:
        waiting = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        self._weight -= sum(map(_weight, waiting))
        fresh = [self._fresh.popleft() for _ in range(min(BATCH - len(waiting), len(self._fresh)))]
        return [*waiting, *fresh]

    async def close(self, seconds: float) -> None:
        """Store what is queued and end; what cannot be stored within ``seconds`` is dropped and counted."""
        self._closing.set()
        self._wake.set()
        try:
            async with asyncio.timeout(seconds):
                while not await self.flush():  # noqa: ASYNC110 - a store tells nobody that it is back
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            pass
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        lost = len(self._waiting) + len(self._fresh)
        if lost or self._texts:
            _log.error("%d decisions were not stored: %s", lost, self._last_error or "too slow")
            self._drop(lost, list(self._texts))
            self._waiting.clear()
            self._fresh.clear()
            self._texts.clear()

    async def _run(self) -> None:
        while not self._closing.is_set():
            await self._pause()
            await self.flush()

    async def _pause(self) -> None:
        event, seconds = self._wake, FLUSH_SECONDS
        if self._failures:
            event, seconds = self._closing, min(RETRY_SECONDS * 2 ** (self._failures - 1), MAX_RETRY_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _write(self, batch: list[AnyDecision], texts: list[KeptTexts]) -> bool:
        try:
            await self._state.append(batch, texts)
        except StateUnavailable as error:
            self._failed(str(error))
            self._put_back(batch, texts)
            return False
        except asyncio.CancelledError:
            self._put_back(batch, texts)  # perhaps stored already: then storing it again changes nothing
            raise
        except Exception as error:
            # A fault of ours in one record: it would come again with every attempt and hold up all that
            # follow.
            _log.exception("a batch of decisions cannot be stored")
            self._failed(f"{type(error).__name__} in a batch of {len(batch)}")
            self._drop(len(batch), texts)
        else:
            self._written += len(batch)
            self._texts_size -= sum(map(_size, texts))
        self._failures = 0
        return True

    def _failed(self, why: str) -> None:
        if self._last_error != why:
            _log.error("decisions cannot be stored: %s", why)
        self._write_errors += 1
        self._failures += 1
        self._last_error = why

    def _put_back(self, batch: list[AnyDecision], texts: list[KeptTexts]) -> None:
        self._texts.extendleft(reversed(texts))
        self._wait([settle(decision) for decision in batch], first=True)

    def _wait(self, records: list[Record], first: bool = False) -> None:
        self._weight += sum(map(_weight, records))
        if first:
            self._waiting.extendleft(reversed(records))
        else:
            self._waiting.extend(records)
        self._shed()

    def _shed(self) -> None:
        """Drop the oldest of what waits until the rest is within the bounds."""
        while self._weight > MAX_WAITING and self._waiting:
            self._weight -= _weight(self._waiting.popleft())
            self._drop(1, [])
        while self._texts_size > MAX_TEXTS and self._texts:
            self._drop(0, [self._texts.popleft()])

    def _drop(self, decisions: int, texts: list[KeptTexts]) -> None:
        self._dropped += decisions
        self._texts_dropped += len(texts)
        self._texts_size -= sum(map(_size, texts))


def _weight(record: Record) -> int:
    sides = (record.request,) if record.reply is None else (record.request, record.reply)
    return _BASE_WEIGHT + sum([len(side.parts) + len(side.gaps) + len(side.findings) for side in sides])


_BASE_WEIGHT: Final = 8  # a record without any part takes as much memory as eight parts


def _size(kept: KeptTexts) -> int:
    return sum([len(each.text) for each in kept.texts])
