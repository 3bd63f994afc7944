"""The end of the cascade: what the readings of one text's windows come to, with what was learnt since the model was trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from detectors.mentions import only_mentions, pardoned
from detectors.semantic.corrections import Corrections
from detectors.semantic.judge import KNOWN_HARMLESS, LEARNT_ATTACK, Reading, SemanticModel, Weighed
from detectors.semantic.prototypes import NOTHING, Near, Prototypes
from detectors.semantic.quotes import quotes
from detectors.stages import Asked, Screened, TextFinding
from detectors.values import WATCHED
from patterns.schema import Kind, Pattern

ORDERED: Final = 0.75
"""The probability of an attack from which what stands around a quotation counts as an order, where no preset acts on less: in
doubt nothing is pardoned. By the bar of ``strict`` alone more orders beside a labelled text pass, with 0.7 fewer of them and
fewer false alarms."""


class Weighing:
    """Weighs the windows of one text: the strongest decides, and what is of a learnt harmless kind pardons other findings.

    Args:
        reported: the probability from which a window is told.
        readings: of `Screened.asked`, in its order; None for one that could not be had.
    """

    def __init__(
        self, model: SemanticModel, prototypes: Prototypes, corrections: Corrections, reported: float,
        screened: Screened, readings: Sequence[Reading | None],
    ) -> None:  # fmt: skip
        self._model, self._prototypes, self._corrections = model, prototypes, corrections
        self._reported, self._screened = reported, screened
        self._best: TextFinding | None = None
        self._told: dict[TextFinding, None] = {}
        self._harmless: list[tuple[Asked, bool]] = []
        self._cleared: list[Asked] = []
        pairs = list(zip(screened.asked, readings, strict=True))
        self._ordered = screened.doubt or any(window.around and self._orders(window, reading) for window, reading in pairs)
        for window, reading in pairs:
            if not window.around:
                self._add(window, reading)
        if screened.settled is not None:
            self._add(screened.settled, None)

    @property
    def score(self) -> float:
        """The probability of the window that decides."""
        assert self._best is not None  # a text has at least one window
        return self._best.score

    def findings(self) -> tuple[TextFinding, ...]:
        """What is told of the text: what the cheap stages found, but for what is pardoned, and what its windows are."""
        findings, told = self._screened.findings, dict(self._told)
        if self._best is not None and self._best.score >= self._reported:
            told.pop(self._best, None)
            findings += (self._best,)
        if any(is_so for _, is_so in self._harmless):
            findings = tuple(pardoned(finding, self._harmless) for finding in findings)
        return (*findings, *told)

    def _add(self, window: Asked, reading: Reading | None) -> None:
        if window.part and (reading is None or _within(window, self._cleared)):
            return
        near = NOTHING if window.part or reading is None else self._near(window, reading)
        judged = self._weigh(window, reading, near.acting)
        if judged.stage == "index" and judged.score == KNOWN_HARMLESS and (near.acting is None or not quotes(window.text)):
            self._cleared.append(window)
        pattern = judged.exemplar if judged.exemplar and judged.stage == "index" else f"model.{self._screened.origin}"
        if reading is not None and judged.stage == "encoder" and len(self._corrections):
            judged, crossed = self._correct(judged, reading, window)
            self._told |= dict.fromkeys(crossed)
            pattern = next((one.pattern for one in crossed if one.detector != WATCHED), pattern)
        if self._best is None or judged.score > self._best.score:
            self._best = TextFinding(judged.stage, pattern, judged.category, judged.score, window.start, window.end)

    def _near(self, window: Asked, reading: Reading) -> Near:
        """What was learnt that comes near a window."""
        if not len(self._prototypes):
            return NOTHING
        mentions = partial(only_mentions, window, self._screened.findings, self._ordered)
        near = self._prototypes.near(reading.embedding, self._screened.origin, window.text, mentions)
        for one in near.watching:
            self._told[TextFinding(WATCHED, one.id, one.category, LEARNT_ATTACK, window.start, window.end)] = None
        self._harmless.append((window, near.acting is not None and near.acting.kind is Kind.BENIGN))
        return near

    def _weigh(self, window: Asked, reading: Reading | None, learnt: Pattern | None) -> Weighed:
        """One window's probability of attack: what was learnt of its kind goes before what the model says of it."""
        if learnt is not None and (reading is None or reading.same is None):
            if learnt.kind is Kind.SEMANTIC:
                return Weighed(LEARNT_ATTACK, "index", learnt.category, learnt.id)
            return Weighed(KNOWN_HARMLESS, "index", learnt.category, learnt.id)
        known = None if window.woken else reading  # the front stage had settled it, and nothing learnt says otherwise
        screened = self._screened
        return self._model.weigh(known, window.suspicion, screened.evidence, screened.origin, window.setting)

    def _orders(self, window: Asked, reading: Reading | None) -> bool:
        """Whether what stands around a quotation attacks by itself, by the front stage's word or the encoder's: in doubt
        nothing is pardoned. What other stages found weighs nothing here, for it stands within the quotation
        (`only_mentions`)."""
        origin = self._screened.origin
        words = (self._model.weigh(one, window.suspicion, 0.0, origin, window.setting) for one in (reading, None))
        return reading is None or max(word.score for word in words) >= min(ORDERED, self._reported)

    def _correct(self, judged: Weighed, reading: Reading, window: Asked) -> tuple[Weighed, list[TextFinding]]:
        """What corrections make of one window's probability, and which of them it crossed a preset's bar by.

        One that acts is told as the encoder's finding under its own name, also where the window fell below the bar.
        """
        origin = self._screened.origin
        bars = [thresholds[origin] for thresholds in self._model.calibration.thresholds.values()]
        found = self._corrections.correct(judged.score, reading.embedding, judged.category, origin, window.text, bars)
        told = [("encoder", found.by, found.score)] if found.by is not None else []
        told += [(WATCHED, pattern, score) for pattern, score in found.watching]
        return judged._replace(score=found.score), [
            TextFinding(detector, pattern.id, judged.category, score, window.start, window.end)
            for detector, pattern, score in told
        ]


def _within(part: Asked, windows: Sequence[Asked]) -> bool:
    return any(one.start <= part.start and part.end <= one.end for one in windows)
