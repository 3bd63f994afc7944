"""A direction among the embeddings and logits of the encoder that ships: logistic regression with a ridge.

It takes seconds once the texts are encoded, and the encoder, the index and what was learnt elsewhere stay as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.semantic.encoder import Encoded
from detectors.semantic.heads import column
from detectors.semantic.judge import WIDTH, SemanticModel
from detectors.semantic.scripts import unread
from detectors.values import Origin

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PARTS: Final = 5
"""Parts into which texts are dealt for the held-out scores."""

STEPS: Final = 50
"""Newton's steps, of which it takes some ten."""

LONGEST: Final = 4.0
"""What one of them changes a number by at most: where all texts are told for certain, slopes say little of how far to go."""

SMALL: Final = 1 / 24
"""Makes logits as small as an embedding's coordinates are: the ridge weighs on all alike."""


class Piece(NamedTuple):
    """A text, 1 where it is hostile under the origin at hand; ``whence`` is its kind and what is dealt as a whole."""

    text: str
    label: int
    whence: str

    @property
    def kind(self) -> str:
        return self.whence.partition(": ")[0]


def dealt(texts: Sequence[Piece]) -> Ints:
    """The part (texts,) that each is in when parts are held out."""
    return np.array([zlib.crc32(one.whence.partition(": ")[2].encode()) % PARTS for one in texts])


def evened(texts: Sequence[Piece], count: Mapping[str, float]) -> Floats:
    """What texts weigh (texts,): hostile and harmless ones the same in all, and so the kinds within each, but for ``count``."""
    kinds, labels = np.array([one.kind for one in texts]), np.array([one.label for one in texts])
    share = np.zeros(len(texts))
    for label in (0, 1):
        for kind in set(kinds[labels == label]):
            chosen = (kinds == kind) & (labels == label)
            share[chosen] = count.get(kind, 1.0) / chosen.sum()
        share[labels == label] /= share[labels == label].sum()
    return share


def read(model: SemanticModel, window: str, origin: Origin) -> tuple[Floats, float]:
    """A window's `features`, and the log-odds that the calibration makes of it without a direction."""
    weights = model.calibration.weights[origin]
    found = model.encoder.encode(window)
    [(_, _, suspicion)] = model.front(window, origin, [(0, len(window))])
    said = weights.offset + weights.encoder * float(found.origins[column(origin)]) + weights.front * suspicion
    return features(found), said + weights.unread * unread(window)


def features(found: Encoded) -> Floats:
    """What is known of a window, float64 (WIDTH + origins,)."""
    return np.concatenate([found.embedding, SMALL * found.origins]).astype(np.float64)


def served(direction: Floats, constant: float) -> list[float]:
    """A direction among `features`, and what it adds to all, as ``calibration.json`` has it."""
    return np.append(np.concatenate([direction[:WIDTH], SMALL * direction[WIDTH:]]), constant).round(5).tolist()  # type: ignore[no-any-return]


def fitted(inputs: Floats, labels: Ints, weights: Floats, ridge: float, given: Floats | None = None) -> tuple[Floats, float]:
    """The direction (features,) and the constant, by Newton's method; ``given`` (texts,) is log-odds that they are added to."""
    inputs = np.hstack([inputs, np.ones((len(inputs), 1))])
    known = np.zeros(len(inputs)) if given is None else given
    share = weights / weights.mean()
    pull = np.append(np.full(inputs.shape[1] - 1, ridge / WIDTH), 1e-6)
    found = np.zeros(inputs.shape[1])
    for _ in range(STEPS):
        said = 1 / (1 + np.exp(-np.clip(inputs @ found + known, -30, 30)))
        slope = inputs.T @ (share * (said - labels)) + pull * found
        bend = (inputs * (share * said * (1 - said))[:, None]).T @ inputs + np.diag(pull)
        step = np.linalg.solve(bend, slope)
        step *= min(1.0, LONGEST / max(float(np.abs(step).max()), LONGEST))
        found -= step
        if np.abs(step).max() < 1e-4:
            break
    return found[:-1], float(found[-1])


def held_out(
    inputs: Floats, labels: Ints, weights: Floats, parts: Ints, ridge: float, given: Floats | None = None
) -> Floats:
    """For each text the log-odds (texts,) by what was fitted on the other parts."""
    known = np.zeros(len(inputs)) if given is None else given
    scores = np.zeros(len(parts))
    for part in range(PARTS):
        left = parts != part
        direction, constant = fitted(inputs[left], labels[left], weights[left], ridge, known[left])
        scores[~left] = inputs[~left] @ direction + constant + known[~left]
    return scores
