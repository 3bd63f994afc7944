"""What prototypes are made of and told from, as a model sees it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from detectors.semantic.corrections import NO_CORRECTIONS, CorrectionError, Corrections, ready
from detectors.semantic.encoder import Encoder
from detectors.semantic.fast import FastModel
from detectors.semantic.index import ExemplarIndex
from detectors.semantic.judge import UNREAD, SemanticModel
from detectors.semantic.legible import legible
from detectors.semantic.prototypes import (
    DRAWN,
    DRAWN_HARMLESS,
    NO_PROTOTYPES,
    Background,
    Backgrounds,
    PrototypeError,
    Prototypes,
    Unread,
    Views,
    build,
    learnt,
)
from detectors.semantic.quotes import quotes
from detectors.values import Origin
from patterns import packs
from patterns.schema import Pattern

_log = logging.getLogger(__name__)

HARMLESS: Final = Path(packs.__file__).parent / "exemplars" / "benign.jsonl"
"""Harmless texts of our own, whose mean word vectors say what is ordinary."""


def views(model: SemanticModel, text: str) -> Views:
    """What prototypes are made of and judge by: of a text of several windows, that of the most suspicious one that can be read.
    A stretch in which much cannot be read counts without that.

    Raises:
        Unread: there is none.
    """
    left = legible(text, model.encoder.unreadable)
    stretches = [one.span(0, len(one.text)) for one in left]
    windows = [(logit, text, start, end) for start, end, logit in model.front(text, Origin.USER)
               if not any(start < last and first < end for first, last in stretches)]  # fmt: skip
    windows += [(logit, one.text, start, end) for one in left for start, end, logit in model.front(one.text, Origin.USER)]
    for _, whole, start, end in sorted(windows, key=lambda one: -one[0]):
        window = whole[start:end]
        if model.encoder.unread(window) < UNREAD:
            return Views(model.encoder.encode(window).embedding, model.words(whole, [(start, end)])[0], quotes(window))
    raise Unread("the encoder knows none of its words, so an exemplar of it would never act; a regex or literal would")


def backgrounds(model: SemanticModel) -> Backgrounds:
    """What prototypes are told from: the shipped exemplars. Made at the first call, half a second of one core."""
    return _backgrounds(model.fast, model.encoder, model.index, model.calibration.sure[Origin.USER])


def made_ready(patterns: Iterable[Pattern], model: SemanticModel, known: Prototypes) -> Prototypes:
    """The prototypes among patterns. One of ``known`` made of the same texts is taken as it is: embedding them takes time.

    A pattern that cannot be made ready (an embedding of another model) is left out and told in the log.
    """
    wanted = learnt(patterns)
    if not wanted:
        return NO_PROTOTYPES
    against = backgrounds(model)
    made = {(one.pattern.kind, one.pattern.body, one.pattern.hits): one for one in known}
    built = []
    for pattern in wanted:
        same = made.get((pattern.kind, pattern.body, pattern.hits))
        if same is not None:
            built.append(same._replace(pattern=pattern))
            continue
        try:
            built.append(build(pattern, lambda text: views(model, text), against))
        except PrototypeError as error:
            _log.error("a learnt pattern cannot act: %s", error)
    return Prototypes(built, against)


def corrections(patterns: Iterable[Pattern], model: SemanticModel) -> Corrections:
    """What among patterns corrects the model. What is none of this model's is left out and told in the log."""
    found = []
    for pattern in patterns:
        if pattern.kind.corrects:
            try:
                found.append(ready(pattern, model.encoder.digest))
            except CorrectionError as error:
                _log.error("a learnt correction cannot act: %s", error)
    return Corrections(found) if found else NO_CORRECTIONS


@lru_cache(maxsize=1)
def _backgrounds(fast: FastModel, encoder: Encoder, index: ExemplarIndex, sure: float) -> Backgrounds:
    attack = np.array([exemplar.attack for exemplar in index.exemplars])
    vectors = index.vectors
    with HARMLESS.open("rb") as lines:
        texts = [str(orjson.loads(line)["text"]) for line in lines]
    words = np.concatenate([fast.means(text, [(0, len(text))]) for text in texts])
    suspicion = np.concatenate([fast.logits(text, [(0, len(text))], Origin.USER) for text in texts]) - np.float32(sure)
    attacks = packs.exemplars("attacks")  # one that is not ours may quote
    quoting = np.array([one.id not in attacks or quotes(attacks[one.id]) for one in index.exemplars if one.attack])
    harmless, hostile = vectors[~attack], vectors[attack]
    return Backgrounds(
        Background(harmless, others=hostile, drawn=DRAWN), Background(hostile, quoting, harmless, DRAWN_HARMLESS),
        Background(words), suspicion, encoder.digest,
    )  # fmt: skip
