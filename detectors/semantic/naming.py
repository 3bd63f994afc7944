"""Names of clusters that a person understands: what kind of threat, in which words, in which languages. Pure.

The words are those that a cluster's most central texts say more often than texts of the same languages do: class-based TF-IDF
(Grootendorst, "BERTopic: Neural topic modeling with a class-based TF-IDF procedure", 2022) with the language's share in place
of the collection's, so that what is common in a language names nothing. They may be phrases of up to three words.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from textwrap import shorten
from typing import Final

from detectors.canonical import canonicalise
from detectors.semantic.stopwords import STOP_WORDS
from patterns.packs import Example

TERMS: Final = 4
"""Words or phrases in a name."""

CENTRAL: Final = 2 / 3
"""The share of a cluster's texts, the most central ones, whose words count: what lies at its edge belongs half to others."""

LEAST_TEXTS: Final = 3
LEAST_SHARE: Final = 0.05
"""A term is in so many of the central texts, and in this share of them."""

LEAST_WEIGHT: Final = 0.08
"""A term that weighs less tells the cluster from nothing."""

CLEAR: Final = 0.15
"""Where no term weighs so much, the texts have no words in common: the name says so, and how the most central one begins."""

QUOTED: Final = 50
"""Characters of that."""

PHRASE: Final = 0.35
"""What each further word of a phrase adds to its weight, or each further two characters where words are written without
spaces: "api key" says more than "key"."""

THREAT_SHARE: Final = 0.15
"""A kind of threat stands in the name where this share of the texts is of it; at most two do, else the category."""

LANGUAGE_SHARE: Final = 0.12
"""A language stands in the name where this share of the texts is in it, and English is not what most are in."""

LANGUAGES: Final = {
    "ar": "Arabic", "de": "German", "es": "Spanish", "fr": "French", "hi": "Hindi", "id": "Indonesian",
    "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese", "ru": "Russian",
    "sv": "Swedish", "tr": "Turkish", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip

_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_BREAK: Final = re.compile(r"[^\w\s'’-]+|\d+")
_LOOKALIKES: Final = r"[\u0370-\u052f]"
_MIXED: Final = re.compile(rf"[^\W\d_]*(?:[a-z]{_LOOKALIKES}|{_LOOKALIKES}[a-z])[^\W\d_]*", re.IGNORECASE)
_UNSPACED: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]+")  # written without spaces: any few characters may be a word
_UNSPACED_LENGTHS: Final = range(2, 9)


def names(groups: Sequence[Sequence[Example]]) -> list[str]:
    """A name for each group of texts, the most central first; no two are the same."""
    found = [[_terms(one.text) for one in group] for group in groups]
    common: defaultdict[str, Counter[str]] = defaultdict(Counter)
    sizes: Counter[str] = Counter()
    for group, terms in zip(groups, found, strict=True):
        for one, each in zip(group, terms, strict=True):
            common[one.language].update(each)
            sizes[one.language] += 1
    made: dict[str, None] = {}
    for group, terms in zip(groups, found, strict=True):
        central = max(LEAST_TEXTS, round(CENTRAL * len(group)))
        weights = _weights(group[:central], terms[:central], common, sizes)
        name = _name(group, _chosen(weights), max(weights.values(), default=0.0))
        same = sum(1 for other in made if other == name or other.startswith(f"{name} #"))
        made[f"{name} #{same + 1}" if same else name] = None
    return list(made)


def _weights(
    group: Sequence[Example], terms: Sequence[frozenset[str]], common: dict[str, Counter[str]], sizes: Counter[str]
) -> dict[str, float]:
    counts = Counter(term for each in terms for term in each)
    languages = Counter(one.language for one in group)
    weights = {}
    for term, count in counts.items():
        if count < max(min(LEAST_TEXTS, len(group)), LEAST_SHARE * len(group)):
            continue
        expected = sum(many * common[language][term] / sizes[language] for language, many in languages.items())
        weight = count / len(group) * math.log(count / expected) * (1 + PHRASE * _length(term))
        if weight >= LEAST_WEIGHT:
            weights[term] = weight
    return weights


def _chosen(weights: dict[str, float]) -> list[str]:
    """The weightiest terms that do not repeat each other; of those that weigh the same, the longest."""
    chosen: list[str] = []
    for term in sorted(weights, key=lambda term: (-round(weights[term], 6), -len(term), term)):
        parts = _parts(term)
        if not any(parts & _parts(other) or term in other or other in term for other in chosen):
            chosen.append(term)
        if len(chosen) == TERMS:
            break
    return chosen


def _parts(term: str) -> set[str]:
    """A term's words; where they are written without spaces, its pairs of characters."""
    return {term[at : at + 2] for at in range(len(term) - 1)} if _UNSPACED.match(term) else set(term.split())


def _length(term: str) -> float:
    """Words beyond the first, or pairs of characters."""
    return (len(term) - 2) / 2 if _UNSPACED.match(term) else term.count(" ")


def _name(group: Sequence[Example], terms: Sequence[str], weight: float) -> str:
    said = ", ".join(terms) if weight >= CLEAR else f"various, like “{shorten(group[0].text, QUOTED, placeholder=' …')}”"
    threats = _threats(Counter(one.threat for one in group if one.threat), len(group))
    languages = _languages(Counter(one.language for one in group), len(group))
    return (f"{threats}: " if threats else "") + said + (f" ({languages})" if languages else "")


def _threats(threats: Counter[str], size: int) -> str:
    def most(counts: Counter[str]) -> list[str]:
        shown = [name for name, count in counts.most_common(2) if count >= THREAT_SHARE * size]
        return [name.rpartition(".")[2].replace("_", " ") for name in shown]

    categories: Counter[str] = Counter()
    for threat, count in threats.items():
        categories[threat.partition(".")[0]] += count
    return " and ".join(most(threats) or most(categories))


def _languages(languages: Counter[str], size: int) -> str:
    if 2 * languages["en"] > size:
        return ""
    known = [LANGUAGES.get(code, "") for code, count in languages.most_common(3) if count >= LANGUAGE_SHARE * size]
    return ", ".join(known) if known and all(known) else "many languages"


def _terms(text: str) -> frozenset[str]:
    """The words of a text and its phrases of two and three, none of which begins or ends with a word that says nothing."""
    plain = _MIXED.sub(lambda word: canonicalise(word.group()).text, text).casefold()
    found: set[str] = set()
    for run in _BREAK.split(plain):
        words = _WORD.findall(_UNSPACED.sub(" ", run))
        for length in (1, 2, 3):
            for at in range(len(words) - length + 1):
                if _says(words[at]) and _says(words[at + length - 1]):
                    found.add(" ".join(words[at : at + length]))
        found.update(_pieces(_UNSPACED.findall(run)))
    return frozenset(found)


def _says(word: str) -> bool:
    return len(word) > 2 and word not in STOP_WORDS


def _pieces(runs: Iterable[str]) -> Iterable[str]:
    for run in runs:
        for length in _UNSPACED_LENGTHS:
            for at in range(len(run) - length + 1):
                yield run[at : at + length]
