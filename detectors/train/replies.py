"""What judges an assistant's own words: a direction among the embeddings of the encoder that ships, fitted on replies.

The encoder's output for that origin saw a few hundred wordings of hostile replies and, as harmless ones, little but users'
questions: of everyday replies ("Your password was changed") it called one in thirty an attack. The labelled sources hold two
thousand replies that no encoder was trained on; with them, with what was written for it, and with users' own texts, which
replies repeat, a linear reading of the embedding tells better, in a second of training. It is a weighing of what the encoder
gives, so the encoder, the index and what was learnt elsewhere stay as they are.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.figures import auc
from detectors.semantic.judge import SemanticModel
from detectors.semantic.windows import WINDOW, spans
from detectors.train.direction import PARTS, Floats, features, fitted, held_out, served
from detectors.train.grammar import Grammar
from detectors.train.sources import read_replies, read_rows
from detectors.values import Origin
from patterns import packs

WORDINGS: Final = {"assistant": 6, "agent_reply": 6, "call": 6, "assistant_attack": 12, "agent_reply_attack": 12}
"""Texts that are drawn of each template."""

LESS: Final = {"call": 0.1, "command": 0.3, "agent_reply": 0.5}
"""What kinds weigh that count for less than others. One direction has to do for prose and for commands: where these weigh as
much, half of what is told of hostile prose is lost; without them, most of the commands. What agents say of their work is full
of harmless commands, beside which hostile ones have to weigh more."""

CALLS: Final = ("{}", '{{"cmd":"{}"}}', '{{"command":"{}"}}', '{{"code":"{}"}}')
"""How a command stands in a reply: by itself, as it is judged where it is a string of a call's arguments, and within these."""

ECHOED: Final = 40
"""Users' ordinary texts of each source that count as replies: an assistant may say again whatever it was told."""

ECHOES: Final = ("{}", "You said: {}", "You wrote: {}", "Here is the text: {}", "{} Is that right?")

RIDGES: Final = (10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0)

ANCHORS: Final = {"strict": 0.03, "balanced": 0.005}
"""Share of the replies that no encoder was trained on which reach a preset's bar, so that the bars stay where they are."""


class Reply(NamedTuple):
    """A text as an assistant says it, 1 where it is hostile; ``whence`` is dealt as a whole. ``unseen``: no encoder was trained
    on it."""

    text: str
    label: int
    whence: str
    weight: float = 1.0
    unseen: bool = False

    @property
    def kind(self) -> str:
        return self.whence.partition(": ")[0]


class Fitted(NamedTuple):
    """What was found, and how it does on what was held out.

    ``made`` is what takes the place of the origin's part of ``calibration.json``; ``figures`` are for people.
    """

    made: dict[str, Any]
    figures: dict[str, float]


def replies(data: Path, seed: int) -> list[Reply]:
    """All that is learnt from."""
    rng = random.Random(seed)
    found = own(rng)
    found += [Reply(text, 0, source, unseen=unseen) for text, source, unseen in read_replies(data)]
    by_source: dict[str, list[str]] = {}
    for row in read_rows(data):
        if row.kind == "benign" and row.origin is Origin.USER:
            by_source.setdefault(row.source, []).append(row.text)
    for source, asked in sorted(by_source.items()):
        for text in rng.sample(asked, min(ECHOED, len(asked))):
            found.append(Reply(rng.choice(ECHOES).format(text), 0, f"said again: {source}"))
    return found


def own(rng: random.Random) -> list[Reply]:
    """The replies that need no sources: written ones, and the examples of the packs' patterns of harmful code."""
    return [*_written(rng), *_commands(rng)]


def _written(rng: random.Random) -> Iterator[Reply]:
    grammar = Grammar()
    for section, times in WORDINGS.items():
        hostile = section.endswith("_attack")
        for template in grammar.sections[section]:
            texts = dict.fromkeys(grammar.wording(template, rng) for _ in range(times))
            for number, text in enumerate(texts):
                if hostile and number % 2:  # within a reply that is none otherwise, in one window
                    other = grammar.text(section.removesuffix("_attack"), rng)[: max(0, WINDOW - len(text) - 1)]
                    text = f"{text} {other}" if rng.random() < 0.5 else f"{other} {text}"
                yield Reply(text[:WINDOW], int(hostile), f"{section}: {template}", 1 / len(texts))


def _commands(rng: random.Random) -> Iterator[Reply]:
    """What the packs' patterns of harmful code are to hit, and what they are not."""
    for pattern in packs.load_all([packs.SHIPPED]):
        if pattern.category.partition(".")[0] == "harmful_code":
            for hostile, texts in enumerate((pattern.misses, pattern.hits)):
                for text in texts:
                    yield Reply(rng.choice(CALLS).format(text), hostile, f"{('call', 'command')[hostile]}: {pattern.id}")


def fit(model: SemanticModel, texts: Sequence[Reply]) -> Fitted:
    """Fit on all texts; scores, for the ridge, the scale and the figures, are by what saw nothing of a text's part."""
    rows = _read(model, texts)
    parts = np.array([zlib.crc32(one.whence.encode()) % PARTS for one in texts])[rows.text]
    by_ridge = {ridge: held_out(rows.features, rows.labels, rows.weights, parts, ridge) for ridge in RIDGES}
    ridge = min(RIDGES, key=lambda ridge: rows.loss(by_ridge[ridge]))
    held = rows.highest(by_ridge[ridge])
    bars = {name: _logit(found[Origin.ASSISTANT]) for name, found in model.calibration.thresholds.items()}
    unseen = held[[one.unseen for one in texts]]
    low, high = (float(np.quantile(unseen, 1 - ANCHORS[name])) for name in ("strict", "balanced"))
    slope = (bars["balanced"] - bars["strict"]) / (high - low)
    offset = bars["strict"] - slope * low
    direction, constant = fitted(rows.features, rows.labels, rows.weights, ridge)
    weights = model.calibration.weights[Origin.ASSISTANT]
    made = {
        "directions": served(slope * direction, slope * constant + offset),
        "weights": weights._replace(offset=0.0, encoder=0.0, front=0.0)._asdict(),
    }
    kinds = np.array([one.kind for one in texts])
    shares = {
        f"{kind}, at {name} or above": float((slope * held[kinds == kind] + offset >= bar).mean())
        for kind in sorted(set(kinds)) for name, bar in bars.items()
    }  # fmt: skip
    counts = {"texts": len(texts), "hostile": int(rows.text_labels.sum())}
    return Fitted(made, {**counts, "ridge": ridge, "auc": auc(held, rows.text_labels), **shares})


def _logit(score: float) -> float:
    return float(np.log(score / (1 - score)))


class _Rows:
    """Windows of all texts: embeddings and logits, (windows, features), and the text of each, (windows,)."""

    def __init__(self, features: Floats, text: npt.NDArray[np.int64], texts: Sequence[Reply]) -> None:
        self.features, self.text = features, text
        self.text_labels = np.array([one.label for one in texts])
        self.labels = self.text_labels[text]
        weights = (_evened(texts) / np.bincount(text, minlength=len(texts)))[text]
        for label in (0, 1):  # attacks and harmless texts weigh the same
            weights[self.labels == label] /= weights[self.labels == label].sum()
        self.weights = weights

    def loss(self, windows: Floats) -> float:
        """What log-odds of the windows cost on the mean (nats), weighed as in the fit."""
        return float(np.average(np.logaddexp(0, windows) - self.labels * windows, weights=self.weights))

    def highest(self, windows: Floats) -> Floats:
        """Of each text the highest of its windows."""
        found = np.full(len(self.text_labels), -np.inf)
        np.maximum.at(found, self.text, windows)
        return found


def _evened(texts: Sequence[Reply]) -> Floats:
    """Each kind of texts (what was written, each source of replies, what is said again) counts the same, but for `LESS`."""
    totals: dict[str, float] = {}
    for one in texts:
        totals[one.kind] = totals.get(one.kind, 0.0) + one.weight
    return np.array([LESS.get(one.kind, 1.0) * one.weight / totals[one.kind] for one in texts])


def _read(model: SemanticModel, texts: Sequence[Reply]) -> _Rows:
    known, whose = [], []
    for number, one in enumerate(texts):
        for start, end in spans(one.text):
            known.append(features(model.encoder.encode(one.text[start:end])))
            whose.append(number)
    return _Rows(np.array(known), np.array(whose), texts)
