"""From out-of-fold logits to probabilities and thresholds, fitted per origin on sources the scoring model never saw."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import torch

from detectors.cascade import Cascade
from detectors.lexical import Lexical
from detectors.semantic.heads import ORIGINS
from detectors.semantic.judge import LEARNT_ATTACK, MOST_WINDOWS, Weights
from detectors.semantic.scripts import unread
from detectors.stages import STAGES
from detectors.train.folds import Scored
from detectors.train.sources import Row
from detectors.values import Origin
from patterns import packs

Floats = npt.NDArray[np.float64]

LOST: Final = 0.03
"""Share of the attacks which the whole cascade would catch that the front stage may settle as harmless."""

SHARE: Final = 0.85
CAREFUL_SHARE: Final = 0.30
"""Share of ordinary harmless texts under an origin that the front stage settles at most. What it settles it orders worse than
the encoder would, which costs AUC, and nothing that a threshold acts on. On the shared sources of both folds these values
settle 85 % of users' ordinary texts, at an AUC of 0.916 and 48.6 % found at one false positive in a hundred; a `LOST` of 0.02
settles 79 % (0.919, 48.8 %), 0.002 with a share of 0.65 68 % (0.923, 49.0 %); with nothing settled it is 0.941 and 49.0 %.
In documents and tool results only the encoder tells a planted order from the text around it: little is settled there."""

CAUGHT: Final = 0.01
"""False-positive rate that says which attacks the whole cascade would catch."""

RATES: Final = {"balanced": 0.01, "strict": 0.03}
"""False-positive rate on ordinary benign texts for which a preset's threshold is chosen."""

SAMPLED: Final = 4_000
"""Characters of a text by which its script is told."""

PLANTED: Final = 2.0
"""Times that rate in documents and tool results: an order that is planted there is carried out unseen."""

FEWEST: Final = 400
"""Ordinary texts below which an origin has no threshold of its own: the rate would rest on one or two of them."""

UNREAD: Final = -0.5
"""What a text in letters that the encoder reads one by one adds to its log-odds. Fitted, it would be -2: half of the attacks
in such letters were lost for the sake of questions in them; with this value none was, and more of the others were found."""

OPERATOR: Final = -2.0
"""What a system prompt adds to its log-odds: it comes from whom the application belongs to. The folds hold no attack under that
origin. What speaks of overriding there is what defends against it, so that evidence weighs nothing."""

ALIKE: Final = 0.02
"""False-positive rate at which all origins are to have the same score: it is one scale, whoever speaks."""

PULL: Final = 2.0
"""Ridge weight of the fits, in texts: it matters only where the front stage settles no attack at all."""

ORDINARY: Final = frozenset({"benign", "benign_document", "pii", "twin", "foreign_twin", "document", "foreign_document",
                             "system", "tool", "assistant", "order"})

POOLED: Final = {
    Origin.DOCUMENT: ("document", "tool_result"),
    Origin.TOOL_RESULT: ("document", "tool_result"),
    Origin.SYSTEM: ("system", "user"),
    Origin.USER: ("system", "user"),
}
"""Origins whose texts are fitted together, because one alone has too few sources."""


def calibrate(folds: Sequence[Scored]) -> dict[str, Any]:
    """The contents of ``calibration.json``, see `detectors.semantic.judge.Calibration`."""
    texts = merged(folds)
    fast: dict[str, list[float]] = {}
    sure: dict[str, float] = {}
    fitted: dict[str, dict[str, float]] = {}
    bar = float("nan")
    for origin in sorted(ORIGINS, key=lambda one: one is not Origin.USER):  # users' scale is the one that the others join
        chosen = np.isin(texts.origins, POOLED.get(origin, (origin.value,)))
        if not 0 < texts.labels[chosen].sum() < chosen.sum():
            chosen = np.isin(texts.origins, POOLED[Origin.USER])
        labels = texts.labels[chosen]
        weights = balanced(labels, texts.weights[chosen])
        spoken = texts.evidence[chosen] * (texts.origins[chosen] != Origin.SYSTEM.value)
        planted = origin in (Origin.DOCUMENT, Origin.TOOL_RESULT)
        features = [texts.encoder[chosen], texts.fast[chosen], spoken] + [-texts.windows[chosen]] * planted
        offset, by_encoder, by_front, by_evidence, *rest = logistic(np.stack(features, 1), labels, weights)
        by_windows = -rest[0] if planted else 0.0
        judged = by_encoder * texts.encoder[chosen] + by_front * texts.fast[chosen] + by_windows * texts.windows[chosen]
        plain = texts.evidence[chosen] == 0  # the front stage settles no others, so it cannot lose them
        sure[origin.value] = sure_below(
            texts.fast[chosen][plain], judged[plain], labels[plain], np.isin(texts.kinds[chosen][plain], list(ORDINARY)),
            CAREFUL_SHARE if planted else SHARE,
        )
        below = (texts.fast[chosen] < sure[origin.value]) & plain
        base, slope = logistic(texts.fast[chosen][below, None], labels[below], weights[below])
        base -= by_windows * float(texts.windows[chosen][below].mean())  # serving adds it for each text
        scored = (offset + judged + by_evidence * spoken)[(labels == 0) & (texts.origins[chosen] != Origin.SYSTEM.value)]
        at = float(np.quantile(scored, 1 - ALIKE))
        bar = at if origin is Origin.USER else bar
        shift = OPERATOR if origin is Origin.SYSTEM else bar - at
        fast[origin.value] = [slope, base + shift]
        fitted[origin.value] = {
            "offset": offset + shift, "encoder": by_encoder, "front": by_front, "lean": 0.0,
            "evidence": by_evidence * (origin is not Origin.SYSTEM), "windows": by_windows, "unread": UNREAD,
        }
    made: dict[str, Any] = {"fast": fast, "sure": sure, "weights": fitted}
    scores = probabilities(texts, made)
    ordinary = (texts.labels == 0) & np.isin(texts.kinds, list(ORDINARY))
    made["thresholds"] = {preset: _thresholds(texts, scores, ordinary, rate) for preset, rate in RATES.items()}
    # The folds have too few of an assistant's ordinary texts for a bar of its own: it is where what was learnt begins.
    made["thresholds"]["balanced"][Origin.ASSISTANT.value] = LEARNT_ATTACK
    return made


def _thresholds(texts: Texts, scores: Floats, ordinary: npt.NDArray[np.bool_], rate: float) -> dict[str, float]:
    """Per origin the score that ``rate`` of its ordinary texts exceed, of all texts where it has too few."""
    found = {}
    for origin in ORIGINS:
        own = ordinary & np.isin(texts.origins, POOLED.get(origin, (origin.value,)))
        chosen = own if own.sum() >= FEWEST else ordinary
        times = PLANTED if origin in (Origin.DOCUMENT, Origin.TOOL_RESULT) else 1.0
        found[origin.value] = float(np.quantile(scores[chosen], 1 - times * rate))
    return found


def flagged(texts: Texts, scores: Floats, thresholds: dict[str, float]) -> npt.NDArray[np.bool_]:
    """Which texts a preset acts on."""
    return np.asarray(scores >= np.array([thresholds[origin] for origin in texts.origins]))


class Texts:
    """Per text, what its deciding window got: arrays of equal length."""

    def __init__(self, folds: Sequence[Scored]) -> None:
        rows = [row for fold in folds for row in fold.rows]
        self.rows = rows
        self.labels = np.array([row.label for row in rows], np.int64)
        self.kinds = np.array([row.kind for row in rows])
        self.sources = np.array([row.source for row in rows])
        self.langs = np.array([row.lang for row in rows])
        self.origins = np.array([row.origin.value for row in rows])
        self.weights = np.array([0.5 if row.doubtful else 1.0 for row in rows])
        self.evidence = np.array(evidence_of(rows))
        counts = np.concatenate([np.bincount(fold.text_of, minlength=len(fold.rows)) for fold in folds])
        self.windows = np.log(np.minimum(counts, MOST_WINDOWS))
        self.unread = np.array([unread(row.text[:SAMPLED]) for row in rows])
        self.fast = np.concatenate([_highest(fold.fast, fold) for fold in folds]).astype(np.float64)
        self.encoder = np.concatenate([_highest(fold.encoder, fold) for fold in folds]).astype(np.float64)

    def without(self, origins: Collection[str]) -> Texts:
        """Those of other origins."""
        kept = ~np.isin(self.origins, list(origins))
        found = copy.copy(self)
        found.rows = [row for row, one in zip(self.rows, kept, strict=True) if one]
        found.__dict__ |= {name: value[kept] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return found


def evidence_of(rows: Sequence[Row]) -> list[float]:
    """What patterns and decoders say of each text, in the units of `detectors.cascade.EVIDENCE`."""
    cascade = Cascade(Lexical(packs.load_all([packs.SHIPPED])), None)
    clock = [0] * len(STAGES)
    return [cascade.screen(row.text, row.origin, clock).evidence for row in rows]


def merged(folds: Sequence[Scored]) -> Texts:
    """All folds' texts together: each was scored by a model that saw none of its source."""
    return Texts(folds)


def probabilities(texts: Texts, calibration: dict[str, Any]) -> Floats:
    """The score that serving would give each text, but for the index."""
    scores = np.zeros(len(texts.rows))
    for origin in ORIGINS:
        chosen = texts.origins == origin.value
        by = Weights(**calibration["weights"][origin.value])
        slope, base = calibration["fast"][origin.value]
        judged = by.offset + by.encoder * texts.encoder[chosen] + by.front * texts.fast[chosen]
        judged += by.evidence * texts.evidence[chosen]
        alone = settled(texts, calibration)[chosen]
        setting = by.windows * texts.windows[chosen] + by.unread * texts.unread[chosen]
        scores[chosen] = 1 / (1 + np.exp(-np.where(alone, slope * texts.fast[chosen] + base, judged) - setting))
    return scores


def settled(texts: Texts, calibration: dict[str, Any]) -> npt.NDArray[np.bool_]:
    """Which texts the front stage settles: none in which patterns or decoders saw something."""
    limits = np.array([calibration["sure"][origin] for origin in texts.origins])
    return np.asarray((texts.fast < limits) & (texts.evidence == 0))


def logistic(features: Floats, labels: npt.NDArray[np.int64], weights: Floats) -> list[float]:
    """Logistic regression: [offset, slope, ...]. Slopes are kept from turning negative."""
    inputs = torch.from_numpy(np.ascontiguousarray(features))
    wanted, share = torch.from_numpy(labels.astype(np.float64)), torch.from_numpy(weights.copy())
    offset = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    slopes = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([offset, slopes], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits = offset + inputs @ slopes.abs()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        loss = (losses * share).sum() / share.sum() + PULL * (slopes.pow(2).sum() + 0.1 * offset.pow(2).sum()) / len(labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.no_grad():
        slopes += 0.5
    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return [float(offset.detach()[0]), *slopes.detach().abs().tolist()]


def balanced(labels: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Weights under which attacks and harmless texts count the same: the probability's stated prior is a half."""
    return np.where(labels == 1, weights * (weights[labels == 0].sum() / weights[labels == 1].sum()), weights)


def sure_below(
    fast: Floats, judged: Floats, labels: npt.NDArray[np.int64], ordinary: npt.NDArray[np.bool_], share: float
) -> float:
    """The front-stage logit below which a text is settled: `LOST` of what is caught, at most ``share`` of the ordinary."""
    caught = (labels == 1) & (judged > np.quantile(judged[labels == 0], 1 - CAUGHT))
    most = float(np.quantile(fast[(labels == 0) & ordinary], share))
    return min(most, float(np.quantile(fast[caught], LOST))) if caught.any() else most


def save(calibration: dict[str, Any], path: Path) -> None:
    """Write ``calibration.json``."""
    path.write_bytes(orjson.dumps(calibration, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _highest(window_scores: npt.NDArray[np.float32], fold: Scored) -> npt.NDArray[np.float32]:
    highest = np.full(len(fold.rows), -np.inf, np.float32)
    np.maximum.at(highest, fold.text_of, window_scores)
    return highest
