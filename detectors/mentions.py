"""What is only mentioned: a text that quotes an attack is none, where something harmless was learnt of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from detectors.lexical import SCORES
from detectors.semantic.judge import SemanticModel
from detectors.semantic.quotes import around, quoted, quotes
from detectors.stages import DEEP, Asked, TextFinding
from detectors.values import WATCHED, Origin
from patterns.schema import Severity
from patterns.taxonomy import is_attack

MENTIONED: Final = 0.75
"""Of a match, the share that stands in quotation marks where it is only mentioned: patterns may take a word after it along."""


def speaks(finding: TextFinding) -> bool:
    """Whether a finding speaks for an attack, now."""
    return finding.detector != WATCHED and is_attack(finding.category)


def around_of(model: SemanticModel, window: Asked, origin: Origin) -> list[Asked]:
    """What stands around the quotations of a window, where the front stage does not settle it: an order there is no mention."""
    text = around(window.text)
    suspicion = max(suspicion for _, _, suspicion in model.front(text, origin))
    if suspicion < model.calibration.sure[origin]:
        return []
    return [Asked(text, suspicion, window.start, window.end, setting=model.setting(text, 1, origin), around=True)]


def only_mentions(window: Asked, findings: Sequence[TextFinding], ordered: bool) -> bool:
    """Whether a window quotes, and does so with all that would be blocked by itself: an attack beside a quotation attacks.

    ``ordered`` says that what stands around the text's quotations does.
    """
    if ordered or not quotes(window.text):
        return False
    passages = quoted(window.text)
    grave = [one for one in findings if speaks(one) and one.score >= SCORES[Severity.HIGH]
             and window.start < one.end and one.start < window.end]  # fmt: skip
    if not grave:
        return True
    if window.end - window.start != len(window.text):
        return False  # a reading whose places are not the text's
    inside = [
        sum(max(0, min(one.end - window.start, end) - max(one.start - window.start, start)) for start, end in passages)
        for one in grave
    ]  # fmt: skip
    return all(within >= MENTIONED * (one.end - one.start) for one, within in zip(grave, inside, strict=True))


def pardoned(finding: TextFinding, windows: Sequence[tuple[Asked, bool]]) -> TextFinding:
    """A finding within a learnt harmless kind is recorded and not acted on, unless it is critical.

    All windows that it touches must be of such a kind: an attack beside harmless text is an attack.
    """
    if finding.detector in DEEP or not is_attack(finding.category) or finding.score >= SCORES[Severity.CRITICAL]:
        return finding
    around = [is_so for window, is_so in windows if window.start < finding.end and finding.start < window.end]
    return finding._replace(detector=WATCHED) if around and all(around) else finding
