"""The semantic cascade: front stage, then encoder and index for the windows it could not settle, to one probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from detectors.semantic.encoder import Encoded, Encoder
from detectors.semantic.fast import FastModel
from detectors.semantic.heads import column
from detectors.semantic.index import ExemplarIndex, Neighbour
from detectors.semantic.windows import spans
from detectors.values import Origin
from patterns.taxonomy import CATEGORIES

MODELS: Final = Path(__file__).parent.parent / "models"

MAX_ENCODED: Final = 64
"""Windows of one text that the encoder reads, the most suspicious first: a quarter of a second of one core. What is
left over makes the judgement incomplete."""

SAME: Final = 0.97
"""Cosine from which a window is taken for its nearest exemplar: then the exemplar's label decides."""

KNOWN_ATTACK: Final = 0.98
KNOWN_HARMLESS: Final = 0.02
"""Scores of a window that an attack exemplar, or a harmless one, decided."""

FILES: Final = ("fast.npz", "encoder.onnx", "tokenizer.json", "index.npz", "calibration.json")


class ModelMissing(RuntimeError):  # noqa: N818 - a state of the installation that callers turn into a skipped stage
    """A file of the model is not there or cannot be read; the message names it."""


class Judgement(NamedTuple):
    """What the model says of one text.

    ``score`` is the probability of an attack, calibrated and comparable across origins and stages. ``stage`` is the one
    that settled it: ``fast``, ``index`` or ``encoder``. ``start`` and ``end`` bound the deciding window in code points.
    ``category`` is the likeliest threat (``category.subcategory``), empty where the front stage settled it. ``neighbour``
    is the nearest exemplar's id. ``complete`` is false where windows were left unread (see `MAX_ENCODED`).
    """

    score: float
    stage: str
    windows: int
    encoded: int
    category: str
    neighbour: str | None
    start: int
    end: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Calibration:
    """From logits to probabilities, per origin.

    Attributes:
        fast: slope and offset of the front stage's logit.
        sure: front-stage logits below which a window is settled as harmless.
        encoder: weights of (1, encoder logit, front-stage logit, similarity to attacks less that to harmless text).
        thresholds: the score from which a preset acts, by preset and origin.
    """

    fast: dict[Origin, tuple[float, float]]
    sure: dict[Origin, float]
    encoder: dict[Origin, tuple[float, float, float, float]]
    thresholds: dict[str, dict[Origin, float]]

    @classmethod
    def load(cls, path: Path) -> Calibration:
        raw: dict[str, Any] = orjson.loads(path.read_bytes())
        return cls(
            {Origin(k): (v[0], v[1]) for k, v in raw["fast"].items()},
            {Origin(k): float(v) for k, v in raw["sure"].items()},
            {Origin(k): (v[0], v[1], v[2], v[3]) for k, v in raw["encoder"].items()},
            {k: {Origin(o): float(t) for o, t in v.items()} for k, v in raw["thresholds"].items()},
        )


class SemanticModel:
    """Everything that judges by meaning, loaded once; immutable, and safe to share between threads."""

    def __init__(self, fast: FastModel, encoder: Encoder, index: ExemplarIndex, calibration: Calibration) -> None:
        self._fast, self._encoder, self._index, self.calibration = fast, encoder, index, calibration
        self._categories = [name for name, category in CATEGORIES.items() if category.attack]

    @classmethod
    def load(cls, folder: Path = MODELS) -> SemanticModel:
        """Load the shipped model, or another of the same files.

        Raises:
            ModelMissing: a file is missing, or none of the kind that it should be.
        """
        for name in FILES:
            if not (folder / name).is_file():
                raise ModelMissing(f"{folder / name} is missing: the semantic stages cannot run")
        try:
            return cls(
                FastModel.load(folder / "fast.npz"),
                Encoder(folder / "encoder.onnx", folder / "tokenizer.json"),
                ExemplarIndex.load(folder / "index.npz"),
                Calibration.load(folder / "calibration.json"),
            )
        except Exception as error:  # the readers of four formats raise errors of four libraries, all meaning this
            raise ModelMissing(f"{folder}: not a model: {error}") from error

    @property
    def index(self) -> ExemplarIndex:
        return self._index

    @property
    def encoder(self) -> Encoder:
        return self._encoder

    def with_index(self, index: ExemplarIndex) -> SemanticModel:
        """The same model with other exemplars; whoever holds the old one keeps it."""
        return SemanticModel(self._fast, self._encoder, index, self.calibration)

    def fast_only(self, text: str, origin: Origin) -> float:
        """The probability that the front stage alone gives: tens of microseconds for a short text."""
        slope, offset = self.calibration.fast[origin]
        return _sigmoid(slope * float(self._fast.logits(text, spans(text), origin).max()) + offset)

    def judge(self, texts: Sequence[tuple[str, Origin]], thorough: bool = False) -> list[Judgement]:
        """Judge texts, each by itself: the answers do not depend on what else is asked.

        With ``thorough`` the front stage settles nothing: for texts in which another stage (a lexical finding, a decoded
        layer) has seen something.
        """
        return [self._judge(text, origin, thorough) for text, origin in texts]

    def _judge(self, text: str, origin: Origin, thorough: bool) -> Judgement:
        pieces = spans(text)
        suspicion = self._fast.logits(text, pieces, origin)
        unsettled = np.flatnonzero(suspicion >= (-np.inf if thorough else self.calibration.sure[origin]))
        if not len(unsettled):
            slope, offset = self.calibration.fast[origin]
            worst = int(suspicion.argmax())
            score = _sigmoid(slope * float(suspicion[worst]) + offset)
            return Judgement(score, "fast", len(pieces), 0, "", None, *pieces[worst], True)
        order = unsettled[np.argsort(-suspicion[unsettled], kind="stable")][:MAX_ENCODED]
        best: Judgement | None = None
        for at in order.tolist():
            start, end = pieces[at]
            found = self._window(text[start:end], float(suspicion[at]), origin)
            if best is None or found[0] > best.score:
                best = Judgement(found[0], found[1], len(pieces), len(order), found[2], found[3], start, end,
                                 len(order) == len(unsettled))
        assert best is not None  # order is never empty here
        return best

    def _window(self, text: str, suspicion: float, origin: Origin) -> tuple[float, str, str, str | None]:
        """Score, stage, category and neighbour of one window."""
        encoded = self._encoder.encode(text)
        near = self._index.nearest(encoded.embedding, NEIGHBOURS)
        category = threat(self._categories[int(encoded.categories.argmax())], near)
        nearest = near[0] if near else None
        if nearest and nearest.similarity >= SAME:
            if nearest.exemplar.attack:
                return KNOWN_ATTACK, "index", nearest.exemplar.category, nearest.exemplar.id
            return KNOWN_HARMLESS, "index", category, nearest.exemplar.id
        weights = self.calibration.encoder[origin]
        logit = float(encoded.origins[column(origin)])
        total = weights[0] + weights[1] * logit + weights[2] * suspicion + weights[3] * lean(near)
        return _sigmoid(total), "encoder", category, nearest.exemplar.id if nearest else None


NEIGHBOURS: Final = 8
"""Exemplars asked for: enough that both sorts are mostly among them."""


def threat(category: str, near: Sequence[Neighbour]) -> str:
    """The category with the subcategory of the nearest exemplar of it, or its first one where none is near."""
    for neighbour in near:
        if neighbour.exemplar.category.partition(".")[0] == category:
            return neighbour.exemplar.category
    return f"{category}.{CATEGORIES[category].subcategories[0]}"


def lean(near: Sequence[Neighbour]) -> float:
    """Which way the neighbours lean: the highest similarity to an attack less that to a harmless one, in -1..1."""
    attack = max((n.similarity for n in near if n.exemplar.attack), default=0.0)
    harmless = max((n.similarity for n in near if not n.exemplar.attack), default=0.0)
    if attack and harmless:
        return attack - harmless
    return 0.2 if attack else -0.2 if harmless else 0.0


def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, logit))))


__all__ = ["Calibration", "Encoded", "Judgement", "ModelMissing", "SemanticModel", "lean"]
