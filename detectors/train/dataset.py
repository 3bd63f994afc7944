"""The training set: rows of the data folder, cut to windows, and what the generators add. Whole sources can be held out."""

from __future__ import annotations

import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from detectors.semantic.windows import spans
from detectors.train.augment import vary
from detectors.train.generate import Example, Generator, Pools
from detectors.train.grammar import Grammar
from detectors.train.sources import Row, read_rows, row_labels

PLAN: Final = {
    "attack": 9000, "twin": 9000, "foreign_attack": 6000, "foreign_twin": 6500, "planted": 11000, "document": 11000,
    "foreign_planted": 2000, "foreign_document": 2500, "trusted": 5000, "order": 3000,
}
"""Examples that the generators add to one set: as many harmless as hostile of each sort."""

ATTACK_CAP: Final = 1200
BENIGN_CAP: Final = 1100
"""Windows of one source and kind: no source may be learned by its size."""

MAX_WINDOWS: Final = 3
"""Windows taken of one benign text; long documents would drown the rest."""

_PWNED = re.compile(r"PWNED|pwned", re.ASCII)
_WORDS: Final = ("OK", "yes", "banana", "I agree", "moon", "DONE", "hello", "the answer is 4", "blue", "access granted")
_NOT_WORD = re.compile(r"[\W\d_]+")


@dataclass(frozen=True, slots=True)
class Shared:
    """The rows of the data folder, without near-duplicates."""

    rows: tuple[Row, ...]

    def without(self, sources: Collection[str]) -> Shared:
        return Shared(tuple(row for row in self.rows if row.source not in sources))

    def only(self, sources: Collection[str]) -> Shared:
        return Shared(tuple(row for row in self.rows if row.source in sources))


def load_shared(folder: Path) -> Shared:
    """Read a data folder, dropping rows whose first 80 letters a source has had before."""
    seen: set[tuple[str, int]] = set()
    kept = []
    for row in read_rows(folder):
        letters = _NOT_WORD.sub("", row.text[:400].lower())[:80] or row.text[:80]
        key = (row.source, zlib.crc32(letters.encode()))
        if key in seen and row.kind != "indirect_injection":
            continue
        seen.add(key)
        kept.append(row)
    return Shared(tuple(kept))


def pools(shared: Shared, seed: int) -> Pools:
    """Ordinary documents, orders and chat from the benign rows at hand."""
    rng = random.Random(seed)
    documents: list[str] = []
    orders: list[str] = []
    chat: list[str] = []
    for row in shared.rows:
        if row.label or row.doubtful:
            continue
        if row.kind in ("benign_document", "pii") and len(row.text) > 120:
            documents.append(_middle(row.text) if row.source == "self_instruct_t0" else row.text)
        elif row.source in ("self_instruct_user", "fuzzyai_advbench", "clean_benign_corpus", "mt_bench", "langkit_chats",
                            "followbench", "gpteacher", "bfcl", "human_eval") and 15 < len(row.text) < 220:
            if "?" not in row.text[-3:] or rng.random() < 0.3:
                orders.append(row.text)
        elif row.source == "security_docs" and rng.random() < 0.15:
            documents.append(row.text)
        if row.kind == "benign" and len(row.text) < 600:
            chat.append(row.text)
    rng.shuffle(documents)
    return Pools(documents, orders, chat)


def build(
    shared: Shared, seed: int, held_out: bool | None, scale: float = 1.0,
    suspicion: Callable[[str], float] | None = None,
) -> list[Example]:
    """The training set of one run.

    Args:
        held_out: which templates of the grammar to leave out, see `Grammar.text`.
        scale: size relative to `PLAN` and the caps.
        suspicion: rates windows of long attacks, of which the most suspicious are taken; without it, the first ones.
    """
    rng = random.Random(seed)
    examples = []
    for (_, kind), rows in _by_source(shared).items():
        cap = int((ATTACK_CAP if rows[0].label else BENIGN_CAP) * scale)
        if kind == "benign_hard":
            cap *= 2
        rng.shuffle(rows)
        taken: list[Example] = []
        for row in rows:
            if len(taken) >= cap:
                break
            taken.extend(_examples(row, rng, suspicion))
        examples.extend(taken[:cap])
    generator = Generator(Grammar(), pools(shared, seed), seed, held_out)
    examples.extend(generator.draw({kind: int(count * scale) for kind, count in PLAN.items()}))
    rng.shuffle(examples)
    return examples


def windows_of(text: str) -> list[str]:
    """The windows of a text, as serving cuts them."""
    return [text[start:end] for start, end in spans(text)]


def _examples(row: Row, rng: random.Random, suspicion: Callable[[str], float] | None) -> list[Example]:
    text = row.text
    if row.source in ("hackaprompt", "garak", "giskard") and rng.random() < 0.8:
        text = _PWNED.sub(lambda _: rng.choice(_WORDS), text)
    known = row_labels(row)
    if row.source == "self_instruct_t0" and row.kind == "benign_document" and rng.random() < 0.5:
        text = _middle(text)
    pieces = windows_of(text)
    weight = 0.6 if row.doubtful or row.source in ("verazuo_jailbreaks", "jackhhao_jailbreak") else 1.0
    if row.label and len(pieces) > 2:
        if suspicion:
            pieces = sorted(pieces, key=suspicion, reverse=True)
        pieces, weight = pieces[:2], weight * 0.7
    elif len(pieces) > MAX_WINDOWS:
        pieces = rng.sample(pieces, MAX_WINDOWS)
    return [Example(vary(piece, rng) if rng.random() < 0.4 else piece, known, row.source, row.lang, row.kind, weight)
            for piece in pieces if len(piece.strip()) > 2]


def _by_source(shared: Shared) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in shared.rows:
        groups.setdefault((row.source, row.kind), []).append(row)
    return groups


def _middle(text: str) -> str:
    """A prompt with a document without its first and last fifth, where the user's own task stands."""
    fifth = len(text) // 5
    return text[fifth : len(text) - fifth].strip() or text


def summary(examples: Sequence[Example]) -> str:
    """Counts by group, for the log."""
    return ", ".join(f"{group} {count}" for group, count in Counter(e.group for e in examples).most_common())
