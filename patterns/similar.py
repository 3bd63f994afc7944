"""Near-duplicates: texts that say nearly the same, found without comparing every pair. Pure.

A text is the set of its shingles, five characters in a row of its folded form, and two texts are as alike as the share of
shingles that they have in common. Compared are only texts that share some of their `SKETCH` least hashes, which likely do
where the texts are alike (Broder, "On the resemblance and containment of documents", 1997).
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from heapq import nsmallest
from typing import Final, NamedTuple

ALIKE: Final = 0.8
"""From this share on two texts are near-duplicates: one word of ten is another."""

SHINGLE: Final = 5
SKETCH: Final = 24

SHARED: Final = 4
"""Least hashes that two texts must share to be compared; of texts that are alike to `ALIKE` hardly a pair shares fewer."""


class Near(NamedTuple):
    """A text by its id, and how alike it is, 0..1."""

    id: str
    similarity: float


class Similar:
    """Texts by id, ready to be asked which of them are alike; for ten thousand that takes a second."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = dict(texts)
        self._holders: defaultdict[int, list[str]] = defaultdict(list)
        for id, text in self._texts.items():
            for mark in _sketch(shingles(text)):
                self._holders[mark].append(id)

    def near(self, text: str, least: float = ALIKE, without: str = "") -> list[Near]:
        """The texts that are alike to ``text`` by ``least`` or more, the most alike first; the one named ``without`` aside."""
        asked = shingles(text)
        sketch = _sketch(asked)
        shared = Counter(id for mark in sketch for id in self._holders.get(mark, ()))
        wanted = min(SHARED, len(sketch))
        found = [
            Near(id, round(similarity, 3)) for id, count in shared.items()
            if count >= wanted and id != without and (similarity := alike(asked, shingles(self._texts[id]))) >= least
        ]  # fmt: skip
        return sorted(found, key=lambda one: (-one.similarity, one.id))

    def groups(self, least: float = ALIKE) -> list[tuple[str, ...]]:
        """Texts that are near-duplicates of each other, directly or by way of others; each group sorted, largest first."""
        links: dict[str, list[str]] = {}
        for id, text in self._texts.items():
            if near := self.near(text, least, id):
                links[id] = [one.id for one in near]
        groups: list[tuple[str, ...]] = []
        seen: set[str] = set()
        for first in links:
            if first in seen:
                continue
            group, waiting = {first}, [first]
            while waiting:
                fresh = [id for id in links.get(waiting.pop(), ()) if id not in group]
                group.update(fresh)
                waiting += fresh
            seen |= group
            groups.append(tuple(sorted(group)))
        return sorted(groups, key=lambda group: (-len(group), group))


def shingles(text: str) -> frozenset[str]:
    """A text's shingles; of a short one, itself."""
    folded = " ".join(text.casefold().split())
    return frozenset(folded[at : at + SHINGLE] for at in range(max(1, len(folded) - SHINGLE + 1)))


def alike(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of shingles that both have, of those that either has (Jaccard)."""
    return len(one & other) / len(one | other)


def _sketch(marks: frozenset[str]) -> list[int]:
    return nsmallest(SKETCH, {zlib.crc32(mark.encode("utf-8", "surrogatepass")) for mark in marks})
