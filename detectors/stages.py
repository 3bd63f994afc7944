"""The stages of the cascade by name, and what they pass to each other about one text."""

from __future__ import annotations

from typing import Final, NamedTuple

from detectors.values import Origin, Skipped

CHEAP: Final = ("canonical", "decode", "lexical", "fast")
"""Stages that every text passes, in order. ``fast`` is the front stage of the model."""

DEEP: Final = ("encoder", "index")
"""Stages for what the front stage does not settle. The index is asked with what the encoder made, so they go together."""

STAGES: Final = (*CHEAP, *DEEP)
"""All stages in order; as in metrics, records and verdicts."""


class TextFinding(NamedTuple):
    """A finding in one text, before it is mapped to the segments of a request."""

    detector: str
    pattern: str
    category: str
    score: float
    start: int
    end: int


class TextVerdict(NamedTuple):
    """What the cascade says of one text. ``score`` is the calibrated probability of attack; ``stages`` are those that ran."""

    findings: tuple[TextFinding, ...]
    score: float
    skipped: tuple[Skipped, ...]
    stages: tuple[str, ...]


class Asked(NamedTuple):
    """A window for the encoder: its text, what the front stage said of it, and where it stands in the original.

    ``woken`` is one that the front stage had settled as harmless, and that resembles something learnt. ``setting`` is what
    its company adds to its log-odds (`detectors.semantic.judge.SemanticModel.setting`). ``around`` is what stands around the
    quotations of another window, and says only whether that one mentions what it quotes. ``part`` is of another window, which
    is looked at more closely.
    """

    text: str
    suspicion: float
    start: int
    end: int
    woken: bool = False
    setting: float = 0.0
    around: bool = False
    part: bool = False


class Screened(NamedTuple):
    """What the cheap stages say: what they found, how much that weighs (see `detectors.cascade.EVIDENCE`), the most suspicious
    window that the front stage settled, and the windows that it did not settle, for the encoder; ``doubt``: not all of what
    stands around quotations is among these, so that no quotation is a mention."""

    origin: Origin
    findings: tuple[TextFinding, ...]
    evidence: float
    settled: Asked | None
    asked: tuple[Asked, ...]
    skipped: tuple[Skipped, ...]
    doubt: bool = False
