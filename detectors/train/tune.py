"""Train an encoder that knows its sources further, on what was written by hand beside windows of them.

An encoder that has learnt its sources by heart tells others' attacks less well than it could: hand-written pairs, of which only
the meaning tells which is hostile, draw it away from what gives a source away. The windows beside them keep what it knows. The
front stage before it is trained further with them, too: what that settles, no encoder reads.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from detectors.semantic.fast import FastModel
from detectors.semantic.heads import ORIGINS, column
from detectors.train import dataset, fast_fit, replies, results, written
from detectors.train.ensemble import judged
from detectors.train.fit import Corpus, Recipe, fit
from detectors.train.generate import Example
from detectors.train.grammar import Grammar
from detectors.train.model import Encoder
from detectors.train.sources import labels

SCALE: Final = 0.35
"""Size of the training set that the windows are drawn of, see `dataset.build`."""

BESIDE: Final = 6000
"""Windows of sources and of the generators beside what was written."""

BESIDE_FRONT: Final = 16_000
"""The same for the front stage. It costs less to train."""

PASSES: Final = 2
RECIPE: Final = Recipe(rate=6e-5, heads=3e-4)


class Learnt(NamedTuple):
    """Windows that the encoder is trained further on, those that its front stage is, and those of which the encoder is to go on
    saying what it said before."""

    encoder: list[Example]
    front: list[Example]
    steady: list[Example]


def examples(shared: dataset.Shared, seed: int, held_out: bool | None) -> Learnt:
    """What was written, and windows beside that of the set that `dataset.build` makes of the same arguments."""
    windows = [one for one in dataset.build(shared, seed, held_out, SCALE) if one.text.strip()]
    learnt = written.examples()
    print(f"{len(learnt)} written windows, {BESIDE} beside them, for the front stage {BESIDE_FRONT}", flush=True)
    encoder, front = (random.Random(seed).sample(windows, min(beside, len(windows))) for beside in (BESIDE, BESIDE_FRONT))
    return Learnt([*learnt, *encoder], [*learnt, *front], steady(seed))


def steady(seed: int) -> list[Example]:
    """What was written to tell replies and tools' results by: `replies` and `results` read them in the embedding.

    Among them are orders to models in other languages, of which the logits stay too, mistaken ones as well.
    """
    rng = random.Random(seed)
    texts = [one.text for one in replies.own(rng)] + [one.text for one in results.own(Grammar(), rng)]
    return [Example(text, labels(), "steady") for text in dict.fromkeys(texts) if text.strip()]


def tune(
    model: FastModel, encoder: Encoder, learnt: Learnt, checkpoint: Path, minutes: float, seed: int
) -> tuple[FastModel, Encoder]:
    """Both after they were trained further: the encoder for `PASSES` or for ``minutes``, see `fit.fit`, and then `front`."""
    encoder = fit(Corpus.of(learnt.encoder), seed, minutes, checkpoint, encoder, PASSES, RECIPE, Corpus.of(learnt.steady))
    return front(model, encoder, learnt.front, seed), encoder


def front(model: FastModel, encoder: Encoder, learnt: Sequence[Example], seed: int) -> FastModel:
    """The front stage before such an encoder, trained further on windows and on what that says of them.

    What it says is brought to the scale that it had, since the bar below which a text is settled is of that scale: where texts
    were written for an origin, on the harmless ones among those that are kept out of all training, else on the windows.
    """
    further = fast_fit.further(model, learnt, seed, judged(encoder, Corpus.of(learnt)).sigmoid())
    kept = [one for one in written.texts() if one.kept and not one.label]
    for origin in ORIGINS:
        texts = [one.text for one in kept if one.origin is origin]
        texts = texts or [one.text for one in learnt if one.labels[column(origin)] >= 0]
        if texts:
            further = fast_fit.rescaled(further, origin, model, texts)
    return further
