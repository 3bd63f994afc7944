"""Figures of merit with their uncertainty: AUC, recall at a false-positive rate, reliability."""

from __future__ import annotations

import itertools
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ROUNDS: Final = 200
"""Bootstrap rounds: the ends of a 95 % interval then move by less than half a point."""


class Interval(NamedTuple):
    """A figure and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


def auc(scores: Floats, labels: npt.NDArray[np.int64]) -> float:
    """Area under the ROC curve: how often an attack scores above a harmless text, ties counting half."""
    order = np.argsort(scores, kind="stable")
    values = scores[order]
    ranks = np.empty(len(scores))
    bounds = np.flatnonzero(np.r_[True, values[1:] != values[:-1], True])
    for first, last in itertools.pairwise(bounds):
        ranks[order[first:last]] = (first + last + 1) / 2
    attacks = labels == 1
    count, rest = int(attacks.sum()), int((~attacks).sum())
    return float((ranks[attacks].sum() - count * (count + 1) / 2) / (count * rest))


def recall_at(scores: Floats, labels: npt.NDArray[np.int64], rate: float) -> float:
    """The share of attacks above the threshold that at most ``rate`` of harmless texts exceed."""
    harmless = np.sort(scores[labels == 0])
    threshold = harmless[max(0, int(np.ceil(len(harmless) * (1 - rate))) - 1)]
    return float((scores[labels == 1] > threshold).mean())


def bootstrap(figure: str, scores: Floats, labels: npt.NDArray[np.int64], rate: float = 0.01, seed: int = 0) -> Interval:
    """``auc`` or ``recall`` with its interval; attacks and harmless texts are drawn apart."""
    rng = np.random.default_rng(seed)
    attacks, harmless = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)

    def measure(chosen: npt.NDArray[np.int64]) -> float:
        if figure == "auc":
            return auc(scores[chosen], labels[chosen])
        return recall_at(scores[chosen], labels[chosen], rate)

    drawn = [measure(np.r_[rng.choice(attacks, len(attacks)), rng.choice(harmless, len(harmless))]) for _ in range(ROUNDS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(measure(np.r_[attacks, harmless]), float(low), float(high))


def reliability(scores: Floats, labels: npt.NDArray[np.int64], bins: int = 10) -> list[tuple[float, float, int]]:
    """Mean score, share of attacks and count in each tenth of the scale that holds a text."""
    cells = np.minimum((scores * bins).astype(int), bins - 1)
    return [(float(scores[cells == c].mean()), float(labels[cells == c].mean()), int((cells == c).sum()))
            for c in range(bins) if (cells == c).any()]
