"""A direction among the embeddings and logits of the encoder that ships: logistic regression with a ridge.

It takes seconds, and the encoder, the index and what was learnt elsewhere stay as they are.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from detectors.semantic.encoder import Encoded
from detectors.semantic.judge import WIDTH

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PARTS: Final = 5
"""Parts into which texts are dealt for the held-out scores."""

STEPS: Final = 50
"""Newton's steps, of which it takes some ten."""

SMALL: Final = 1 / 24
"""Makes logits as small as an embedding's coordinates are: the ridge weighs on all alike."""


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
