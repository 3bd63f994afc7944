"""Where the scales of users' texts and tools' definitions lie and what the front stage settles of them.

Both are told by harmless texts that look like attacks.

Training on such texts moves what the encoder says as a whole. The bars of the presets stay, and so the scale moves: `ALARMS` of
the harmless written texts that are kept out of training reach the bar of ``balanced``. System prompts are read by the users'
output and move along. It is of one encoder, as directions are, and stands among those: a constant, and nothing else.

What of ordinary prompts is settled can be told by folds alone, whose front stages have not seen all sources. The kept texts
neither they nor the one that ships has seen, so by the same share of those its bar is as theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from detectors.figures import auc, recall_at
from detectors.semantic.heads import ORIGINS as OUTPUTS
from detectors.semantic.judge import WIDTH, SemanticModel
from detectors.train.direction import served
from detectors.train.written import Text
from detectors.values import Origin

ALARMS: Final = {Origin.USER: 0.015, Origin.TOOL_DEFINITION: 0.08}
"""Share of the kept harmless texts that reach the bar of ``balanced``, were the front stage to settle nothing.

Parts of users' texts are read, too, and with them it is four in a hundred, as it was with 0.01 when parts weighed as much as a
whole window; of the kept attacks 51 in a hundred are found, and 46 were.

Of definitions, whose twins are the hardest, as many as of documents, where nobody set it. Of real ones (`bench packages`) it is
1.4 in a hundred.
"""

SETTLED: Final = {Origin.USER: 0.5, Origin.TOOL_DEFINITION: 0.1}
"""Share of the kept harmless texts that the front stage settles.

A front stage of one net, without the sources of fold ``a``, settled 86 % of their ordinary prompts where it settled half of
these.
Definitions come again with each request, so they are read once.
"""

SCALED: Final = {Origin.USER: (Origin.USER, Origin.SYSTEM), Origin.TOOL_DEFINITION: (Origin.TOOL_DEFINITION,)}
"""By whose texts a scale is told, and whose scale it is."""


def fit(model: SemanticModel, texts: Sequence[Text], origin: Origin) -> list[float]:
    """What the origins of ``SCALED[origin]`` get among the directions of ``calibration.json``, by the texts of ``origin`` among
    ``texts`` that are kept, whatever the model adds to such texts now."""
    directions = {other: one for other, one in model.calibration.directions.items() if other not in SCALED[origin]}
    calibration = dataclasses.replace(model.calibration, directions=directions)
    plain = SemanticModel(model.fast, model.encoder, model.index, calibration)
    judged = plain.judge([(text, origin) for text in _harmless(texts, origin)], thorough=True)
    scores = np.array([one.score for one in judged if one.stage == "encoder"])  # what the index knows is not moved
    bar = calibration.thresholds["balanced"][origin]
    shift = _log_odds(bar) - np.quantile(_log_odds(scores), 1 - ALARMS[origin])
    return served(np.zeros(WIDTH + len(OUTPUTS)), float(shift))


def front(model: SemanticModel, texts: Sequence[Text], origin: Origin) -> tuple[float, float]:
    """The slope and the offset of the front stage's logit with which as many of the kept harmless texts of ``origin`` reach the
    bar where no encoder reads them: for an origin of which the folds hold own templates alone."""
    slope, _ = model.calibration.fast[origin]
    bar = model.calibration.thresholds["balanced"][origin]
    return slope, float(_log_odds(bar) - slope * np.quantile(_highest(model, texts, origin), 1 - ALARMS[origin]))


def sure(model: SemanticModel, texts: Sequence[Text], origin: Origin) -> float:
    """The front stage's logit below which a window of ``origin`` is settled, by its texts among ``texts`` that are kept."""
    return float(np.quantile(_highest(model, texts, origin), SETTLED[origin]))


def figures(model: SemanticModel, texts: Sequence[Text]) -> dict[str, dict[str, float]]:
    """What a model makes of the kept texts, were its front stage to settle nothing: figures for people, by origin."""
    found: dict[str, dict[str, float]] = {}
    for origin in sorted({one.origin for one in texts}):
        kept = [one for one in texts if one.kept and one.origin is origin]
        labels = np.array([one.label for one in kept])
        scores = np.array([one.score for one in model.judge([(one.text, origin) for one in kept], thorough=True)])
        found[origin.value] = {"attacks": int(labels.sum()), "harmless": int((labels == 0).sum()), "auc": auc(scores, labels),
                               "recall at 1 % FP": recall_at(scores, labels, 0.01)}  # fmt: skip
        for name, bars in model.calibration.thresholds.items():
            for label, called in enumerate(("harmless", "hostile")):
                found[origin.value][f"{called} at {name}"] = float((scores[labels == label] >= bars[origin]).mean())
    return found


def _highest(model: SemanticModel, texts: Sequence[Text], origin: Origin) -> list[float]:
    return [max(logit for _, _, logit in model.front(text, origin)) for text in _harmless(texts, origin)]


def _harmless(texts: Sequence[Text], origin: Origin) -> list[str]:
    return [one.text for one in texts if one.kept and one.origin is origin and not one.label]


def _log_odds(score: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.log(score) - np.log1p(-np.asarray(score))
