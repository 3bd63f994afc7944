"""A store over a network that may be gone for a while: what must not be lost waits on disk, and callers do not wait with it.

A circuit breaker answers at once while the store is down, instead of letting each caller find out by a time-out. Decisions go
to a queue on disk (`spool`) and are stored when it is back, in the order in which they came; storing one twice changes nothing.
Values that were read are remembered, within a bound, and served while it is down. What cannot be served truthfully from
memory (a change of keys, a page of decisions) is refused as unavailable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from gateway.keys import StoredKey
from gateway.records.decisions import AnyDecision, KeptTexts, Record
from gateway.state.base import ANY, Backlog, Change, Event, Filter, Page, Settled, State, StateUnavailable, Versioned
from gateway.state.spool import Spool, SpoolFull
from gateway.telemetry.metrics import Metrics
from gateway.upstream.breaker import Breaker, BreakerPolicy

POLICY: Final = BreakerPolicy(streak=3, rest=0.5, longest_rest=8.0)
"""Three failures in a row are no accident; a store is back within seconds of its restart, so trials come often."""

MAX_REMEMBERED: Final = 1_024
"""Values served from memory while the store is gone: settings of the gateway, not of its callers."""

RETURN_BATCH: Final = 256
"""Records stored at a time when the store is back, so that fresh ones are not held up for long."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class ResilientState(State):
    """See the module. ``gone_since`` is when the store stopped answering (UNIX seconds), None while it answers."""

    def __init__(self, inner: State, folder: Path) -> None:
        self.inner = inner
        self.what = inner.what
        self.spool = Spool(folder)
        self.gone_since: float | None = None
        self.full = ""  # why the queue on disk took nothing the last time
        self.spooled = self.returned = self.served = 0  # records to disk, and back; values from memory
        self.refused = 0  # calls that the breaker answered
        self.breaker = Breaker(POLICY)
        self._remembered: OrderedDict[str, Versioned | None] = OrderedDict()
        self._returning = asyncio.Lock()

    @property
    def health(self) -> str:
        """In words, for /readyz: ``answers``, or for how long it has been gone and what waits."""
        size = self.spool.size
        waits = f"{size} bytes of decisions"
        if self.gone_since is None:
            return "answers" if not size else f"answers; {waits} return from disk"
        gone = f"gone for {time.time() - self.gone_since:.0f} s; {waits} wait on disk"
        return f"{gone}; {self.full}, so further ones wait in memory and the oldest are dropped" if self.full else gone

    def register(self, metrics: Metrics) -> None:
        """Count what is done without the store."""
        metrics.gauge("portcullis_state_spool_bytes", "Bytes that wait on disk for the state.", (),
                      lambda: {(): float(self.spool.size)}, "max")  # fmt: skip
        metrics.gauge("portcullis_state_spool_full", "Whether the queue on disk took nothing the last time.", (),
                      lambda: {(): float(bool(self.full))}, "max")  # fmt: skip
        metrics.gauge("portcullis_state_breaker_open", "Whether calls to the state are answered without it.", (),
                      lambda: {(): float(self.breaker.state(time.monotonic()) != "closed")}, "max")  # fmt: skip
        metrics.count(
            "portcullis_state_without", "What was done while the state was gone.", ("what",),
            lambda: {
                ("spooled",): float(self.spooled), ("returned",): float(self.returned),
                ("served_from_memory",): float(self.served), ("refused",): float(self.refused),
            },
        )  # fmt: skip

    async def ping(self) -> None:
        await self._call(self.inner.ping())
        await self.reconcile()

    async def close(self) -> None:
        await self.inner.close()

    async def put_key(self, key: StoredKey) -> None:
        await self._call(self.inner.put_key(key))

    async def key(self, key_id: str) -> StoredKey | None:
        return await self._call(self.inner.key(key_id))

    async def keys(self) -> list[StoredKey]:
        return await self._call(self.inner.keys())

    async def revoke_key(self, key_id: str, now: float) -> bool:
        return await self._call(self.inner.revoke_key(key_id, now))

    async def own_key(self, key_id: str, owner: str) -> StoredKey | None:
        return await self._call(self.inner.own_key(key_id, owner))

    async def keys_version(self) -> int:
        return await self._call(self.inner.keys_version())

    async def append(self, decisions: Sequence[AnyDecision], kept: Sequence[KeptTexts] = ()) -> None:
        try:
            await self._call(self.inner.append(decisions, kept))
        except StateUnavailable as error:
            try:
                await asyncio.to_thread(self.spool.put, decisions, kept)
            except SpoolFull as full:
                self.full = str(full)
                raise StateUnavailable(self.what, f"{error.why}; {full}") from None
            self.full = ""
            self.spooled += len(decisions)

    async def decision(self, decision_id: str) -> Record | None:
        return await self._call(self.inner.decision(decision_id))

    async def decisions(self, only: Filter = ANY, limit: int = 100, cursor: str | None = None) -> Page:
        return await self._call(self.inner.decisions(only, limit, cursor))

    async def kept_texts(self, decision_id: str, now: float) -> KeptTexts | None:
        return await self._call(self.inner.kept_texts(decision_id, now))

    async def expire(self, now: float, before: float, keep: int) -> int:
        return await self._call(self.inner.expire(now, before, keep))

    async def get(self, name: str) -> Versioned | None:
        try:
            found = await self._call(self.inner.get(name))
        except StateUnavailable:
            if name not in self._remembered:
                raise
            self.served += 1
            return self._remembered[name]
        self._remembered[name] = found
        self._remembered.move_to_end(name)
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    async def swap(self, name: str, value: bytes, version: int) -> int | None:
        done = await self._call(self.inner.swap(name, value, version))
        if done is not None:
            self._remembered[name] = Versioned(value, done)
        return done

    async def put(self, kind: str, id: str, body: bytes, version: int) -> int | None:
        return await self._call(self.inner.put(kind, id, body, version))

    async def document(self, kind: str, id: str) -> Versioned | None:
        return await self._call(self.inner.document(kind, id))

    async def documents(self, kind: str, limit: int = 100, before: str | None = None) -> list[tuple[str, Versioned]]:
        return await self._call(self.inner.documents(kind, limit, before))

    async def remove(self, kind: str, id: str) -> bool:
        return await self._call(self.inner.remove(kind, id))

    async def put_fleeting(self, values: Mapping[str, bytes], expires_at: float) -> None:
        await self._call(self.inner.put_fleeting(values, expires_at))

    async def fleeting(self, names: Sequence[str], now: float) -> list[bytes | None]:
        return await self._call(self.inner.fleeting(names, now))

    async def tally(self, who: str, values: Mapping[str, int], expires_at: float) -> list[tuple[int, int]]:
        return await self._call(self.inner.tally(who, values, expires_at))

    async def emit(self, stream: str, bodies: Sequence[bytes], now: float, most: int, *, make_room: bool) -> int | None:
        return await self._call(self.inner.emit(stream, bodies, now, most, make_room=make_room))

    async def claim(self, stream: str, who: str, count: int, idle_seconds: float, now: float) -> list[Event]:
        return await self._call(self.inner.claim(stream, who, count, idle_seconds, now))

    async def settle(self, stream: str, who: str, ids: Sequence[str], changes: Sequence[Change] = ()) -> Settled:
        return await self._call(self.inner.settle(stream, who, ids, changes))

    async def backlog(self, stream: str, now: float) -> Backlog:
        return await self._call(self.inner.backlog(stream, now))

    async def reconcile(self) -> None:
        """Store what waited on disk, processes' that have ended included.

        Raises:
            StateUnavailable: it is gone again; what is not stored yet stays on disk.
        """
        if self._returning.locked() or not (files := await asyncio.to_thread(self.spool.waiting)):
            return
        async with self._returning:
            for file in files:
                for decisions, kept in self.spool.read(file, RETURN_BATCH):
                    await self._call(self.inner.append(decisions, kept))
                    self.returned += len(decisions)
                    await asyncio.sleep(0)
                self.spool.drop(file)
            _log.info("the state is back: all decisions that waited on disk are stored")

    async def _call(self, work: Awaitable[T]) -> T:
        now = time.monotonic()
        if (pause := self.breaker.admit(now)) > 0:
            if asyncio.iscoroutine(work):
                work.close()
            self.refused += 1
            raise StateUnavailable(self.what, f"it did not answer lately; tried again in {pause:.1f} s")
        try:
            done = await work
        except StateUnavailable:
            self.breaker.failed(time.monotonic())
            self.gone_since = self.gone_since or time.time()
            raise
        self.breaker.succeeded()
        self.gone_since, self.full = None, ""
        return done
