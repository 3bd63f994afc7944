"""What the fp32 model says of a few own texts: shipped, so that a machine without torch can check the int8 model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import numpy as np

from detectors.semantic.encoder import Encoder
from detectors.train.exemplars import own_pools
from detectors.train.generate import Generator
from detectors.train.grammar import Grammar

EACH: Final = 8
"""Texts of each sort."""

SEED: Final = 11
SORTS: Final = ("attack", "twin", "foreign_attack", "foreign_twin", "planted", "document", "trusted", "order")


def write(full: Path, models: Path) -> None:
    """Write ``reference.npz``: texts, and their embeddings and origin logits by the fp32 model ``full``."""
    grammar = Grammar()
    generator = Generator(grammar, own_pools(grammar, SEED), SEED, held_out=None)
    texts = [example.text for example in generator.draw(dict.fromkeys(SORTS, EACH))]
    random.Random(SEED).shuffle(texts)
    encoder = Encoder(full, models / "tokenizer.json")
    found = [encoder.encode(text) for text in texts]
    np.savez_compressed(
        models / "reference.npz", texts=np.array(texts),
        embeddings=np.stack([f.embedding for f in found]).astype(np.float16),
        origins=np.stack([f.origins for f in found]).astype(np.float32),
    )
