"""Asking other replicas about a request, and answering them: the shell around `gateway.screening.consensus`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from detectors.values import Segment
from gateway.live import Bound, Live
from gateway.redaction.vault import Vault
from gateway.screening import consensus, knowledge
from gateway.screening.consensus import Ballot
from gateway.screening.inspection import Inspected, by_consensus
from gateway.screening.semantics import Semantics
from gateway.sync import frames
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from gateway.sync.service import SyncService

PEERS_SHARE: Final = 0.8
"""Of the time that an answer is waited for, what a peer may spend: the rest is for the way."""


QUEUE_SHARE: Final = 0.25
"""How far peers may fill the encoder's queue: whatever they ask, most of it is left to this replica's own traffic."""


class Asking:
    """What replicas ask each other of requests, from one worker's side."""

    def __init__(self, live: Callable[[], Live], semantics: Semantics, metrics: Metrics) -> None:
        """``live`` gives what serves now."""
        self.sync: SyncService | None = None
        self._live = live
        self._semantics = semantics
        self._known: tuple[Live, bytes] | None = None
        self._results: Counter[str] = Counter()
        self._seconds = metrics.consensus_seconds
        metrics.count(
            "portcullis_consensus", "Requests that other replicas were asked about, by what came of it.", ("result",),
            lambda: {(result,): float(number) for result, number in self._results.items()},
        )  # fmt: skip

    async def put(
        self, own: Inspected, live: Live, bound: Bound, body: bytes, tenant: str, vault: Vault,
        before: Sequence[Segment] = (), after: Sequence[Segment] = (),
    ) -> Inspected:  # fmt: skip
        """Put a request to other replicas, as the policy has it, and take the majority.

        ``own`` is what this one says of it, judged with what stands ``before`` and ``after``: so the others judge it, too.
        """
        asked = bound.policy.consensus
        segments = own.parsed.segments
        if asked is None or not segments:
            return own
        began = time.perf_counter_ns()
        left_ms = max(1, int(asked.seconds * 1000))
        name = self.sync.name if self.sync is not None else ""
        ballot = Ballot(name, own.judged, segments, bound.policy, asked.replicas, before, after)
        question = consensus.asked(0, self.knowledge(live), tenant, ballot.asked, left_ms)
        failure = ""
        if question is None:
            failure = consensus.OVERSIZED
        elif self.sync is None:
            failure = consensus.CUT_OFF
        else:
            try:
                await self.sync.ask(question, asked.replicas, ballot.hear)
            except OSError:
                failure = consensus.CUT_OFF
        outcome = ballot.close(failure)
        spent = time.perf_counter_ns() - began
        self._results[outcome.result] += 1
        self._seconds.observe((), spent / 1e9)
        return by_consensus(own, outcome, bound, body, vault, spent)

    async def answer(self, question: frames.Question) -> frames.Answer:
        """What this replica says of a peer's question. It keeps nothing of it but the verdict, under a key that no text can be
        read from.

        Raises:
            ValueError: it holds no texts.
        """
        live = self._live()
        if question.knowledge != self.knowledge(live):
            return frames.Answer(question.number, "knowledge")
        segments = consensus.segments_of(question)
        seconds = PEERS_SHARE * question.left_ms / 1000
        judged = await self._semantics.judge(live.engine, segments, question.scope, seconds, QUEUE_SHARE)
        return consensus.answered(question.number, judged.verdict)

    def knowledge(self, live: Live) -> bytes:
        """Names all that a verdict of ``live`` comes of (`gateway.screening.knowledge`)."""
        if self._known is None or self._known[0] is not live:
            self._known = live, knowledge.of(live)
        return self._known[1]
