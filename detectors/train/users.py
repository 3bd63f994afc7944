"""Where the scale of users' texts lies: what is added to all of them, told by harmless texts that hold an attack's words.

Training on such texts moves what the encoder says as a whole. The bars of the presets stay, and so the scale moves: `ALARMS` of
the harmless written texts that are kept out of training reach the bar of ``balanced``. System prompts are read by the same
output and move along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.figures import auc, recall_at
from detectors.semantic.judge import SemanticModel
from detectors.train.written import Text
from detectors.values import Origin

ALARMS: Final = 0.01
"""Share of the kept harmless texts that reach the bar of ``balanced``, were the front stage to settle nothing."""

ORIGINS: Final = (Origin.USER, Origin.SYSTEM)


class Fitted(NamedTuple):
    """What is added to the offsets of `ORIGINS` in ``calibration.json``, and figures of the kept texts for people."""

    shift: float
    figures: dict[str, Any]


def fit(model: SemanticModel, texts: Sequence[Text]) -> Fitted:
    """Fit on the kept users' texts among ``texts``."""
    kept = [one for one in texts if one.kept and one.origin is Origin.USER]
    labels = np.array([one.label for one in kept])
    scores = np.array([found.score for found in model.judge([(one.text, Origin.USER) for one in kept], thorough=True)])
    said = np.log(scores / (1 - scores))
    bars = {name: float(np.log(found[Origin.USER] / (1 - found[Origin.USER])))
            for name, found in model.calibration.thresholds.items()}  # fmt: skip
    shift = bars["balanced"] - float(np.quantile(said[labels == 0], 1 - ALARMS))
    figures: dict[str, Any] = {"texts": len(kept), "hostile": int(labels.sum()), "auc": auc(said, labels), "shift": shift,
                               "recall at 1 % FP": recall_at(said, labels, 0.01)}  # fmt: skip
    for name, bar in bars.items():
        for label, called in enumerate(("harmless", "hostile")):
            figures[f"{called} at {name}"] = float((said[labels == label] + shift >= bar).mean())
    return Fitted(shift, figures)
