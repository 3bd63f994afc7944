"""The training set: rows of the data folder, cut to windows, and what the generators add. Whole sources can be held out."""

from __future__ import annotations

import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from detectors.semantic.windows import spans
from detectors.train.augment import vary
from detectors.train.generate import Example, Generator, Pools
from detectors.train.grammar import Grammar
from detectors.train.noise import SIGNS, doubtful_label
from detectors.train.sources import Row, labels, read_forbidden, read_rows, row_labels

PLAN: Final = {
    "attack": 8000, "twin": 8000, "framed": 6000, "foreign_attack": 6000, "foreign_twin": 6500, "planted": 10000,
    "document": 10000, "foreign_planted": 2500, "foreign_document": 2500, "trusted": 4500, "order": 2500,
}
"""Examples that the generators add to one set: as many harmless as hostile of each sort."""

CAPS: Final = {"benign": 500, "benign_hard": 1600, "benign_document": 1200, "pii": 400, "jailbreak": 2000,
               "direct_injection": 1000, "indirect_injection": 1000, "prompt_extraction": 1000}
"""Windows of one source and kind: no source may be learned by its size. Ordinary requests are soon learned and mostly
settled by the front stage; hard ones are worth more."""

MAX_WINDOWS: Final = 3
"""Windows taken of one benign text; long documents would drown the rest."""

GRAM: Final = 5
REPEATS: Final = 3
TELLING: Final = 4
"""Words of a phrase, attacks that it must stand in, and such phrases in a window that is taken for the planted one."""

_PWNED = re.compile(r"PWNED|pwned", re.ASCII)
_WORDS: Final = ("OK", "yes", "banana", "I agree", "moon", "DONE", "hello", "the answer is 4", "blue", "access granted")
_NOT_WORD = re.compile(r"[\W\d_]+")


@dataclass(frozen=True, slots=True)
class Shared:
    """The rows of the data folder, without near-duplicates, and forbidden requests with their sources."""

    rows: tuple[Row, ...]
    forbidden: tuple[tuple[str, str], ...]

    def without(self, sources: Collection[str]) -> Shared:
        return self._where(lambda source: source not in sources)

    def only(self, sources: Collection[str]) -> Shared:
        return self._where(lambda source: source in sources)

    def _where(self, kept: Callable[[str], bool]) -> Shared:
        return Shared(tuple(row for row in self.rows if kept(row.source)), tuple(f for f in self.forbidden if kept(f[1])))


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
    return Shared(tuple(kept), tuple(read_forbidden(folder)))


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
    forbidden = sorted({text for text, _ in shared.forbidden if 15 < len(text) < 200})
    return Pools(documents, orders, chat, forbidden or [Grammar().text("forbidden", rng) for _ in range(500)])


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
    for (source, kind), rows in _by_source(shared).items():
        cap = int(CAPS[kind] * scale)
        telling = _telling(rows, shared.rows) if source == "tasktracker" and rows[0].label else None
        rng.shuffle(rows)
        taken: list[Example] = []
        for row in rows:
            if len(taken) >= cap:
                break
            if doubtful_label(row):
                continue
            taken.extend(_examples(row, rng, suspicion, telling))
        examples.extend(taken[:cap])
    generator = Generator(Grammar(), pools(shared, seed), seed, held_out)
    examples.extend(generator.draw({kind: int(count * scale) for kind, count in PLAN.items()}))
    rng.shuffle(examples)
    return examples


def windows_of(text: str) -> list[str]:
    """The windows of a text, as serving cuts them."""
    return [text[start:end] for start, end in spans(text)]


def _examples(
    row: Row, rng: random.Random, suspicion: Callable[[str], float] | None, telling: Set[int] | None
) -> list[Example]:
    text = row.text
    if row.source in ("hackaprompt", "garak", "giskard") and rng.random() < 0.8:
        text = _PWNED.sub(lambda _: rng.choice(_WORDS), text)
    known = row_labels(row)
    if row.source == "self_instruct_t0" and row.kind == "benign_document" and rng.random() < 0.5:
        text = _middle(text)
    pieces = windows_of(text)
    weight = 0.6 if row.doubtful else 0.85 if row.source == "verazuo_jailbreaks" else 1.0
    if telling is not None:
        marked = [len(_grams(piece) & telling) >= TELLING for piece in pieces]
        plain = [piece for piece, found in zip(pieces, marked, strict=True) if not found]
        pieces = [piece for piece, found in zip(pieces, marked, strict=True) if found]
        rest = [Example(piece, labels(document=0.0, tool_result=0.0), row.source, row.lang, "benign_document")
                for piece in rng.sample(plain, min(1, len(plain)))] if pieces else []
        return rest + [Example(piece, known, row.source, row.lang, row.kind) for piece in pieces]
    if row.position in ("start", "end"):
        pieces = pieces[:1] if row.position == "start" else pieces[-1:]
    elif row.label and len(pieces) > 2:
        if suspicion:
            pieces = sorted(pieces, key=suspicion, reverse=True)
        if row.kind == "jailbreak":
            pieces = sorted(pieces, key=lambda piece: SIGNS.search(piece) is None)
        pieces, weight = pieces[:2], weight * 0.8
    elif len(pieces) > MAX_WINDOWS:
        pieces = rng.sample(pieces, MAX_WINDOWS)
    return [Example(vary(piece, rng) if rng.random() < 0.4 else piece, known, row.source, row.lang, row.kind, weight)
            for piece in pieces if len(piece.strip()) > 2]


def _grams(text: str) -> set[int]:
    words = text.lower().split()
    return {zlib.crc32(" ".join(words[at : at + GRAM]).encode()) for at in range(len(words) - GRAM + 1)}


def _telling(attacks: Sequence[Row], rows: Sequence[Row]) -> Set[int]:
    """Phrases that several attacks of a source share and no harmless text has: what was planted in its documents.

    Only so is it known which windows of a long document hold the planted order; the others are harmless.
    """
    counts = Counter(gram for row in attacks for gram in _grams(row.text))
    shared = {gram for gram, count in counts.items() if count >= REPEATS}
    for row in rows:
        if not row.label:
            shared -= _grams(row.text)
    return shared


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
