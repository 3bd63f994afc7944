"""Verdicts that workers and replicas have from each other: the second level of the verdict cache, in the state.

It is asked for a text that this worker does not remember and that the front stage leaves to the encoder, whose reading takes
some ten times longer than asking. The store learns neither the text nor what was said of it, and cannot make up a verdict
(`gateway.redaction.sealing`). A name holds all that a verdict comes of (patterns, model, stages, version), and the tenant.
What was read anew is written behind the answer, many in one go. An answer that is late is not waited for; a verdict that lacks
a stage is not written. Where a policy asks other replicas for their own opinion (`consensus`), nothing is shared: the question
would be answered by whoever was first.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import orjson

from detectors.engine import Judged, Screening
from detectors.stages import TextFinding, TextVerdict
from gateway.config.settings import Settings
from gateway.live import Live
from gateway.redaction.sealing import Sealer, answered
from gateway.screening.semantics import Semantics
from gateway.state.base import State, StateUnavailable
from gateway.telemetry.metrics import Metrics
from gateway.upstream.breaker import Breaker, BreakerPolicy

WAIT_SECONDS: Final = 0.005
"""How long an answer is waited for: a few times what a store on the same network takes, a third of what the encoder takes for
one window."""

MAX_ASKING: Final = 64
"""Questions on their way. A store that is slow is not asked more of."""

FLUSH_SECONDS: Final = 0.05
"""How long verdicts wait for others to be written with."""

MAX_PENDING: Final = 1_024
"""Verdicts that wait to be written: more than a second's worth of what encoders read."""

PATIENCE: Final = BreakerPolicy(streak=8, rest=1.0, longest_rest=30.0)
"""After so many late answers in a row nobody waits for a while: the store is further away than a verdict is worth."""

RESULTS: Final = ("hit", "miss", "late", "forged", "unavailable", "skipped", "stored", "dropped")


class SharedVerdicts:
    """The second level, from one worker's side. `begin` turns it on.

    Args:
        live: gives what serves now. knowledge: names all that a verdict comes of.
    """

    def __init__(
        self, state: State, semantics: Semantics, live: Callable[[], Live], knowledge: Callable[[Live], bytes]
    ) -> None:
        self._state, self._semantics = state, semantics
        self._live, self._knowledge = live, knowledge
        self._sealer: Sealer | None = None
        self._breaker = Breaker(PATIENCE)
        self._asking: set[asyncio.Task[list[bytes | None]]] = set()
        self._pending: dict[str, bytes] = {}
        self._beginning: asyncio.Task[None] | None = None
        self._flushing: asyncio.Task[None] | None = None
        self.results: Counter[str] = Counter()

    def register(self, metrics: Metrics) -> None:
        """Count what came of asking and writing."""
        metrics.count(
            "portcullis_shared_verdicts", "Texts for the encoder looked up in the state, and verdicts written.", ("result",),
            lambda: {(result,): float(self.results[result]) for result in RESULTS},
        )  # fmt: skip

    def begin(self, secret: bytes) -> None:
        """Share, once it is known what this worker knows. ``secret`` is the configuration's, which the state does not hold."""
        self._beginning = asyncio.get_running_loop().create_task(self._begin(Sealer(secret, "verdict")))

    async def close(self, screening: Screening, scope: str) -> Judged:
        """As `Semantics.close`, with what others have read already."""
        live, sealer = self._live(), self._sealer
        current = screening.generation is live.engine.generation  # else nobody else serves by it either, or not for long
        if sealer is None or not screening.asked or not current or not shares(live.settings):
            return await self._semantics.close(screening, scope)
        knowledge = self._knowledge(live)
        names = [sealer.name(knowledge, scope, passage.origin, passage.text) for passage in screening.open]
        found = await self._find(sealer, names)
        screening.know(found)
        judged = await self._semantics.close(screening, scope)
        left = [name for name, verdict in zip(names, found, strict=True) if verdict is None]
        for name, verdict in zip(left, screening.verdicts, strict=True):
            if not verdict.skipped:
                self._write(name, sealer.seal(name, encode(verdict)))
        return judged

    async def stop(self) -> None:
        """Write what waits, and ask no more."""
        under_way = [task for task in (self._beginning, self._flushing, *self._asking) if task is not None]
        if under_way:
            await asyncio.wait(under_way)
        self._sealer = None

    async def _begin(self, sealer: Sealer) -> None:
        await asyncio.to_thread(self._knowledge, self._live())  # reads the model's files, once
        self._sealer = sealer

    async def _find(self, sealer: Sealer, names: list[str]) -> list[TextVerdict | None]:
        nothing: list[TextVerdict | None] = [None] * len(names)
        now = time.monotonic()
        if len(self._asking) >= MAX_ASKING or self._breaker.admit(now) > 0:
            self.results["skipped"] += len(names)
            return nothing
        # It is not cancelled when it is late: a connection whose answer nobody takes has to be closed.
        task = asyncio.get_running_loop().create_task(self._state.fleeting(names, time.time()))
        self._asking.add(task)
        task.add_done_callback(self._answered)
        await asyncio.wait([task], timeout=WAIT_SECONDS)
        if not task.done():
            self._breaker.failed(time.monotonic())
            self.results["late"] += len(names)
            return nothing
        self._breaker.succeeded()
        try:
            answers = task.result()
        except StateUnavailable:
            self.results["unavailable"] += len(names)
            return nothing
        return [self._opened(sealer, name, sealed) for name, sealed in answered(names, answers)]

    def _answered(self, task: asyncio.Task[list[bytes | None]]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # one that came too late to be told

    def _opened(self, sealer: Sealer, name: str, sealed: bytes | None) -> TextVerdict | None:
        if sealed is None:
            self.results["miss"] += 1
            return None
        value = sealer.open(name, sealed)
        if value is None:
            self.results["forged"] += 1
            return None
        self.results["hit"] += 1
        return decode(value)

    def _write(self, name: str, sealed: bytes) -> None:
        if len(self._pending) >= MAX_PENDING:
            self.results["dropped"] += 1
            return
        self._pending[name] = sealed
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        await asyncio.sleep(FLUSH_SECONDS)
        while self._pending:
            values, self._pending = self._pending, {}
            try:
                await self._state.put_fleeting(values, time.time() + self._live().settings.detection.share_seconds)
                self.results["stored"] += len(values)
            except StateUnavailable:
                self.results["dropped"] += len(values)
        self._flushing = None


def shares(settings: Settings) -> bool:
    """Whether a configuration lets verdicts be shared."""
    policies = (settings.policy, *(one.policy for one in settings.tenants.values()))
    return settings.detection.share_seconds > 0 and all(policy.consensus is None for policy in policies)


def encode(verdict: TextVerdict) -> bytes:
    """A complete verdict as bytes."""
    return orjson.dumps((tuple(map(tuple, verdict.findings)), verdict.score, verdict.stages))


def decode(value: bytes) -> TextVerdict:
    """Read what `encode` wrote, of the same version: what comes here was sealed by a gateway that knows the same."""
    doc: Any = orjson.loads(value)
    findings, score, stages = doc
    return TextVerdict(tuple(TextFinding(*finding) for finding in findings), score, (), tuple(stages))
