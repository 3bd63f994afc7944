"""The semantic cascade: front stage, then encoder and index for the windows it could not settle, to one probability."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from detectors.semantic.encoder import Encoded, Encoder, Floats
from detectors.semantic.fast import FastModel, tokens
from detectors.semantic.heads import column
from detectors.semantic.index import ExemplarIndex, Neighbour
from detectors.semantic.scripts import unread
from detectors.semantic.windows import spans
from detectors.values import Origin
from patterns.taxonomy import CATEGORIES

MODELS: Final = Path(__file__).parent.parent / "models"

MAX_ENCODED: Final = 64
"""Windows of one text that the encoder reads, the most suspicious first: a quarter of a second of one core. What is
left over makes the judgement incomplete."""

SAME: Final = 0.985
"""Cosine from which a window is taken for its nearest exemplar: then the exemplar's label decides. Fine-tuning draws texts
of a sort together: on unseen sources a harmless text may lie at 0.97 of an attack that it has nothing to do with."""

READ: Final = 1 / 3
"""Share of words unknown to the encoder up to which it can tell one exemplar from another."""

UNREAD: Final = 0.8
"""Share from which on it reads nothing of a window: to it any two lines of Thai are one and the same."""

WIDTH: Final = 384
"""Coordinates of an embedding."""

LEAST: Final = 3
"""Words without which nobody but a user orders anything. Hardly a text of training was as short, and what the encoder says of a
tool's "No results" or "y" is chance."""

_PROMPTS: Final = frozenset({Origin.USER, Origin.SYSTEM})

KNOWN_ATTACK: Final = 0.98
KNOWN_HARMLESS: Final = 0.02
"""Scores of a window that an attack exemplar, or a harmless one, decided."""

LEARNT_ATTACK: Final = 0.97
"""The score of a window near a learnt prototype: every preset that acts blocks it, from a user or in a document."""

UNSPECIFIED: Final = "prompt_injection.instruction_override"
"""The threat of what the front stage alone calls an attack: it tells none apart, and most attacks are of this one."""

FILES: Final = ("fast.npz", "encoder.onnx", "tokenizer.json", "index.npz", "calibration.json")


class ModelMissing(RuntimeError):  # noqa: N818 - a state of the installation that callers turn into a skipped stage
    """A file of the model is not there or cannot be read; the message names it."""


class Reading(NamedTuple):
    """What encoder and index say of one window, whoever speaks it; it depends on the window's text alone.

    ``origins`` (origins,) are the encoder's logits, ``category`` the likeliest threat (``category.subcategory``), ``near``
    the nearest exemplar, ``lean`` as the function of that name, ``search_ns`` what the search of the index took,
    ``embedding`` (384,) the window's own, ``unread`` the share of its tokens that the encoder does not know, ``words`` how many
    it knows that are words or parts of words.
    """

    origins: Floats
    category: str
    near: Neighbour | None
    lean: float
    search_ns: int
    embedding: Floats
    unread: float
    words: int

    @property
    def blind(self) -> bool:
        """Whether nothing of the window was read."""
        return self.unread >= UNREAD

    @property
    def same(self) -> Neighbour | None:
        """The exemplar that the window is, but for a word or a letter."""
        near = self.near
        return near if near and near.similarity >= SAME and self.unread <= READ else None


class Weighed(NamedTuple):
    """A window's probability of attack, and the stage (``fast``, ``index``, ``encoder``) and exemplar it rests on."""

    score: float
    stage: str
    category: str
    exemplar: str | None


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


class Weights(NamedTuple):
    """What makes log-odds of attack of what is known of a window, under one origin.

    Attributes:
        offset: added to all. encoder, front: of the logits.
        lean: of the similarity to attacks less that to harmless text.
        evidence: of what other stages found, see `detectors.cascade.EVIDENCE`.
        windows: of the logarithm of a text's windows, at most `MOST_WINDOWS` of them: the highest of many is high by chance.
        unread: of the share of letters that the encoder reads one by one (see `detectors.semantic.scripts`).
    """

    offset: float
    encoder: float
    front: float
    lean: float
    evidence: float
    windows: float
    unread: float


MOST_WINDOWS: Final = 8
"""Windows from which on a text's length counts for nothing more: nobody is to hide an order by what is put around it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """From logits to probabilities, per origin.

    Attributes:
        fast: slope and offset of the front stage's logit.
        sure: front-stage logits below which a window is settled as harmless.
        weights: what makes log-odds of what is known of a window.
        directions: by origin whose own logit saw too few texts of a sort, what each coordinate of an embedding and each of the
            encoder's logits adds to them, and what all get, (WIDTH + origins + 1,).
        thresholds: the score from which a preset acts, by preset and origin.
        encoder: the `Encoder.digest` that all of it is for; empty where nobody said.
    """

    fast: dict[Origin, tuple[float, float]]
    sure: dict[Origin, float]
    weights: dict[Origin, Weights]
    directions: dict[Origin, Floats]
    thresholds: dict[str, dict[Origin, float]]
    encoder: str = ""

    @classmethod
    def load(cls, path: Path) -> Calibration:
        raw: dict[str, Any] = orjson.loads(path.read_bytes())
        return cls(
            {Origin(k): (v[0], v[1]) for k, v in raw["fast"].items()},
            {Origin(k): float(v) for k, v in raw["sure"].items()},
            {Origin(k): Weights(**v) for k, v in raw["weights"].items()},
            {Origin(k): np.array(v, np.float32) for k, v in raw.get("directions", {}).items()},
            {k: {Origin(o): float(t) for o, t in v.items()} for k, v in raw["thresholds"].items()},
            raw.get("encoder", ""),
        )

    def meaning(self, embeddings: Floats, logits: Floats, origin: Origin) -> Floats:
        """What embeddings (..., WIDTH) and logits (..., origins) add to log-odds (...)."""
        direction = self.directions.get(origin)
        if direction is None:
            return np.zeros(embeddings.shape[:-1], np.float32)
        return np.asarray(embeddings @ direction[:WIDTH] + logits @ direction[WIDTH:-1] + direction[-1], np.float32)

    def reported(self, origin: Origin) -> float:
        """The score from which a judgement is told: the lowest that a preset acts on."""
        return min(thresholds[origin] for thresholds in self.thresholds.values())


_SERIALS: Final = itertools.count()


class SemanticModel:
    """Everything that judges by meaning, loaded once; immutable, and safe to share between threads.

    ``serial`` is different for each in a process: what one has read must not be taken for what another one would.
    """

    def __init__(self, fast: FastModel, encoder: Encoder, index: ExemplarIndex, calibration: Calibration) -> None:
        self._fast, self._encoder, self._index, self.calibration = fast, encoder, index, calibration
        self._categories = [name for name, category in CATEGORIES.items() if category.attack]
        self.serial = next(_SERIALS)

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
            fast, index = FastModel.load(folder / "fast.npz"), ExemplarIndex.load(folder / "index.npz")
            encoder = Encoder(folder / "encoder.onnx", folder / "tokenizer.json")
            calibration = Calibration.load(folder / "calibration.json")
        except Exception as error:  # the readers of four formats raise errors of four libraries, all meaning this
            raise ModelMissing(f"{folder}: not a model: {error}") from error
        if calibration.encoder not in ("", encoder.digest):  # the other files' formats have checksums of their own
            raise ModelMissing(f"{folder / 'encoder.onnx'} is damaged, or not the one that calibration.json is for")
        return cls(fast, encoder, index, calibration)

    @property
    def index(self) -> ExemplarIndex:
        return self._index

    @property
    def fast(self) -> FastModel:
        return self._fast

    @property
    def encoder(self) -> Encoder:
        return self._encoder

    def front(
        self, text: str, origin: Origin, windows: Sequence[tuple[int, int]] | None = None
    ) -> list[tuple[int, int, float]]:
        """The front stage's logit of each window of a text: (start, end, logit). Tens of microseconds for a short text.

        Of a document's, a tool's or an assistant's single word ("auto", "{}") it knows nothing: it is settled.

        ``windows``: others than those that a text is judged in.
        """
        pieces = spans(text) if windows is None else windows
        logits = self._fast.logits(text, pieces, origin)
        if origin not in _PROMPTS:
            settled = self.calibration.sure[origin] - _SETTLED
            logits = [min(logit, settled) if end - start <= SHORT and _one(text[start:end]) else logit
                      for (start, end), logit in zip(pieces, logits, strict=True)]  # fmt: skip
        return [(start, end, logit) for (start, end), logit in zip(pieces, logits, strict=True)]

    def words(self, text: str, windows: Sequence[tuple[int, int]]) -> Floats:
        """The mean word vector of each window of a text, float32 (windows, d)."""
        return self._fast.means(text, windows)

    def setting(self, window: str, windows: int, origin: Origin) -> float:
        """What a window's company, ``windows`` in its text, and its script add to its log-odds."""
        weights = self.calibration.weights[origin]
        return weights.windows * math.log(min(windows, MOST_WINDOWS)) + weights.unread * unread(window)

    def front_score(self, suspicion: float, evidence: float, origin: Origin, setting: float = 0.0) -> float:
        """The probability that the front stage's logit gives, with what other stages found and the window's `setting`."""
        slope, offset = self.calibration.fast[origin]
        return _sigmoid(slope * suspicion + offset + self.calibration.weights[origin].evidence * evidence + setting)

    def read(self, window: str) -> Reading:
        """Encode one window and look for its neighbours: milliseconds. May be called by several threads at once."""
        encoded = self._encoder.encode(window)
        began = time.perf_counter_ns()
        near = self._index.nearest(encoded.embedding, NEIGHBOURS)
        searched = time.perf_counter_ns() - began
        category = threat(self._categories[int(encoded.categories.argmax())], near)
        return Reading(encoded.origins, category, near[0] if near else None, lean(near), searched, encoded.embedding,
                       encoded.unread, encoded.words)  # fmt: skip

    def weigh(
        self, reading: Reading | None, suspicion: float, evidence: float, origin: Origin, setting: float = 0.0
    ) -> Weighed:
        """The probability that a window attacks; where there is no reading, or a blind one, by the front stage alone."""
        if reading is None or reading.blind:
            return Weighed(self.front_score(suspicion, evidence, origin, setting), "fast", UNSPECIFIED, None)
        near = reading.near
        if same := reading.same:
            if same.exemplar.attack:
                return Weighed(KNOWN_ATTACK, "index", same.exemplar.category, same.exemplar.id)
            return Weighed(KNOWN_HARMLESS, "index", reading.category, same.exemplar.id)
        if reading.words < LEAST and origin not in _PROMPTS:
            return Weighed(self.front_score(suspicion, evidence, origin, setting), "fast", UNSPECIFIED, None)
        weights = self.calibration.weights[origin]
        logit = float(reading.origins[column(origin)])
        meant = float(self.calibration.meaning(reading.embedding, reading.origins, origin))
        total = (weights.offset + weights.encoder * logit + meant + weights.front * suspicion + weights.lean * reading.lean
                 + weights.evidence * evidence + setting)  # fmt: skip
        return Weighed(_sigmoid(total), "encoder", reading.category, near.exemplar.id if near else None)

    def judge(self, texts: Sequence[tuple[str, Origin]], thorough: bool = False) -> list[Judgement]:
        """Judge texts, each by itself: the answers do not depend on what else is asked.

        With ``thorough`` the front stage settles nothing: for texts in which another stage (a lexical finding, a decoded
        layer) has seen something.
        """
        return [self._judge(text, origin, thorough) for text, origin in texts]

    def _judge(self, text: str, origin: Origin, thorough: bool) -> Judgement:
        windows = sorted(self.front(text, origin), key=lambda window: -window[2])
        sure = -math.inf if thorough else self.calibration.sure[origin]
        unsettled = [window for window in windows if window[2] >= sure]
        if not unsettled:
            start, end, worst = windows[0]
            score = self.front_score(worst, 0.0, origin, self.setting(text[start:end], len(windows), origin))
            return Judgement(score, "fast", len(windows), 0, "", None, start, end, True)
        read = unsettled[:MAX_ENCODED]
        best, at = max(
            ((self._weighed(text[start:end], len(windows), logit, origin), (start, end)) for start, end, logit in read),
            key=lambda found: found[0].score,
        )
        return Judgement(best.score, best.stage, len(windows), len(read), best.category, best.exemplar, *at,
                         len(read) == len(unsettled))  # fmt: skip

    def _weighed(self, window: str, windows: int, suspicion: float, origin: Origin) -> Weighed:
        return self.weigh(self.read(window), suspicion, 0.0, origin, self.setting(window, windows, origin))


SHORT: Final = 16
"""Characters of a window that may be a single word. Longer ones may be several that somebody wrote together."""

_SETTLED: Final = 1e-3
"""How far below the bar what is settled in any case lies."""


def _one(window: str) -> bool:
    return sum(token.isalnum() for token in tokens(window)) < 2


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


__all__ = ["Calibration", "Encoded", "Judgement", "ModelMissing", "Reading", "SemanticModel", "Weighed", "lean"]
