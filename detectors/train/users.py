"""Where the scale of users' texts lies: what all that the encoder judges get, told by harmless texts that look like attacks.

Training on such texts moves what the encoder says as a whole. The bars of the presets stay, and so the scale moves: `ALARMS` of
the harmless written texts that are kept out of training reach the bar of ``balanced``. System prompts are read by the same
output and move along. It is of one encoder, as directions are, and stands among those: a constant, and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.figures import auc, recall_at
from detectors.semantic.heads import ORIGINS as OUTPUTS
from detectors.semantic.judge import WIDTH, SemanticModel
from detectors.train.direction import served
from detectors.train.written import Text
from detectors.values import Origin

ALARMS: Final = 0.01
"""Share of the kept harmless texts that reach the bar of ``balanced``, were the front stage to settle nothing."""

ORIGINS: Final = (Origin.USER, Origin.SYSTEM)


class Fitted(NamedTuple):
    """What `ORIGINS` get among the directions of ``calibration.json``, and figures of the kept texts for people."""

    direction: list[float]
    figures: dict[str, Any]


def fit(model: SemanticModel, texts: Sequence[Text]) -> Fitted:
    """Fit on the users' texts among ``texts`` that are kept, whatever the model adds to such texts now."""
    directions = dict(model.calibration.directions)
    for origin in ORIGINS:
        directions.pop(origin, None)
    calibration = dataclasses.replace(model.calibration, directions=directions)
    plain = SemanticModel(model.fast, model.encoder, model.index, calibration)
    kept = [one for one in texts if one.kept and one.origin is Origin.USER]
    judged = plain.judge([(one.text, Origin.USER) for one in kept], thorough=True)
    asked = np.array([one.stage == "encoder" for one in judged])  # what the index knows is not moved
    labels, scores = np.array([one.label for one in kept])[asked], np.array([one.score for one in judged])[asked]
    said = np.log(scores / (1 - scores))
    at = {name: found[Origin.USER] for name, found in calibration.thresholds.items()}
    bars = {name: float(np.log(bar / (1 - bar))) for name, bar in at.items()}
    shift = bars["balanced"] - float(np.quantile(said[labels == 0], 1 - ALARMS))
    figures: dict[str, Any] = {"texts": len(said), "hostile": int(labels.sum()), "shift": shift, "auc": auc(said, labels),
                               "recall at 1 % FP": recall_at(said, labels, 0.01)}  # fmt: skip
    for name, bar in bars.items():
        for label, called in enumerate(("harmless", "hostile")):
            figures[f"{called} at {name}"] = float((said[labels == label] + shift >= bar).mean())
    return Fitted(served(np.zeros(WIDTH + len(OUTPUTS)), shift), figures)
