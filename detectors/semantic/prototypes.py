"""Prototypes: what a handful of labelled texts of one kind teach, ready to judge the next text of that kind.

A prototype is the direction that tells the mean of its examples from a background (attacks from harmless text, false alarms
from attacks): Fisher's linear discriminant with the background's covariance (Fisher, "The use of multiple measurements in
taxonomic problems", 1936), shrunk towards the identity as five examples in 384 dimensions demand, and drawn towards the one
that tells all known texts of the examples' sort from the background (`DRAWN`). A text's *closeness* is where it falls on that
direction: 0 at the background's mean, 1 at the examples' own. The bar is chosen on the background (`bar`), so the share of
ordinary texts that pass it is known before anything acts.

The same is done a second time with mean word vectors, which cost microseconds: they wake the encoder for windows that the
front stage would have settled as harmless. Were they not, an attack that the front stage misses could never be learnt.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.values import Origin
from patterns.schema import WATCHING, Kind, Pattern, State, acts_on

Floats = npt.NDArray[np.float32]

SHRINKAGE: Final = 0.2
"""How far the covariance moves towards a multiple of the identity. On the families of ``bench learning``, 0.05 catches one
point more of unseen siblings and lets twice the false positives pass; 0.5 the other way round."""

DRAWN: Final = 0.2
"""How much of the direction of all known attacks is added to that of labelled ones. Five labels show some of the ways in which
a family is said; what it says in others lies further from them than any bar allows, and yet on the same side of ordinary text.
Chosen on the families of ``bench/families/tuning.seeds``, which no figure of ``bench learning`` is of: 79.8 % of their unseen
members are stopped instead of 76.8, and of their harmless twins 3.5 points more than before any label instead of 3.3."""

DRAWN_HARMLESS: Final = 0.1
"""The same of harmless kinds, with the direction of all known harmless text: of false alarms of such families 84.4 % pass
instead of 80.5, and of attacks put into and beside labelled texts fewer."""

WAKE_SHARE: Final = 0.05
"""The share of harmless windows that all prototypes together may send to the encoder although the front stage had settled
them. One prototype alone wakes it for nine of ten unseen siblings at this price. Many mostly wake it for the same windows, so
the share is that of all windows that any of them wakes it for: divided by their number it would leave each of fifty a tenth
of a percent, and what was learnt first would be forgotten by and by."""

LEANING: Final = 0.1
"""What the front stage's logit adds to the closeness of words that wakes the encoder. It settled an unseen sibling of an attack
with less confidence than most harmless text, so that at the same price 89 % of siblings wake it instead of 82 % (of the first
ten families of ``bench learning``, thirty prototypes together; on the ten later ones 76 % instead of 70 %)."""

LEAST_CLOSENESS: Final = 0.4
"""No bar is lower, however far the background keeps away: texts unlike all of it (a family of harmless look-alikes nobody
has shown yet) come near by chance. At 0.4, unseen look-alikes pass a prototype's bar in 1.1 % of cases instead of 1.9 %."""

LEAST_QUOTED: Final = 0.15
"""`LEAST_CLOSENESS` of a harmless kind all of whose examples quote: it concerns only texts that quote (`quotes`), which few
attacks do. Nearly all that is stopped although it is harmless mentions an attack, and how it does so varies within a family by
more than the families of ``bench learning`` differ from attacks: at 0.4, what is put in another way than the labelled ones
stays stopped. Chosen on the first ten families; of attacks never seen, 0.2 % are let through by one such kind."""

PREFIX: Final = "embedding:"
"""A body that begins so is no text: ``embedding:MODEL:BASE64``, kept where retention forbids the text itself."""

QUOTES: Final = ":quotes"
"""Ends such a body where the text quotes."""

_LEAST_OWN: Final = 0.5
"""Where examples come to that are of the other sort by all that is known, an embedding that somebody wrote. They then stay
below 1: to set them there would take in what lies anywhere on their side."""

_WIDTH: Final = 384
_LARGEST: Final = 1e6
"""Of a view's numbers, which are below 1 in an embedding and below 100 in words: their squares must not overflow."""


class Views(NamedTuple):
    """What is known of one text: its embedding (384,) of unit length, its word vectors' mean (d,), and whether it `quotes`."""

    embedding: Floats
    words: Floats
    quotes: bool


class Direction(NamedTuple):
    """Weights (width,) and an offset: where a text falls on a direction is its closeness."""

    weights: Floats
    offset: float

    def closeness(self, vectors: Floats) -> Floats:
        """That of texts, float32 (n,), from float32 (n, width)."""
        return vectors @ self.weights + np.float32(self.offset)


class Background:
    """Texts that a prototype is told from: their mean, and the inverse of their shrunk covariance."""

    def __init__(
        self, vectors: Floats, quoting: npt.NDArray[np.bool_] | None = None, others: Floats | None = None, drawn: float = 0.0
    ) -> None:  # fmt: skip
        """
        Args:
            vectors: float32 (n, width), at least two. quoting: bool (n,), whose texts quote; left out where nobody asks.
            others: float32 (m, width), all known texts of the other sort, which examples are of: their direction is added to
                that of examples, ``drawn`` times.
        """
        self.vectors = vectors
        self.quoting = np.ones(len(vectors), np.bool_) if quoting is None else quoting
        self.mean: Floats = vectors.mean(axis=0)
        covariance = np.cov((vectors - self.mean).T).astype(np.float64)
        scale = np.trace(covariance) / len(covariance)
        shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * max(scale, 1e-9) * np.eye(len(covariance))
        self._inverse = np.linalg.inv(shrunk)
        self._drawn = np.zeros(len(shrunk)) if others is None else drawn * self._towards(others.mean(axis=0))

    def direction(self, examples: Floats) -> Direction:
        """What tells texts like ``examples`` (k, width) from the background, drawn: what acts is matched by it."""
        own = examples.mean(axis=0)
        weights = self._towards(own) + self._drawn
        weights /= max(float(weights @ (own - self.mean).astype(np.float64)), _LEAST_OWN)
        return self._from_mean(weights)

    def own(self, examples: Floats) -> Direction:
        """The same by ``examples`` alone: whose word counts is told by it."""
        return self._from_mean(self._towards(examples.mean(axis=0)))

    def closeness(self, examples: Floats, vectors: Floats) -> Floats:
        """How close ``vectors`` (n, width) come to ``examples`` (k, width), float32 (n,)."""
        return self.direction(examples).closeness(vectors)

    def kinship(self, examples: Floats, vectors: Floats) -> Floats:
        """The same by ``examples`` alone."""
        return self.own(examples).closeness(vectors)

    def _from_mean(self, weights: npt.NDArray[np.float64]) -> Direction:
        return Direction(weights.astype(np.float32), -float(self.mean.astype(np.float64) @ weights))

    def _towards(self, mean: Floats) -> npt.NDArray[np.float64]:
        """The direction (width,) that tells texts with this mean from the background: 1 at it."""
        towards = (mean - self.mean).astype(np.float64)
        weights = self._inverse @ towards
        return np.asarray(weights / max(float(weights @ towards), 1e-12))


def bar(
    closeness: Floats, share: float, taken: npt.NDArray[np.bool_] | None = None, most: int = 0, least: float = LEAST_CLOSENESS
) -> float:
    """The closeness to ask for, of four digits, by how close a background's texts come, float32 (n,).

    At most ``share`` of them reach it, and of those that are not ``taken``, bool (n,), at most ``most``; it is ``least`` at
    least.
    """
    asked = max(least, _above(closeness, int(share * len(closeness))))
    if taken is not None and len(others := closeness[~taken]) > most:
        asked = max(asked, _above(others, most))
    return min(1.0, math.ceil(asked * 10_000) / 10_000)


def _above(values: Floats, most: int) -> float:
    """What at most so many of ``values`` lie above."""
    return float(np.partition(values, -most - 1)[-most - 1]) + 1e-6


def _waking(words: Background, suspicion: Floats, examples: Floats) -> Waking:
    weights, offset = words.direction(examples)
    settled = np.where(suspicion < 0, np.float32(LEANING) * suspicion, np.float32(-np.inf))
    closeness = words.vectors @ weights + np.float32(offset) + settled
    count = int(WAKE_SHARE * len(closeness)) + 1
    first = np.argpartition(-closeness, count - 1)[:count]
    first = first[np.argsort(-closeness[first])]
    return Waking(weights, offset, first, closeness[first])


def _shared(wakers: Iterable[Waking], windows: int) -> int:
    """How many harmless windows each may wake the encoder for, so that together they do for `WAKE_SHARE` of them at most."""
    place = np.full(windows, windows)  # of each window, its place with the prototype that it comes closest to by place
    for one in wakers:
        place[one.first] = np.minimum(place[one.first], np.arange(len(one.first)))
    return int(np.partition(place, int(WAKE_SHARE * windows))[int(WAKE_SHARE * windows)])


@dataclass(frozen=True, slots=True)
class Backgrounds:
    """Harmless and hostile texts, each as embeddings and as mean word vectors."""

    harmless: Background
    hostile: Background
    harmless_words: Background
    harmless_suspicion: Floats
    """Of the windows of ``harmless_words``, the front stage's logit less that from which on it settles nothing of a user's."""
    model: str
    """Names the encoder that made the embeddings, `Encoder.digest`."""


class Waking(NamedTuple):
    """When a prototype wakes the encoder for a window, by its mean word vector and what the front stage thought of it.

    ``first`` are the harmless windows that it settled and that come closest, nearest first, as int (m,), and ``closeness``
    how close they come: as many as all prototypes together may wake it for, and one more.
    """

    weights: Floats
    offset: float
    first: npt.NDArray[np.int64]
    closeness: Floats


class Prototype(NamedTuple):
    """One learnt exemplar made ready. ``waking`` is None where it wakes nobody (a harmless kind); ``quoting`` says that it
    concerns only texts that quote; ``own`` is the direction of its texts alone, by which people have a word on it (`akin`)."""

    pattern: Pattern
    weights: Floats
    offset: float
    waking: Waking | None
    own: Direction
    quoting: bool = False

    @property
    def attack(self) -> bool:
        return self.pattern.kind is Kind.SEMANTIC

    def closeness(self, vectors: Floats, quoting: npt.NDArray[np.bool_]) -> Floats:
        """How close texts come, float32 (n,), from embeddings (n, 384) and whether they quote, bool (n,); of those that it
        does not concern, minus infinity."""
        found: Floats = vectors @ self.weights + np.float32(self.offset)
        return np.where(quoting, found, np.float32(-np.inf)) if self.quoting else found

    def reached(self, vectors: Floats, quoting: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which texts come as close as it asks, bool (n,); arguments as of `closeness`."""
        return np.asarray(self.closeness(vectors, quoting) >= (self.pattern.closeness or 1.0))

    def akin(self, vectors: Floats, quoting: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which texts are of its kind, bool (n,): as close as it asks by its own texts alone. Arguments as of `closeness`.

        What it is drawn towards are texts of any kind. Were they of its own, whoever called a harmless text an attack would
        be borne out by all who ever labelled a real one.
        """
        found = self.own.closeness(vectors) >= (self.pattern.closeness or 1.0)
        return np.asarray(found & quoting if self.quoting else found)


class Near(NamedTuple):
    """What the prototypes say of one window.

    ``acting`` is the nearest that acts on this text; ``watching`` the ids of those that came near and do not act yet, or
    not on this text (shadow, canary).
    """

    acting: Pattern | None
    watching: tuple[Pattern, ...]


NOTHING: Final = Near(None, ())


class PrototypeError(ValueError):
    """A learnt exemplar that cannot be made ready; the message names it and says why."""


class Unread(PrototypeError):  # noqa: N818 - says what the text is
    """A text of which the encoder reads next to nothing, so that no other could be known by it."""


def build(pattern: Pattern, views: Callable[[str], Views], backgrounds: Backgrounds) -> Prototype:
    """Make a pattern with a closeness ready.

    Args:
        views: reads a text; bodies and hits that are embeddings are read here.

    Raises:
        PrototypeError: it has no closeness, a text that the encoder cannot read, or an embedding that is damaged or of
            another model.
    """
    if pattern.closeness is None:
        raise PrototypeError(f"{pattern.id}: closeness: a learnt exemplar needs one")
    seen = [read(text, views, backgrounds.model, pattern.id) for text in (pattern.body, *pattern.hits)]
    width = backgrounds.harmless_words.vectors.shape[1]
    if any(len(one.words) != width for one in seen):
        raise PrototypeError(f"{pattern.id}: body: the embedding's mean of word vectors is not {width} wide")
    background = backgrounds.harmless if pattern.kind is Kind.SEMANTIC else backgrounds.hostile
    examples = np.array([one.embedding for one in seen])
    weights, offset = background.direction(examples)
    waking = None
    if pattern.kind is Kind.SEMANTIC:
        words = np.array([one.words for one in seen])
        waking = _waking(backgrounds.harmless_words, backgrounds.harmless_suspicion, words)
    quoting = pattern.kind is Kind.BENIGN and all(one.quotes for one in seen)
    return Prototype(pattern, weights, offset, waking, background.own(examples), quoting)


class Prototypes:
    """Prototypes together, ready for any number of threads; immutable, and cheap to make anew with one more.

    Attributes:
        mentions: whether any that acts concerns only texts that quote.
    """

    def __init__(self, prototypes: Iterable[Prototype], backgrounds: Backgrounds | None) -> None:
        self._all = tuple(prototypes)
        self.mentions = any(one.quoting and one.pattern.state is not State.SHADOW for one in self._all)
        self._waking: tuple[Floats, Floats, Floats] | None = None
        if not self._all:
            return
        assert backgrounds is not None, "prototypes were built over backgrounds"
        self._weights = np.array([one.weights for one in self._all]).T.copy()
        self._offsets = np.array([one.offset for one in self._all], np.float32)
        self._bars = np.array([one.pattern.closeness for one in self._all], np.float32)
        wakers = [one.waking for one in self._all if one.waking is not None]
        if wakers:
            count = _shared(wakers, len(backgrounds.harmless_words.vectors))
            self._waking = (
                np.array([one.weights for one in wakers]).T.copy(),
                np.array([one.offset for one in wakers], np.float32),
                np.array([one.closeness[count] + 1e-6 for one in wakers], np.float32),
            )

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Prototype]:
        return iter(self._all)

    @property
    def wakes(self) -> bool:
        """Whether any may wake the encoder."""
        return self._waking is not None

    def woken(self, means: Floats, suspicion: Floats) -> npt.NDArray[np.bool_]:
        """Which windows the encoder should read, bool (windows,), from their mean word vectors (windows, d) and the front
        stage's logits less that from which on it settles nothing, (windows,)."""
        assert self._waking is not None
        weights, offsets, bars = self._waking
        return np.asarray((means @ weights + offsets + LEANING * suspicion[:, None] >= bars).any(axis=1))

    def near(self, embedding: Floats, origin: Origin, text: str, mentions: Callable[[], bool]) -> Near:
        """What comes near one window of ``text``. Of several that act, the one most above its bar speaks.

        ``mentions`` says whether what concerns only texts that quote concerns this one; it is asked where that matters.
        """
        if not self._all:
            return NOTHING
        above = embedding @ self._weights + self._offsets - self._bars
        close = [(float(above[i]), self._all[i]) for i in np.flatnonzero(above >= 0).tolist()]
        quoted = any(one.quoting for _, one in close) and mentions()
        found = [(by, one.pattern) for by, one in close
                 if (not one.pattern.origins or origin in one.pattern.origins) and (quoted or not one.quoting)]  # fmt: skip
        if not found:
            return NOTHING
        acting = max(((by, one) for by, one in found if acts_on(one, text)), default=None, key=lambda pair: pair[0])
        watching = tuple(one for _, one in found if not acts_on(one, text))
        return Near(acting[1] if acting else None, watching)


def write(views: Views, model: str) -> str:
    """A body for a text that may not be kept: its views in eight bits."""
    parts = []
    for vector in views[:2]:
        scale = max(float(np.abs(vector).max()), 1e-9) / 127
        parts.append(np.float32(scale).tobytes() + np.round(vector / scale).astype(np.int8).tobytes())
    return f"{PREFIX}{model}:{base64.b64encode(b''.join(parts)).decode()}{QUOTES if views.quotes else ''}"


def read(text: str, views: Callable[[str], Views], model: str, owner: str) -> Views:
    """The views of a text, or those that `write` wrote.

    Raises:
        PrototypeError: they are of another model, or damaged. Unread: the encoder cannot read the text.
    """
    if not text.startswith(PREFIX):
        try:
            return views(text)
        except Unread as error:
            raise Unread(f"{owner}: body: {error}") from None
    made_by, _, encoded = text.removeprefix(PREFIX).partition(":")
    if made_by != model:
        raise PrototypeError(f"{owner}: body: an embedding of model {made_by[:20]!r}; this one is {model}")
    try:
        raw = base64.b64decode(encoded.removesuffix(QUOTES), validate=True)
    except ValueError:  # also of what is not ASCII
        raise PrototypeError(f"{owner}: body: the embedding is not base64") from None
    if len(raw) <= 8 + _WIDTH:
        raise PrototypeError(f"{owner}: body: the embedding is cut short")
    embedding, words = _vector(raw[: 4 + _WIDTH]), _vector(raw[4 + _WIDTH :])
    if not (np.abs(embedding).max() <= _LARGEST and np.abs(words).max() <= _LARGEST):
        raise PrototypeError(f"{owner}: body: the embedding holds what is no number, or one too large to reckon with")
    embedding /= max(float(np.linalg.norm(embedding)), 1e-9)
    return Views(embedding, words, encoded.endswith(QUOTES))


def _vector(raw: bytes) -> Floats:
    scale = float(np.frombuffer(raw[:4], np.float32)[0])
    return np.frombuffer(raw[4:], np.int8).astype(np.float32) * np.float32(scale)


def learnt(patterns: Iterable[Pattern]) -> list[Pattern]:
    """The patterns that become prototypes: exemplars with a closeness that act, or are watched."""
    kinds = (Kind.SEMANTIC, Kind.BENIGN)
    return [one for one in patterns if one.kind in kinds and one.closeness is not None and one.state in WATCHING]


NO_PROTOTYPES: Final = Prototypes((), None)
