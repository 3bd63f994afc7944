"""The model of a fold, to ask what it makes of sources that it never saw; torch is not needed for that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from detectors.semantic.encoder import Encoder
from detectors.semantic.fast import FastModel
from detectors.semantic.index import ExemplarIndex
from detectors.semantic.judge import MODELS, WIDTH, Calibration, SemanticModel


def of_fold(work: Path, fold: str) -> SemanticModel:
    """The model of a fold, as `python -m detectors.train folds` left it.

    Its calibration is the one in ``work``, where `calibrate` was told to write there, else the shipped one. What is of the
    shipped encoder's embeddings is left out: its exemplars, and directions among them.
    """
    own = work / "calibration.json"
    calibration = Calibration.load(own if own.is_file() else MODELS / "calibration.json")
    encoder = Encoder(work / f"fold_{fold}.onnx", work / "tokenizer.json")
    index = ExemplarIndex([], np.zeros((0, WIDTH), np.float32))
    return SemanticModel(FastModel.load(work / f"fold_{fold}.fast.npz"), encoder, index, replace(calibration, directions={}))
