"""Whether a test text, nearly as it is, was there to learn from: in training text, or among the exemplars."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

SHINGLE: Final = 8
"""Words in a row that two texts share by copying, hardly by chance."""

SHARE: Final = 0.5
"""Share of a text's shingles that were seen, from which it is a near-duplicate."""

_WORD = re.compile(r"\w+")


def shingles(text: str) -> set[int]:
    """Hashes of all runs of `SHINGLE` words; of a shorter text, the whole."""
    words = _WORD.findall(text.lower())
    starts = range(max(1, len(words) - SHINGLE + 1)) if words else ()
    return {zlib.crc32(" ".join(words[at : at + SHINGLE]).encode("utf-8", "surrogatepass")) for at in starts}


def duplicates(tested: Sequence[str], learned: Iterable[str]) -> list[int]:
    """Which of ``tested`` are near-duplicates of something learned, by index."""
    seen: set[int] = set()
    for text in learned:
        seen |= shingles(text)
    found = []
    for number, text in enumerate(tested):
        own = shingles(text)
        if own and len(own & seen) >= SHARE * len(own):
            found.append(number)
    return found
