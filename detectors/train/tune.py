"""Train an encoder that knows its sources further, on what was written by hand beside windows of them.

An encoder that has learnt its sources by heart tells others' attacks less well than it could: hand-written pairs, of which only
the meaning tells which is hostile, draw it away from what gives a source away. The windows beside them keep what it knows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from detectors.train import dataset, written
from detectors.train.fit import Corpus, Recipe, fit
from detectors.train.generate import Example
from detectors.train.model import Encoder

SCALE: Final = 0.35
"""Size of the training set that the windows are drawn of, see `dataset.build`."""

BESIDE: Final = 4000
"""Windows of sources and of the generators beside what was written."""

PASSES: Final = 2
RECIPE: Final = Recipe(rate=6e-5, heads=3e-4)


def examples(shared: dataset.Shared, seed: int, held_out: bool | None) -> list[Example]:
    """What was written, and `BESIDE` windows of the set that `dataset.build` makes of the same arguments."""
    windows = [one for one in dataset.build(shared, seed, held_out, SCALE) if one.text.strip()]
    learnt = written.examples()
    print(f"{len(learnt)} written windows, {BESIDE} beside them", flush=True)
    return [*learnt, *random.Random(seed).sample(windows, min(BESIDE, len(windows)))]


def tune(encoder: Encoder, learnt: Sequence[Example], checkpoint: Path, minutes: float, seed: int) -> Encoder:
    """The encoder after `PASSES` over such windows, or after ``minutes``; see `fit.fit`."""
    return fit(Corpus.of(learnt), seed, minutes, checkpoint, encoder, PASSES, RECIPE)
