"""Does it look like English? Counted in letters that follow each other, and in common words."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

_STORED: Final[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data" / "english.json").read_text("ascii"))

COMMON: Final = frozenset(_STORED["words"].split())
"""Common words, in lower case."""

MAX_REMEMBERED: Final = 8_192
"""Words whose likeness is remembered: a text uses the same ones again and again."""

LIKELY: Final = 0.6
"""Bits for each pair of letters, on average, from which a text looks like English. Plain sentences have 0.9 to 1.6, what was
shifted or scrambled -2.5 to -0.5."""

_BITS: Final[dict[str, float]] = {
    first + second: bits / 10
    for first, row in zip(" abcdefghijklmnopqrstuvwxyz", _STORED["bigrams"], strict=True)
    for second, bits in zip(" abcdefghijklmnopqrstuvwxyz", row, strict=True)
}
_WORD = re.compile(r"[a-z]+")


@lru_cache(MAX_REMEMBERED)
def likeness(word: str) -> float:
    """Bits by which the letters of ``word`` (lower-case ASCII, no more) are likelier in an English word than at random."""
    padded = f" {word} "
    return sum([_BITS[padded[at : at + 2]] for at in range(len(word) + 1)])


def english(text: str) -> float:
    """The average likeness of a text's words for each pair of letters, in bits; -inf where it has none."""
    words = _WORD.findall(text.lower())
    pairs = sum(map(len, words)) + len(words)
    return sum(map(likeness, words)) / pairs if pairs else float("-inf")


def is_language(text: str) -> bool:
    """Whether it may be a language: it looks like English, or has letters that English has not."""
    return not text.isascii() or english(text) >= LIKELY


def known(text: str) -> float:
    """The share of a text's letters that stand in common words of three letters or more."""
    words = _WORD.findall(text.lower())
    letters = sum(map(len, words))
    return sum(len(word) for word in words if len(word) > 2 and word in COMMON) / letters if letters else 0.0
