"""Lexical patterns mined from texts of one kind: the words that they share in order, and that harmless text does not.

A pattern is up to `MOST_WORDS` words in order with bounded gaps, so it compiles, is linear, and has a known longest match.
Pure. The search is greedy over word pairs, in the spirit of sequential pattern mining (Agrawal and Srikant, "Mining
sequential patterns", 1995), with the gap bounded from the start.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

LEAST_TEXTS: Final = 3
"""Fewer texts share words by chance."""

LEAST_SUPPORT: Final = 0.6
"""The share of the texts that the pattern must find."""

GAP_WORDS: Final = 6
"""Words between two of the pattern's. Longer gaps find unrelated sentences."""

GAP_CHARACTERS: Final = 60
MOST_WORDS: Final = 4
MOST_CHAINS: Final = 120
"""Chains looked at in each round, those of the rarest words first: they are found in few harmless texts, and fast."""

MOST_TEXTS: Final = 24
"""Texts that a pattern is mined from; more of one kind share the same words."""

LEAST_LETTERS: Final = 9
"""Letters that a pattern's words have together: ``to the`` is shared by all texts."""

RARE_SHARE: Final = 0.01
"""The share of harmless texts that may hold a word that tells something; a pattern has two. Of thousands of chains of common
words some are in none of five thousand texts by chance, and in the next one: "you … the … you … no" tells nothing. One rare
word is what people speak of, and whoever speaks of it is found, too: "this … merge", "curator … the"."""

_WORD = re.compile(r"[^\W_]+")


class Mined(NamedTuple):
    """A body for a regex pattern, the texts that it finds and those harmless ones that come nearest and are not found."""

    body: str
    hits: tuple[str, ...]
    misses: tuple[str, ...]


class Ordinary:
    """Harmless texts, ready to be asked which of them hold some words in order."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._words = [_words(text) for text in texts]
        self._holders: defaultdict[str, set[int]] = defaultdict(set)
        for number, words in enumerate(self._words):
            for word in set(words):
                self._holders[word].add(number)

    def count(self, word: str) -> int:
        """The texts that hold a word."""
        return len(self._holders.get(word, ()))

    def any(self, chain: Sequence[str]) -> bool:
        """Whether any text holds the words in order, each near the one before."""
        holders = [self._holders.get(word, set()) for word in chain]
        return any(_has(self._words[at], chain) for at in set.intersection(*holders))

    def nearest(self, chain: Sequence[str], count: int) -> tuple[str, ...]:
        """The texts with most of the words."""
        shared = Counter(number for word in set(chain) for number in self._holders.get(word, ()))
        chosen = [number for number, _ in sorted(shared.items(), key=lambda pair: (-pair[1], pair[0]))[:count]]
        return tuple(self.texts[number] for number in chosen or range(min(count, len(self.texts))))


def mine(texts: Sequence[str], ordinary: Ordinary) -> Mined | None:
    """The pattern that finds most of ``texts`` and none of the ordinary ones; None where there is none worth having."""
    texts = texts[:MOST_TEXTS]
    if len(texts) < LEAST_TEXTS:
        return None
    worded = [_words(text) for text in texts]
    least = max(LEAST_TEXTS, int(LEAST_SUPPORT * len(texts) + 0.999))
    pairs = {pair for pair, count in Counter(_pairs(worded)).items() if count >= least}
    chains: set[tuple[str, ...]] = set(pairs)
    best: tuple[float, tuple[str, ...]] | None = None
    for _ in range(MOST_WORDS - 1):
        grown: set[tuple[str, ...]] = set()
        for chain in sorted(chains, key=lambda chain: sum(map(ordinary.count, chain)))[:MOST_CHAINS]:
            support = sum(_has(words, chain) for words in worded)
            if support < least:
                continue
            telling = sum(ordinary.count(word) <= RARE_SHARE * len(ordinary.texts) for word in set(chain))
            if telling >= 2 and sum(map(len, chain)) >= LEAST_LETTERS and not ordinary.any(chain):
                rarity = sum(1 / (1 + ordinary.count(word)) for word in chain)
                rank = (support / len(texts) + 0.1 * rarity / len(chain) - 0.02 * len(chain), chain)
                best = rank if best is None else max(best, rank)
            else:  # too common yet: one word more may tell it from harmless text
                grown |= {(*chain, second) for first, second in pairs if first == chain[-1]}
        chains = grown
    if best is None:
        return None
    chain = best[1]
    body = r"\b" + rf"\b.{{1,{GAP_CHARACTERS}}}\b".join(re.escape(word) for word in chain) + r"\b"
    found = tuple(text for text, words in zip(texts, worded, strict=True) if _has(words, chain))
    return Mined(body, found, ordinary.nearest(chain, 3))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _pairs(worded: Iterable[list[str]]) -> Iterable[tuple[str, str]]:
    for words in worded:
        following = (words[at + 1 : at + 2 + GAP_WORDS] for at in range(len(words)))
        yield from {(first, second) for first, later in zip(words, following, strict=True) for second in later}


def _has(words: Sequence[str], chain: Sequence[str]) -> bool:
    """Whether the chain's words stand in order, each within `GAP_WORDS` of the one before."""
    ends = [at for at, word in enumerate(words) if word == chain[0]]
    for wanted in chain[1:]:
        ends = [at for at, word in enumerate(words) if word == wanted and any(0 < at - end <= GAP_WORDS + 1 for end in ends)]
        if not ends:
            return False
    return bool(ends)
