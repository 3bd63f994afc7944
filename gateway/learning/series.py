"""What the learning loop counts."""

from __future__ import annotations

from heapq import nlargest
from typing import Final

from gateway.learning.service import Learning
from gateway.learning.wording import Wording
from gateway.telemetry.metrics import Metrics

MAX_PATTERNS: Final = 200
"""Patterns whose labelled matches are counted, the most labelled of all: two series each."""


def register(metrics: Metrics, learning: Learning, wording: Wording) -> None:
    """Add the series of the learning loop and of the pattern store."""
    store = learning.store
    learning.inbox.register(metrics)
    metrics.count("portcullis_labels", "Labels taken, by what was said.", ("label",),
                  lambda: {(said,): float(count) for said, count in learning.intake.labels.items()})  # fmt: skip
    metrics.count("portcullis_proposal_moves", "Proposals that entered a stage, by the stage.", ("stage",),
                  lambda: {(str(stage),): float(count) for stage, count in learning.stages.moves.items()})  # fmt: skip
    metrics.count("portcullis_reflections_worded", "Reflections that a language model was asked to word, by what came of it.",
                  ("result",), lambda: {(result,): float(count) for result, count in wording.results.items()})  # fmt: skip
    metrics.gauge(
        "portcullis_store_generation", "The pattern store's generation.", (), lambda: {(): float(store.generation)}, "max"
    )
    metrics.gauge("portcullis_store_patterns", "Patterns in the store, by state.", ("state",), lambda: _states(learning), "max")
    metrics.gauge("portcullis_pattern_labelled", "Matches of a pattern that labels confirm or refute.", ("pattern", "verdict"),
                  lambda: _labelled(learning), "max")  # fmt: skip


def _states(learning: Learning) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for pattern in learning.store.patterns().values():
        found[pattern.state.value,] = found.get((pattern.state.value,), 0) + 1
    return found


def _labelled(learning: Learning) -> dict[tuple[str, ...], float]:
    if not learning.leads:
        return {}
    judged = {id: said for id, said in learning.lessons.about.items() if said.confirmed or said.refuted}
    most = nlargest(MAX_PATTERNS, judged, key=lambda id: judged[id].confirmed + judged[id].refuted)
    return {
        (id, verdict): float(count)
        for id in most for verdict, count in (("confirmed", judged[id].confirmed), ("refuted", judged[id].refuted))
    }  # fmt: skip
