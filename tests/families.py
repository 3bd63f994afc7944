"""Families of texts that the shipped model was not trained on: see ``bench/families``."""

from __future__ import annotations

import random
from pathlib import Path

from detectors.train.grammar import Grammar

FAMILIES = Grammar(Path(__file__).parent.parent / "bench" / "families")


def draw(section: str, count: int, seed: int = 1) -> list[str]:
    """Different texts of one family."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[FAMILIES.text(section, rng)] = None
    return list(found)
