"""The exemplars that the index ships with: all our own text, attacks and harmless, no two of them near-duplicates.

Most are drawn as training texts are. Threats that the training's seeds have nothing of have seeds in ``threats/``, from which
exemplars alone are drawn: no model was trained on those. A section there is named after its threat, with ``_twin`` where it
holds harmless texts with the threat's words, and with a language where that is not English: ``jailbreak.persona_twin.de``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import orjson

from detectors.semantic.encoder import Encoder
from detectors.semantic.index import Exemplar, ExemplarIndex
from detectors.train.generate import HARMLESS, HOSTILE, Example, Generator, Pools, carrier_sections, twin_sections
from detectors.train.grammar import Grammar
from patterns.taxonomy import CATEGORIES

PACKS: Final = Path(__file__).parents[2] / "patterns" / "exemplars"
THREATS: Final = Path(__file__).parent / "threats"
SEED: Final = 2026

DRAWS: Final = 4
"""Texts drawn for each template of `THREATS`; what comes out twice, or nearly so, counts once."""

PLAN: Final = {
    "attacks": {"attack": 3000, "framed": 1000, "foreign_attack": 1300, "planted": 1300, "foreign_planted": 200},
    "benign": {"twin": 2500, "framed": 900, "foreign_twin": 1000, "document": 1200, "foreign_document": 250, "order": 300,
               "trusted": 700},
}
"""Texts drawn per pack; near-duplicates are then dropped until `WANTED` are left of each."""

WANTED: Final = 5000
"""Exemplars of a pack, those of `THREATS` among them."""

SAME: Final = 0.985
"""Cosine from which one of two exemplars of a pack is dropped."""

_SECTION: Final = re.compile(r"(?P<threat>[a-z_]+\.[a-z_]+?)(?P<twin>_twin)?(?:\.(?P<lang>[a-z]{2}))?")


def own_pools(grammar: Grammar, seed: int) -> Pools:
    """Pools of our own text alone, so that exemplars may be published as text."""
    rng = random.Random(seed)

    def texts(sections: Sequence[str], count: int) -> list[str]:
        return [grammar.text(rng.choice(sections), rng) for _ in range(count)]

    return Pools(
        texts(carrier_sections(grammar), 2000), texts(["order", "plain_order"], 1500), texts(twin_sections(grammar), 2000),
        texts(["forbidden"], 500),
    )


def of_threats(grammar: Grammar) -> list[Example]:
    """The texts of `THREATS`, attacks and their twins."""
    rng, found = random.Random(SEED), list[Example]()
    for section, templates in grammar.sections.items():
        if (named := _SECTION.fullmatch(section)) is None:
            continue  # words for the slots of others
        labels = HARMLESS if named["twin"] else HOSTILE
        lang, category = named["lang"] or "en", "" if named["twin"] else named["threat"]
        texts = [grammar.text(section, rng) for _ in range(DRAWS * len(templates))]
        found += [Example(text, labels, "own:threat", lang, category) for text in texts]
    return list(_distinct(found))


def write_packs(encoder: Encoder, folder: Path = PACKS) -> None:
    """Draw, embed, thin out and write the packs."""
    grammar = Grammar()
    generator = Generator(grammar, own_pools(grammar, SEED), SEED, held_out=None)
    threats = _of_both(encoder, of_threats(Grammar(THREATS)))
    folder.mkdir(parents=True, exist_ok=True)
    for pack, plan in PLAN.items():
        drawn = [e for e in _distinct(generator.draw(plan)) if (max(e.labels) == 1.0) == (pack == "attacks")]
        random.Random(SEED).shuffle(drawn)
        examples = threats[pack]
        kept = _thinned(encoder.embed([example.text for example in drawn]))[: WANTED - len(examples)]
        lines = [
            orjson.dumps({"id": f"exemplar.{pack}.{number:04d}", "category": _threat(example) if pack == "attacks" else "",
                          "lang": example.lang, "text": example.text})
            for number, example in enumerate([*(drawn[at] for at in kept), *examples], 1)
        ]  # fmt: skip
        (folder / f"{pack}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        print(f"{pack}: {len(drawn)} drawn, {len(kept)} kept, {len(examples)} of {THREATS.name}", flush=True)


def index(encoder: Encoder, folder: Path = PACKS) -> ExemplarIndex:
    """The index over what the packs hold, in order, attacks first."""
    rows = [orjson.loads(line) for pack in PLAN for line in (folder / f"{pack}.jsonl").read_bytes().splitlines()]
    return ExemplarIndex([Exemplar(row["id"], row["category"]) for row in rows], encoder.embed([row["text"] for row in rows]))


def _of_both(encoder: Encoder, examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Examples by pack, thinned out; of an attack and a twin that the encoder takes for the same, neither."""
    found = {}
    for pack in PLAN:
        some = [example for example in examples if (max(example.labels) == 1.0) == (pack == "attacks")]
        vectors = encoder.embed([example.text for example in some])
        kept = _thinned(vectors)
        found[pack] = [some[at] for at in kept], vectors[kept]
    alike = found["attacks"][1] @ found["benign"][1].T >= SAME
    return {pack: [found[pack][0][at] for at in np.flatnonzero(~alike.any(axis=axis))]
            for pack, axis in (("attacks", 1), ("benign", 0))}  # fmt: skip


def _distinct(examples: Iterable[Example]) -> Iterator[Example]:
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
