"""Train an encoder that knows its sources further, on what was written by hand beside windows of them; its front stage anew.

An encoder that has learnt its sources by heart tells others' attacks less well than it could: hand-written pairs, of which only
the meaning tells which is hostile, draw it away from what gives a source away. The windows beside them keep what it knows. The
front stage learns from the same texts and from what the encoder says of them: what that settles, no encoder reads.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch

from detectors.semantic.encoder import Encoder as ServedEncoder
from detectors.semantic.fast import FastModel, Floats
from detectors.semantic.heads import ORIGINS, column
from detectors.semantic.windows import WINDOW
from detectors.train import dataset, fast_fit, replies, results, written
from detectors.train.direction import Piece
from detectors.train.fit import Corpus, Recipe, fit
from detectors.train.generate import Example
from detectors.train.grammar import Grammar
from detectors.train.model import Encoder
from detectors.train.sources import labels
from detectors.values import Origin

SCALE: Final = 0.35
"""Size of the training set that the windows are drawn of, see `dataset.build`."""

BESIDE: Final = 6000
"""Windows of sources and of the generators beside what was written."""

BESIDE_FRONT: Final = 34_000
"""The same for the front stage. It costs less to train; of twice as many it learns more of the sources and less of the rest."""

DROWNED: Final = 0.5
"""Share of the users' short texts which the front stage is also shown among other sentences. Without these an order among four
copies of one sentence was settled."""

ROOM: Final = 60
"""Characters that must be left for these in a window."""

PASSES: Final = 2
RECIPE: Final = Recipe(rate=6e-5, heads=3e-4)


class Learnt(NamedTuple):
    """Windows that the encoder is trained further on, those that its front stage is fitted on, and those, among the latter, of
    which the encoder is to go on saying what it said before."""

    encoder: list[Example]
    front: list[Example]
    steady: list[Example]


def examples(shared: dataset.Shared, seed: int, held_out: bool | None) -> Learnt:
    """What was written, and windows beside that of the set that `dataset.build` makes of the same arguments."""
    windows = [one for one in dataset.build(shared, seed, held_out, SCALE) if one.text.strip()]
    learnt = [*written.examples(), *foreign(seed)]
    print(f"{len(learnt)} written windows, {BESIDE} beside them, for the front stage {BESIDE_FRONT}", flush=True)
    encoder, front = (random.Random(seed).sample(windows, min(beside, len(windows))) for beside in (BESIDE, BESIDE_FRONT))
    held = steady(seed)
    return Learnt([*learnt, *encoder], [*learnt, *held, *front], held)


def steady(seed: int) -> list[Example]:
    """What was written in English to tell replies and tools' results by: `replies` and `results` read them in the embedding."""
    rng = random.Random(seed)
    found = {one.text: Example(one.text, labels(assistant=float(one.label)), "steady") for one in replies.own(rng)}
    for piece in results.own(Grammar(), rng):
        found.setdefault(piece.text, _told(piece, "steady"))
    return [one for text, one in found.items() if text.strip()]


def foreign(seed: int) -> list[Example]:
    """Orders to models in other languages, which the encoder is to learn: what it says of them now is often wrong."""
    return [_told(piece, "foreign") for piece in results.foreign(Grammar(), random.Random(seed)) if piece.text.strip()]


def _told(piece: Piece, group: str) -> Example:
    """A text that is no more than what tools or documents say."""
    return Example(piece.text, labels(document=float(piece.label), tool_result=float(piece.label)), group)


def further(start: Encoder, learnt: Learnt, checkpoint: Path, minutes: float, seed: int) -> Encoder:
    """The encoder after `PASSES` more or after ``minutes``, see `fit.fit`."""
    return fit(Corpus.of(learnt.encoder), seed, minutes, checkpoint, start, PASSES, RECIPE, Corpus.of(learnt.steady))


def front(taught: Encoder, served: ServedEncoder, learnt: Sequence[Example], seed: int) -> FastModel:
    """The front stage before an encoder, whose vectors of words it begins with, fitted on windows and on what that says of them
    as it is served: in eight bits a processor asks it five times as fast. Its output for replies judges none, see `replies`,
    and teaches none. Half of what it says of users' texts says a net for these alone, which learns nothing of what drowns."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        said = np.array([one.origins for one in pool.map(served.encode, [example.text for example in learnt])])
    said[:, column(Origin.ASSISTANT)] = np.nan
    among = drowned(learnt, random.Random(seed))
    shown = [*learnt, *among.values()]
    told = torch.from_numpy(np.concatenate([said, said[list(among)]])).sigmoid()  # among other sentences it is what it is alone
    everybodys = fast_fit.fit(shown, seed, said=told, encoder=taught)
    return fast_fit.both(everybodys, users_front(taught, said, learnt, seed, everybodys.words))


def users_front(taught: Encoder, said: Floats, learnt: Sequence[Example], seed: int, words: Sequence[str]) -> FastModel:
    """A net for users' texts alone, see `front`; ``said`` are the encoder's logits (windows, origins)."""
    at = column(Origin.USER)
    theirs = [row for row, one in enumerate(learnt) if one.labels[at] >= 0]
    told = torch.from_numpy(said[theirs]).sigmoid()
    told[:, [output for output in range(len(ORIGINS)) if output != at]] = torch.nan
    return fast_fit.fit([learnt[row] for row in theirs], seed, said=told, encoder=taught, words=words)


def drowned(learnt: Sequence[Example], rng: random.Random) -> dict[int, Example]:
    """Some users' texts with ordinary sentences before and behind them, until a window is full, by where they stand in
    ``learnt``: of long texts a window shows little of what matters."""
    user = column(Origin.USER)
    around = [one.text for one in learnt if one.labels[user] == 0 and not one.group.startswith("written")]
    found = {}
    for at, one in enumerate(learnt):
        room = WINDOW - len(one.text) - 2
        if one.labels[user] >= 0 and around and room >= ROOM and rng.random() < DROWNED:
            cut = rng.randint(0, room)
            before = _filled(around, cut, rng)[-cut:] if cut else ""
            behind = _filled(around, room - cut, rng)[: room - cut]
            told = labels(user=1.0) if one.labels[user] else labels(user=0.0, system=0.0)
            found[at] = replace(one, text=f"{before} {one.text} {behind}".strip(), labels=told)
    return found


def _filled(texts: Sequence[str], length: int, rng: random.Random) -> str:
    """Some of the texts in a row, of at least that length."""
    found = ""
    while len(found) < length:
        found += f"{rng.choice(texts)} "
    return found


def scaled(model: FastModel, like: FastModel, learnt: Sequence[Example]) -> FastModel:
    """A front stage on the scale of another one, which a calibration was made for.

    Its logits get the mean and the deviation that the other's have: where texts were written for an origin, on the windows of
    the harmless ones among those that are kept out of all training, else on the harmless windows of ``learnt``.
    """
    kept = [one for one in written.texts() if one.kept and not one.label]
    for origin in ORIGINS:
        texts = [piece for one in kept if one.origin is origin for piece in dataset.windows_of(one.text)]
        texts = texts or [one.text for one in learnt if one.labels[column(origin)] == 0]
        if texts:
            model = fast_fit.rescaled(model, origin, like, texts)
    return model
