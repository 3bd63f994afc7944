"""Who judges in the benchmark: the cascade with a model that never saw the sources, whole and with stages left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectors.cascade import Cascade
from detectors.engine import Engine
from detectors.semantic.judge import Reading, SemanticModel
from detectors.stages import STAGES, TextFinding
from detectors.train.sources import Row
from detectors.values import Origin, Segment
from gateway.config.settings import PolicySettings
from gateway.live import bind
from gateway.screening.evaluation import Result
from gateway.screening.policy import Direction, decide
from patterns import packs


@dataclass(frozen=True, slots=True)
class Case:
    """A labelled text of the benchmark, and what was said of it."""

    row: Row
    result: Result
    finding: TextFinding | None


class Remembering(SemanticModel):
    """A model that reads each window once, so that variants of the cascade cost what they add."""

    def __init__(self, model: SemanticModel) -> None:
        self.__dict__.update(model.__dict__)
        self._read: dict[str, tuple[Reading, int]] = {}
        self.spent_ns = 0

    def read(self, window: str) -> Reading:
        known = self._read.get(window)
        if known is None:
            began = time.perf_counter_ns()
            reading = super().read(window)
            known = self._read[window] = reading, time.perf_counter_ns() - began
        else:
            self.spent_ns += known[1]  # what it would have cost
        return known[0]


class WithoutEvidence(Cascade):
    """A cascade whose model is not told what patterns and decoders found."""

    def screen(self, text: str, origin: Origin, clock: list[int]) -> Any:
        return super().screen(text, origin, clock)._replace(evidence=0.0)


def engines(model: Remembering, cache: Path) -> dict[str, Engine]:
    """The cascade, and what is left of it without a part, by name."""
    patterns = packs.load_all([packs.SHIPPED], cache)
    whole = Engine.load(patterns, 1, 0.0, cache, model)
    lexical = whole.cascade.lexical

    def variant(cascade: Cascade) -> Engine:
        return Engine(whole.generation, cascade)

    return {
        "all stages": whole,
        "patterns alone": variant(Cascade(lexical, None)),
        "front stage alone": variant(Cascade(lexical, model, deep=False)),
        "without decoding": variant(Cascade(lexical, model, decodes=False)),
        "patterns unweighed": variant(WithoutEvidence(lexical, model)),
    }


class Judge:
    """Judges rows by an engine and the balanced preset."""

    def __init__(self, engine: Engine, model: Remembering) -> None:
        self._engine, self._model = engine, model
        self._policy, _ = bind(PolicySettings(), engine.thresholds)

    def __call__(self, text: str, origin: Origin, row: Row) -> Case:
        segments = [Segment(text, origin.value, origin, 0, ())]
        self._model.spent_ns = 0
        began = time.perf_counter_ns()
        judged = self._engine.judge(segments, "")
        took = time.perf_counter_ns() - began + self._model.spent_ns
        verdict = judged.verdict
        ruling = decide(self._policy, verdict, segments, Direction.REQUEST)
        last = max(judged.stages[0], key=STAGES.index)
        best = max(verdict.findings, key=lambda one: one.score, default=None)
        found = TextFinding(*best[:4], best.start, best.end) if best else None
        result = Result(row.label, row.kind, row.source, row.lang, verdict.score, ruling.action.value, last,
                        verdict.complete, took // 1000)  # fmt: skip
        return Case(row, result, found)


def judged(
    rows: Sequence[Row], judge: Judge, progress: Callable[[int], None], write: Callable[[str], str] = str
) -> Iterator[Case]:
    """The rows judged, each as its natural speaker; ``write`` disguises its text."""
    for number, row in enumerate(rows):
        progress(number)
        yield judge(write(row.text), row.origin, row)
