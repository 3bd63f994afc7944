"""Words of other languages as tokens of their own, each beginning with the vector of what it means in English.

The base vocabulary is English: it reads a German word in four pieces, an Arabic one letter by letter, and most Chinese signs
not at all. A word that the lexicon knows gets one token, and begins where its English counterpart stands (as Minixhofer et al.
2022, WECHSEL, with a dictionary in place of aligned vectors); signs of Chinese and kanji begin at the mean of the words that
they are written with. English text is cut as before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import Tensor

from detectors.train import lexicon
from detectors.train.base import base_folder

BASE: Final = 30_522
"""Tokens of the base vocabulary; those that it lacks stand behind them."""

SHORTEST: Final = 3
"""Letters below which a word in Latin script gets no token: it would stand in English words."""

JOINED: Final = frozenset({"ar"})
"""Languages that write articles and the like in one with the word, so that it is known behind another piece as well."""

SHORTEST_JOINED: Final = 4


def base() -> Tokenizer:
    """The base model's tokenizer, neither cutting nor padding."""
    made = Tokenizer.from_file(str(base_folder() / "tokenizer.json"))
    made.no_truncation()
    made.no_padding()
    return made


@cache
def added() -> Mapping[str, tuple[str, ...]]:
    """The tokens that the base vocabulary lacks, in the order of their ids, and the English words that each stands for."""
    tokenizer = base()
    known = tokenizer.get_vocab()
    english_like = {word[:end] for word in known if word.isascii() for end in range(1, len(word) + 1)}
    found: dict[str, dict[str, None]] = {}
    for language, forms, english in lexicon.entries():
        for pieces in (words(tokenizer, form) for form in forms):
            if len(pieces) > 1 and not all(map(_sign, pieces)):
                continue  # of a phrase in words no word stands for the whole
            for piece in pieces:
                if piece in english_like or piece in english or (piece.isascii() and len(piece) < SHORTEST):
                    continue
                joined = language in JOINED and len(piece) >= SHORTEST_JOINED
                for token in [piece, f"##{piece}"] if joined else [piece]:
                    if token not in known:
                        found.setdefault(token, {}).update(dict.fromkeys(english))
    return {token: tuple(english) for token, english in found.items()}


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words, or signs, of a text as the vocabulary spells them."""
    return [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))]


def tokenizer_json() -> str:
    """The tokenizer that ships: the base model's with the tokens that it lacks behind its own."""
    stored: dict[str, Any] = json.loads((base_folder() / "tokenizer.json").read_text("utf-8"))
    vocabulary = stored["model"]["vocab"]
    for token in added():
        vocabulary[token] = len(vocabulary)
    return json.dumps(stored, ensure_ascii=False)


def widened(vectors: Tensor) -> Tensor:
    """Word vectors (base vocabulary, width) and behind them those that `added` begin with, each as long as usual."""
    tokenizer, usual = base(), float(vectors.norm(dim=1).mean())

    def vector(english: Sequence[str]) -> Tensor:
        mean = torch.stack([vectors[tokenizer.encode(one, add_special_tokens=False).ids].mean(0) for one in english]).mean(0)
        return mean * (usual / mean.norm())

    return torch.cat([vectors, torch.stack([vector(english) for english in added().values()])])


def moved(vectors: Tensor, words: Mapping[str, int]) -> Tensor:
    """Word vectors of a tokenizer that has ``words``, by their rows, as rows of the one that ships."""
    made = widened(vectors[:BASE])
    for row, token in enumerate(added(), BASE):
        if token in words:
            made[row] = vectors[words[token]]
    return made


def _sign(piece: str) -> bool:
    """Whether a piece is one of those signs that the tokenizer takes one by one."""
    return len(piece) == 1 and "\u3400" <= piece <= "\u9fff"
