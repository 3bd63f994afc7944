"""The exemplars that the index ships with: all our own text, attacks and harmless, no two of them near-duplicates."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import orjson

from detectors.semantic.encoder import Encoder
from detectors.semantic.index import Exemplar, ExemplarIndex
from detectors.train.generate import Example, Generator, Pools, carrier_sections, twin_sections
from detectors.train.grammar import Grammar
from patterns.taxonomy import CATEGORIES

PACKS: Final = Path(__file__).parents[2] / "patterns" / "exemplars"
SEED: Final = 2026

PLAN: Final = {
    "attacks": {"attack": 3000, "framed": 1000, "foreign_attack": 1300, "planted": 1300, "foreign_planted": 200},
    "benign": {"twin": 2500, "framed": 900, "foreign_twin": 1000, "document": 1200, "foreign_document": 250, "order": 300,
               "trusted": 700},
}
"""Texts drawn per pack; near-duplicates are then dropped until `WANTED` are left of each."""

WANTED: Final = 5000
SAME: Final = 0.985
"""Cosine from which one of two exemplars of a pack is dropped."""


def own_pools(grammar: Grammar, seed: int) -> Pools:
    """Pools of our own text alone, so that exemplars may be published as text."""
    rng = random.Random(seed)

    def texts(sections: Sequence[str], count: int) -> list[str]:
        return [grammar.text(rng.choice(sections), rng) for _ in range(count)]

    return Pools(
        texts(carrier_sections(grammar), 2000), texts(["order", "plain_order"], 1500), texts(twin_sections(grammar), 2000),
        texts(["forbidden"], 500),
    )


def write_packs(encoder: Encoder, folder: Path = PACKS) -> ExemplarIndex:
    """Draw, embed, thin out and write the packs; return the index over them."""
    grammar = Grammar()
    generator = Generator(grammar, own_pools(grammar, SEED), SEED, held_out=None)
    exemplars: list[Exemplar] = []
    vectors: list[npt.NDArray[np.float32]] = []
    folder.mkdir(parents=True, exist_ok=True)
    for pack, plan in PLAN.items():
        drawn = [e for e in _distinct(generator.draw(plan)) if (max(e.labels) == 1.0) == (pack == "attacks")]
        random.Random(SEED).shuffle(drawn)
        found = encoder.embed([example.text for example in drawn])
        kept = _thinned(found)[:WANTED]
        lines = []
        for number, at in enumerate(kept, 1):
            example = drawn[at]
            exemplar = Exemplar(f"exemplar.{pack}.{number:04d}", _threat(example) if pack == "attacks" else "")
            exemplars.append(exemplar)
            lines.append(orjson.dumps({"id": exemplar.id, "category": exemplar.category, "lang": example.lang,
                                       "text": example.text}))
        (folder / f"{pack}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        vectors.append(found[kept])
        print(f"{pack}: {len(drawn)} drawn, {len(kept)} kept", flush=True)
    return ExemplarIndex(exemplars, np.concatenate(vectors))


def _distinct(examples: Iterator[Example]) -> Iterator[Example]:
    seen: set[str] = set()
    for example in examples:
        if example.text.lower() not in seen and len(example.text) >= 12:
            seen.add(example.text.lower())
            yield example


def _thinned(vectors: npt.NDArray[np.float32]) -> list[int]:
    """Indices of vectors of which none is `SAME` to an earlier one."""
    kept: list[int] = []
    before = np.empty_like(vectors)
    for at, vector in enumerate(vectors):
        if not kept or float((before[: len(kept)] @ vector).max()) < SAME:
            before[len(kept)] = vector
            kept.append(at)
    return kept


def _threat(example: Example) -> str:
    """The example's threat as ``category.subcategory``; a category alone gets its first subcategory."""
    head, _, tail = example.category.partition(".")
    subcategories = CATEGORIES[head].subcategories
    return f"{head}.{tail if tail in subcategories else subcategories[0]}"
