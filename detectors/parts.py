"""What is said of a text that came in overlapping parts and was judged part by part: put together, so that it is judged once.

The model's windows over the parts cover the text as closely as its windows over the whole would, each character with what
stands before it. What speaks for an attack makes the encoder read all windows of a whole, and here those of its own part: the
score may be lower than that of the whole would be. Patterns cost little and may reach over a part's edge, so they are matched
over the whole once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from detectors.stages import TextFinding, TextVerdict
from detectors.values import WATCHED, Finding
from patterns.taxonomy import is_attack

_MODEL: Final = frozenset({"fast", "encoder", "index"})


class Parts:
    """Gathers what was said of the parts of one text. All of them were judged by all stages; see `verdict`."""

    __slots__ = ("_best", "_score", "_spoke", "_stages", "_watched")

    def __init__(self) -> None:
        self._score = 0.0
        self._stages: tuple[str, ...] = ()
        self._best: TextFinding | None = None  # the strongest thing that the model found
        self._watched: dict[str, TextFinding] = {}  # by pattern
        self._spoke: set[str] = set()  # patterns that were found and counted

    def add(self, start: int, findings: Iterable[Finding], score: float, stages: tuple[str, ...]) -> None:
        """Take what was said of the part that begins at code point ``start``.

        ``score`` is its probability of attack, ``stages`` those that saw it.
        """
        self._score = max(self._score, score)
        self._stages = max(self._stages, stages, key=len)
        for finding in findings:
            placed = TextFinding(*finding[:4], start + finding.start, start + finding.end)
            if finding.detector == WATCHED:
                self._watched.setdefault(finding.pattern, placed)
            elif finding.detector not in _MODEL:
                self._spoke.add(finding.pattern)
            elif self._best is None or finding.score > self._best.score:
                self._best = placed

    def verdict(self, words: TextVerdict) -> TextVerdict | None:
        """The verdict on the whole, given what all stages but the model say of that.

        None where they found something that speaks for an attack and that no part showed: what the model makes of that,
        only the whole can tell.
        """
        found = []
        for finding in words.findings:
            if finding.pattern not in self._spoke:
                if finding.pattern in self._watched:
                    continue  # pardoned where it stood: see `Cascade.finish`
                if finding.detector != WATCHED and is_attack(finding.category):
                    return None
            found.append(finding)
        seen = {finding.pattern for finding in found if finding.detector == WATCHED}
        found += [finding for finding in self._watched.values() if finding.pattern not in seen]
        if self._best is not None:
            found.append(self._best)
        return TextVerdict(tuple(found), self._score, words.skipped, self._stages)
