"""Corrections: what labels taught about the model's own probability, beside the model and taken away without a trace.

Encoder and calibration are frozen. A correction adds to the log-odds that they give a window: a *threshold move* one number
for windows of one category (to raise the bar by 0.5 and to take 0.5 from what is compared with it is the same, and moves the
bars of all presets alike); a *head* a linear function of the window's embedding. As the model's own output is linear before
its probability, that is its last layer trained further, with the shipped one as the point that it is drawn towards.

A correction that does not act yet is watched: it is told where it would have carried a window over a bar.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from patterns.schema import WATCHING, Kind, Pattern, acts_on, threshold_move

Floats = npt.NDArray[np.float32]

PREFIX: Final = "head:"
"""A head's body is ``head:MODEL:BASE64``: the scale, the constant (float32 each) and the weights in eight bits."""

_WIDTH: Final = 384
_MOST: Final = 30.0
"""Log-odds are kept within this: beyond it a probability is 0 or 1 in any case."""
_UTMOST: Final = 1e30
"""Of a head's scale and constant: sums of what is larger overflow, and infinity less infinity would block every text."""


class CorrectionError(ValueError):
    """A correction that cannot be made ready; the message names it and says why."""


class Correction(NamedTuple):
    """One correction made ready. ``weights`` (384,) is None for a threshold move."""

    pattern: Pattern
    weights: Floats | None
    offset: float

    def shift(self, embedding: Floats, category: str) -> float:
        """What is added to the log-odds of a window whose likeliest threat is ``category`` (with or without subcategory)."""
        if self.weights is not None:
            return float(embedding @ self.weights) + self.offset
        return self.offset if category.partition(".")[0] == self.pattern.category else 0.0


class Corrected(NamedTuple):
    """What corrections make of one window.

    ``score`` is its probability now; ``by`` the acting correction that had most to do with its crossing a bar, None where it
    crossed none; ``watching`` those that do not act and would have made it cross one, each with the score it would have.
    """

    score: float
    by: Pattern | None
    watching: tuple[tuple[Pattern, float], ...]


def ready(pattern: Pattern, model: str) -> Correction:
    """Read a correction.

    Args:
        model: names the encoder, as `Encoder.digest`.

    Raises:
        CorrectionError: it is a head over another encoder, or damaged.
    """
    if pattern.kind is Kind.THRESHOLD:
        return Correction(pattern, None, -threshold_move(pattern.body, pattern.id))
    made_by, _, encoded = pattern.body.removeprefix(PREFIX).partition(":")
    if not pattern.body.startswith(PREFIX) or made_by != model:
        raise CorrectionError(f"{pattern.id}: body: a head over model {made_by[:20]!r}; this one is {model}")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:  # also of what is not ASCII
        raise CorrectionError(f"{pattern.id}: body: the head is not base64") from None
    if len(raw) != 8 + _WIDTH:
        raise CorrectionError(f"{pattern.id}: body: a head of {len(raw)} bytes; wanted {8 + _WIDTH}")
    scale, offset = np.frombuffer(raw[:8], np.float32).tolist()
    if not (abs(scale) <= _UTMOST and abs(offset) <= _UTMOST):
        raise CorrectionError(f"{pattern.id}: body: the head holds what is no number, or one too large to reckon with")
    return Correction(pattern, np.frombuffer(raw[8:], np.int8).astype(np.float32) * np.float32(scale), offset)


def write_head(weights: Floats, offset: float, model: str) -> str:
    """A head's body from its weights (384,) and constant."""
    scale = max(float(np.abs(weights).max()), 1e-9) / 127
    raw = np.array([scale, offset], np.float32).tobytes() + np.round(weights / scale).astype(np.int8).tobytes()
    return f"{PREFIX}{model}:{base64.b64encode(raw).decode()}"


class Corrections:
    """Corrections together, ready for any number of threads; immutable."""

    def __init__(self, corrections: Iterable[Correction] = ()) -> None:
        self._all = tuple(one for one in corrections if one.pattern.state in WATCHING)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Correction]:
        return iter(self._all)

    def correct(
        self, score: float, embedding: Floats, category: str, origin: str, text: str, bars: Sequence[float]
    ) -> Corrected:
        """Correct one window of ``text``.

        Args:
            score: what the model gives it. category: its likeliest threat. origin: who says it.
            bars: the scores from which presets act.
        """
        total = log_odds(score)
        acting: list[tuple[float, Pattern]] = []
        watching: list[tuple[float, Pattern]] = []
        for one in self._all:
            pattern = one.pattern
            if pattern.origins and origin not in pattern.origins:
                continue
            if shift := one.shift(embedding, category):
                (acting if acts_on(pattern, text) else watching).append((shift, pattern))
        moved = total + sum(shift for shift, _ in acting)
        after = probability(moved) if acting else score
        crossed = _level(after, bars) - _level(score, bars)
        by = max(acting, key=lambda one: one[0] * crossed)[1] if crossed else None
        would = ((pattern, probability(moved + shift)) for shift, pattern in watching)
        return Corrected(after, by, tuple(one for one in would if _level(one[1], bars) != _level(after, bars)))


def log_odds(score: float) -> float:
    """The log-odds of a probability, within bounds."""
    return max(-_MOST, min(_MOST, math.log(max(score, 1e-13) / max(1.0 - score, 1e-13))))


def probability(log_odds_: float) -> float:
    """The probability of log-odds."""
    return 1.0 / (1.0 + math.exp(-max(-_MOST, min(_MOST, log_odds_))))


def _level(score: float, bars: Sequence[float]) -> int:
    return sum(score >= bar for bar in bars)


NO_CORRECTIONS: Final = Corrections()
